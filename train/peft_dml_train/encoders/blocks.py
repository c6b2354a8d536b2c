# SPDX-License-Identifier: Apache-2.0
"""Convolution blocks that the bird's-eye-view encoders share."""

import torch
from torch import nn
from torch.nn import functional

EPS = 1e-3
MOMENTUM = 0.03


def conv_bn(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Build convolution, batch norm, ReLU; 'same' padding."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out, EPS, MOMENTUM),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and an identity path."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_bn(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels, EPS, MOMENTUM)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, C, H, W) to the same shape."""
        return functional.relu(x + self.second(self.first(x)))


def gather_rows(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return (B, M, C) rows of a table by index, per sample; the index after the last row stands for zeros.

    An embedding look-up rather than indexing: its gradient on a CPU is an order of magnitude faster, and it exports to
    one Gather.

    Args:
        table: (B, R, C) rows.
        index: (B, M) integers in [0, R]; R gathers zeros.
    """
    rows = int(table.shape[1])
    padded = functional.pad(table, (0, 0, 0, 1))
    if table.is_cuda:
        return _flat_rows(padded, index)
    return torch.stack([functional.embedding(i, t, padding_idx=rows) for i, t in zip(index, padded, strict=True)])


def _flat_rows(padded: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Look up the rows of all samples at once: on a GPU a scattered sum is the fast gradient, and launches cost."""
    first = torch.arange(len(padded), device=padded.device)[:, None] * padded.shape[1]
    return padded.flatten(0, 1).index_select(0, (index + first).flatten()).view(*index.shape, -1)


def upsample(x: torch.Tensor, factor: int = 2) -> torch.Tensor:
    """Return the nearest-neighbour enlargement: every runtime has it, and the convolution after it smooths."""
    return functional.interpolate(x, scale_factor=float(factor), mode="nearest")


class BevPyramid(nn.Module):
    """Backbone and neck on a bird's-eye-view map: down to 1/8 of the resolution and back.

    Most parameters sit at the coarse levels, where they cost little time.

    Args:
        channels_in: Channels of the input map.
        widths: Channels at full, 1/2, 1/4 and 1/8 resolution.
        depths: Residual blocks at each level.
        neck: Channels of the neck.
        channels_out: Channels of the result.
    """

    def __init__(
        self, channels_in: int, widths: tuple[int, ...], depths: tuple[int, ...], neck: int, channels_out: int
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        previous = channels_in
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            enter = conv_bn(previous, width, stride=2 if level else 1)
            self.levels.append(nn.Sequential(enter, *[ResidualBlock(width) for _ in range(depth)]))
            previous = width
        self.laterals = nn.ModuleList(nn.Conv2d(width, neck, 1) for width in widths[1:])
        self.merge = conv_bn(neck, channels_out)
        self.fine = nn.Conv2d(widths[0], channels_out, 1)
        self.out = conv_bn(channels_out, channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, channels_in, H, W) to (B, channels_out, H, W)."""
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        top = self.laterals[-1](features[-1])
        for lateral, feature in zip(reversed(self.laterals[:-1]), reversed(features[1:-1]), strict=True):
            top = upsample(top) + lateral(feature)
        out: torch.Tensor = self.out(functional.relu(upsample(self.merge(top)) + self.fine(features[0])))
        return out
