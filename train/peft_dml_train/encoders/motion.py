# SPDX-License-Identifier: Apache-2.0
"""Encoders of short motion windows: IMU samples and satellite fixes to one token each."""

import torch
from torch import nn

from peft_dml_ros.core.spec import ModelSpec


class ImuEncoder(nn.Module):
    """Inertial window (B, steps, 7) to a feature (B, width): strided convolutions over time, then a linear layer."""

    def __init__(self, spec: ModelSpec, width: int) -> None:
        super().__init__()
        self.time = nn.Sequential(
            nn.Conv1d(spec.imu.features, width, 5, 2, 2),
            nn.ReLU(inplace=True),
            nn.Conv1d(width, width, 5, 2, 2),
            nn.ReLU(inplace=True),
        )
        self.mix = nn.Sequential(nn.Linear(width * (spec.imu.steps // 4), width), nn.ReLU(inplace=True))

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """Return one feature per sample."""
        feature: torch.Tensor = self.mix(self.time(window.transpose(1, 2)).flatten(1))
        return feature


class GnssEncoder(nn.Module):
    """Relative fixes (B, steps, 6) to a feature (B, width)."""

    def __init__(self, spec: ModelSpec, width: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Linear(spec.gnss.steps * spec.gnss.features, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width),
            nn.ReLU(inplace=True),
        )

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """Return one feature per sample."""
        feature: torch.Tensor = self.mix(window.flatten(1))
        return feature
