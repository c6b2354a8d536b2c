# SPDX-License-Identifier: Apache-2.0
"""LiDAR encoder: pillars on a fine grid, and a pyramid that ends on the common grid."""

import torch
from torch import nn

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.config import BevConfig
from peft_dml_train.encoders.blocks import BevPyramid, conv_bn
from peft_dml_train.encoders.pillars import PillarMap
from peft_dml_train.encoders.second import SecondPyramid

#: For x, y, z, intensity, age, offsets from the pillar's mean x, y, z and centre x, y
SCALES = (0.02, 0.02, 0.5, 2.0, 5.0, 5.0, 5.0, 2.0, 5.0, 5.0)


class LidarEncoder(nn.Module):
    """Pillars (B, P, N, 10) and index map (B, H·W) to a map (B, out, size, size).

    With the `second` body the convolutions see the map as public networks do, in the axes of nuScenes' LiDAR (x right,
    y ahead): a quarter turn of the index map on the way in, and one of the result on the way out.
    """

    def __init__(self, spec: ModelSpec, config: BevConfig) -> None:
        super().__init__()
        fine, size = spec.lidar.pillar_grid, spec.grid.size
        self.grid, self.turned = fine, config.body == "second"
        self.pillars = PillarMap(SCALES, config.pillar, fine, config.pillar_hidden, floor=self.turned)
        if self.turned:
            if config.out != config.neck * len(config.widths):
                msg = f"network.lidar.out is {config.out}; fix: with the second body neck x levels"
                raise ConfigError(f"{msg}, {config.neck * len(config.widths)}")
            self.reduce: nn.Module = nn.Identity()
            self.pyramid: nn.Module = SecondPyramid(
                config.pillar, config.widths, config.depths, config.neck, fine // size
            )
        else:
            if fine != 2 * size:
                raise ConfigError(f"the LiDAR's pillar grid is {fine}; fix: twice the grid, {size}")
            self.reduce = conv_bn(config.pillar, config.widths[0], stride=2)
            self.pyramid = BevPyramid(config.widths[0], config.widths, config.depths, config.neck, config.out)

    def forward(self, pillars: torch.Tensor, index_map: torch.Tensor) -> torch.Tensor:
        """Return the bird's-eye-view features in `base_link`."""
        if not self.turned:
            features: torch.Tensor = self.pyramid(self.reduce(self.pillars(pillars, index_map)))
            return features
        index = index_map.view(-1, self.grid, self.grid).transpose(1, 2).flip(2).flatten(1)
        turned: torch.Tensor = self.pyramid(self.pillars(pillars, index))
        return turned.flip(3).transpose(2, 3)
