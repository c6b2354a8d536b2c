# SPDX-License-Identifier: Apache-2.0
"""Centre head: a heat map per class and a regression per cell (Yin et al., "CenterPoint", CVPR 2021)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from peft_dml_ros.core.classes import ATTRIBUTES
from peft_dml_ros.core.spec import REGRESSION
from peft_dml_train.encoders.blocks import conv_bn

PRIOR_BIAS = -3.5
"""Logit of the heat map before training: objects are rare."""

VELOCITY_SCALE = 8.0
"""Speeds are some 8 m/s where all other columns are about 1: with equal steps of the weights they would learn last."""


class HeadOutput(NamedTuple):
    """Dense predictions.

    Attributes:
        heat: (B, classes, H, W) logits.
        regression: (B, 13, H, W), columns `REGRESSION`.
        attributes: (B, 8, H, W) logits.
    """

    heat: torch.Tensor
    regression: torch.Tensor
    attributes: torch.Tensor


class CenterHead(nn.Module):
    """Fused map to dense predictions."""

    def __init__(self, dim: int, width: int, classes: int) -> None:
        super().__init__()
        self.shared = conv_bn(dim, width)
        self.heat = nn.Sequential(conv_bn(width, width // 2), nn.Conv2d(width // 2, classes, 1))
        self.box = nn.Sequential(
            conv_bn(width, width // 2), nn.Conv2d(width // 2, len(REGRESSION) + len(ATTRIBUTES), 1)
        )
        scales = [VELOCITY_SCALE if name in {"vx", "vy"} else 1.0 for name in REGRESSION] + [1.0] * len(ATTRIBUTES)
        self.register_buffer("scales", torch.tensor(scales).view(1, -1, 1, 1), persistent=False)
        nn.init.constant_(self.heat[-1].bias, PRIOR_BIAS)

    def forward(self, fused: torch.Tensor) -> HeadOutput:
        """(B, d, H, W) to float32 predictions."""
        x = self.shared(fused)
        box = self.box(x).float() * self.scales
        return HeadOutput(self.heat(x).float(), box[:, : len(REGRESSION)], box[:, len(REGRESSION) :])
