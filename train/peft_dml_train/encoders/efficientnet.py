# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 up to stride 16, with explicit padding, so that every runtime computes what ImageNet trained.

Tan and Le, "EfficientNet", ICML 2019; the Lite variants drop squeeze-excitation and use ReLU6, which quantises well.
"""

from copy import deepcopy
from typing import Final, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

EPS: Final = 1e-3
MOMENTUM: Final = 0.01
STEM: Final = 32
FINE_CHANNELS, COARSE_CHANNELS = 40, 112  #: Channels at strides 8 and 16
PIXEL_MEAN, PIXEL_SCALE = 127.0, 1 / 128.0


class Stage(NamedTuple):
    """Blocks that follow one another with one kernel and width."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES: Final = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, FINE_CHANNELS),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, COARSE_CHANNELS),
)
FINE_BLOCKS, FROZEN_BLOCKS = 5, 10  #: Blocks up to stride 8, and blocks that the adaptation leaves without adapters


class TrunkFeatures(NamedTuple):
    """What the frozen part of the trunk yields."""

    fine: torch.Tensor  #: (B, 40, H/8, W/8)
    cut: torch.Tensor  #: (B, 112, H/16, W/16)


def _padded(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Pad as TensorFlow's 'same' does for even sizes: at stride 2 the larger half lies behind."""
    total = kernel - stride
    return functional.pad(x, (total // 2, total - total // 2) * 2) if total else x


class PaddedConv(nn.Sequential):
    """Explicit padding, convolution, batch norm and, unless linear, ReLU6."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        layers = {
            "conv": nn.Conv2d(channels_in, channels_out, kernel, stride, groups=groups, bias=False),
            "norm": nn.BatchNorm2d(channels_out, EPS, MOMENTUM),
        }
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.kernel, self.stride, self.linear = kernel, stride, linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, channels_out, H / stride, W / stride)."""
        x = self.norm(self.conv(_padded(x, self.kernel, self.stride)))
        return x if self.linear else functional.relu6(x)


class InvertedResidual(nn.Module):
    """Point-wise expansion, depth-wise convolution, linear point-wise projection, identity path where shapes agree."""

    def __init__(self, channels_in: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = channels_in * stage.expansion
        self.expand = PaddedConv(channels_in, inner, 1) if stage.expansion > 1 else nn.Identity()
        self.depthwise = PaddedConv(inner, inner, stage.kernel, stride, groups=inner)
        self.project = PaddedConv(inner, stage.width, 1, linear=True)
        self.identity = stride == 1 and channels_in == stage.width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output; the input is added where the shapes agree."""
        y: torch.Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.identity else y


class LiteTrunk(nn.Module):
    """Features at strides 8 and 16 of uint8 pictures.

    All blocks but the last are frozen in every stage of training: `early` computes what can be cached per picture.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = PaddedConv(3, STEM, 3, 2)
        blocks, channels = [], STEM
        for stage in STAGES:
            for number in range(stage.repeats):
                blocks.append(InvertedResidual(channels, stage, 1 if number else stage.stride))
                channels = stage.width
        self.frozen, self.blocks = nn.ModuleList(blocks[:FROZEN_BLOCKS]), nn.ModuleList(blocks[FROZEN_BLOCKS:])

    def folded(self) -> "LiteTrunk":
        """Return a copy whose `early` has its batch norms folded into the convolutions: a third less time on a CPU."""
        # A new trunk would draw its weights, and a run that is resumed would draw other numbers from then on.
        copy = deepcopy(self).requires_grad_(requires_grad=False)
        copy.blocks = nn.ModuleList()
        for part in copy.eval().modules():
            if isinstance(part, PaddedConv):
                part.conv = fuse_conv_bn_eval(part.conv, part.norm)
                part.norm = nn.Identity()  # type: ignore[assignment]  # nothing is left of it
        return copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # as in Trainer

    def early(self, images: torch.Tensor) -> TrunkFeatures:
        """Compute the frozen part of (B, H, W, 3) uint8 RGB."""
        x = images.permute(0, 3, 1, 2).float().sub(PIXEL_MEAN).mul(PIXEL_SCALE)
        x = self.stem(x)
        fine = x
        for number, block in enumerate(self.frozen):
            x = block(x)
            fine = x if number == FINE_BLOCKS - 1 else fine
        return TrunkFeatures(fine, x)

    def forward(self, early: TrunkFeatures) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (B, 40, H/8, W/8) and (B, 112, H/16, W/16)."""
        x = early.cut
        for block in self.blocks:
            x = block(x)
        return early.fine, x
