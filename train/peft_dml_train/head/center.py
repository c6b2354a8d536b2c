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


TYPICAL = {"z": 0.8, "log_length": 1.2, "log_width": 0.5, "log_height": 0.5}
"""What regression columns say before training, so that the first steps are not spent on getting there."""


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
    """Fused map to dense predictions: a linear read-out, and a convolutional branch on top of it.

    The read-out gives the encoders a short path to every column. Through the branch alone, headings and velocities are
    hardly learnt: eight frames that a linear read-out of the encoders fits in 80 steps stay unlearnt.
    """

    def __init__(self, dim: int, width: int, classes: int) -> None:
        super().__init__()
        columns = len(REGRESSION) + len(ATTRIBUTES)
        self.classes = classes
        self.direct = nn.Conv2d(dim, classes + columns, 1)
        self.shared = conv_bn(dim, width)
        self.heat = nn.Sequential(conv_bn(width, width // 2), nn.Conv2d(width // 2, classes, 1))
        self.box = nn.Sequential(conv_bn(width, width // 2), nn.Conv2d(width // 2, columns, 1))
        scales = [VELOCITY_SCALE if name in {"vx", "vy"} else 1.0 for name in REGRESSION] + [1.0] * len(ATTRIBUTES)
        self.register_buffer("scales", torch.tensor(scales).view(1, -1, 1, 1), persistent=False)
        for branch in (self.heat, self.box):
            nn.init.zeros_(branch[-1].weight)
            nn.init.zeros_(branch[-1].bias)
        start = [PRIOR_BIAS] * classes + [TYPICAL.get(name, 0.0) for name in REGRESSION] + [0.0] * len(ATTRIBUTES)
        with torch.no_grad():
            self.direct.bias.copy_(torch.tensor(start))

    def forward(self, fused: torch.Tensor) -> HeadOutput:
        """(B, d, H, W) to float32 predictions."""
        x, direct = self.shared(fused), self.direct(fused).float()
        box = (direct[:, self.classes :] + self.box(x).float()) * self.scales
        heat = direct[:, : self.classes] + self.heat(x).float()
        return HeadOutput(heat, box[:, : len(REGRESSION)], box[:, len(REGRESSION) :])
