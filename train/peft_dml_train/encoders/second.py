# SPDX-License-Identifier: Apache-2.0
"""Backbone and neck with the layer shapes of the public CenterPoint-pillar network, so that its weights fit.

Yan et al., "SECOND", Sensors 2018; Yin et al., "CenterPoint", CVPR 2021: plain 3×3 convolutions at 1/2, 1/4, 1/8 of the
pillar grid, each level brought to the common grid, all levels side by side.
"""

import torch
from torch import nn

from peft_dml_ros.core.errors import ConfigError
from peft_dml_train.encoders.blocks import EPS, MOMENTUM, conv_bn


def _resample(channels_in: int, channels_out: int, down: int, up: int) -> nn.Sequential:
    """Return one of the neck's three ways to the common grid: a strided, a 1×1, or a transposed convolution."""
    layer: nn.Module = (
        nn.ConvTranspose2d(channels_in, channels_out, up, up, bias=False)
        if up > 1
        else nn.Conv2d(channels_in, channels_out, down, down, bias=False)
    )
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out, EPS, MOMENTUM), nn.ReLU(inplace=True))


class SecondPyramid(nn.Module):
    """Pillar map to features on the common grid.

    Args:
        channels_in: Channels of a pillar.
        widths: Channels at 1/2, 1/4, 1/8 ... of the pillar grid.
        depths: Convolutions after the strided one at each level.
        neck: Channels that each level contributes.
        shrink: Pillar grid over common grid, per side: a power of two.
    """

    def __init__(
        self, channels_in: int, widths: tuple[int, ...], depths: tuple[int, ...], neck: int, shrink: int
    ) -> None:
        super().__init__()
        if shrink & (shrink - 1):
            raise ConfigError(f"the LiDAR's pillar grid is {shrink} x the common grid; fix: take a power of two")
        self.levels, self.ups = nn.ModuleList(), nn.ModuleList()
        previous = channels_in
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            enter = conv_bn(previous, width, stride=2)
            self.levels.append(nn.Sequential(enter, *[conv_bn(width, width) for _ in range(depth)]))
            stride = 2 ** (level + 1)
            self.ups.append(_resample(width, neck, max(shrink // stride, 1), max(stride // shrink, 1)))
            previous = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, channels_in, G, G) to (B, neck · levels, size, size)."""
        found = []
        for level, up in zip(self.levels, self.ups, strict=True):
            x = level(x)
            found.append(up(x))
        return torch.cat(found, dim=1)
