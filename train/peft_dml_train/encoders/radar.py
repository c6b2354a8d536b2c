# SPDX-License-Identifier: Apache-2.0
"""Radar encoder: pillars on the common grid and a small pyramid."""

import torch
from torch import nn

from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.config import BevConfig
from peft_dml_train.encoders.blocks import BevPyramid
from peft_dml_train.encoders.pillars import PillarMap

#: For x, y, RCS, compensated velocity x, y, age, offsets from the pillar's centre x, y
SCALES = (0.02, 0.02, 1.0, 3.0, 3.0, 3.0, 2.5, 2.5)


class RadarEncoder(nn.Module):
    """Pillars (B, P, N, 8) and index map (B, size²) to a map (B, out, size, size)."""

    def __init__(self, spec: ModelSpec, config: BevConfig) -> None:
        super().__init__()
        self.pillars = PillarMap(SCALES, config.pillar, spec.grid.size)
        self.pyramid = BevPyramid(config.pillar, config.widths, config.depths, config.neck, config.out)

    def forward(self, pillars: torch.Tensor, index_map: torch.Tensor) -> torch.Tensor:
        """Return the bird's-eye-view features in `base_link`."""
        features: torch.Tensor = self.pyramid(self.pillars(pillars, index_map))
        return features
