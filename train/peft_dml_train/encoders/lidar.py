# SPDX-License-Identifier: Apache-2.0
"""LiDAR encoder: pillars on a fine grid, one strided convolution to the common grid, a pyramid there."""

from __future__ import annotations

import torch
from torch import nn

from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.config import BevConfig
from peft_dml_train.encoders.blocks import BevPyramid, conv_bn
from peft_dml_train.encoders.pillars import PillarMap

SCALES = (0.02, 0.02, 0.5, 2.0, 5.0, 5.0, 5.0, 2.0, 5.0, 5.0)
"""For x, y, z, intensity, age, offsets from the pillar's mean x, y, z and centre x, y."""


class LidarEncoder(nn.Module):
    """Pillars (B, P, N, 10) and index map (B, H·W) to a map (B, out, size, size)."""

    def __init__(self, spec: ModelSpec, config: BevConfig) -> None:
        super().__init__()
        if spec.lidar.pillar_grid != 2 * spec.grid.size:
            msg = f"the LiDAR's pillar grid is {spec.lidar.pillar_grid}; it must be twice the grid, {spec.grid.size}"
            raise ValueError(msg)
        self.pillars = PillarMap(SCALES, config.pillar, spec.lidar.pillar_grid)
        self.reduce = conv_bn(config.pillar, config.widths[0], stride=2)
        self.pyramid = BevPyramid(config.widths[0], config.widths, config.depths, config.neck, config.out)

    def forward(self, pillars: torch.Tensor, index_map: torch.Tensor) -> torch.Tensor:
        """Bird's-eye-view features in `base_link`."""
        return self.pyramid(self.reduce(self.pillars(pillars, index_map)))
