# SPDX-License-Identifier: Apache-2.0
"""Learned pillar features, laid out on a bird's-eye-view grid by an index map."""

import torch
from torch import nn
from torch.nn import functional

from peft_dml_train.encoders.blocks import EPS, MOMENTUM, gather_rows


class PillarMap(nn.Module):
    """Points of each pillar to one feature (linear, batch norm, maximum, ReLU), then pillars to cells.

    Spare rows of a pillar repeat one of its points, so a plain maximum is right. Cells without a pillar are zero.

    Args:
        scales: One factor per feature. They bring all features to about the same size: next to coordinates of 50 m,
            ages of 0.1 s and velocities would otherwise not be seen, and with them no direction of travel.
        channels: Of the result.
        grid: Cells per side.
        hidden: Channels of a first layer, whose maximum over the pillar is appended to each point; 0 for none.
        floor: Hold the maximum above a level per channel. Public networks let the empty rows of a pillar into the
            maximum, which comes to the same; zero, a plain ReLU, until such weights are imported.
    """

    scales: torch.Tensor
    floor: torch.Tensor | None

    def __init__(
        self, scales: tuple[float, ...], channels: int, grid: int, hidden: int = 0, *, floor: bool = False
    ) -> None:
        super().__init__()
        self.grid = grid
        self.register_buffer("scales", torch.tensor(scales), persistent=False)
        self.register_buffer("floor", torch.zeros(channels) if floor else None)
        self.first = _point_layer(len(scales), hidden) if hidden else None
        self.linear = nn.Linear(2 * hidden or len(scales), channels, bias=False)
        self.norm = nn.BatchNorm1d(channels, EPS, MOMENTUM)

    def forward(self, pillars: torch.Tensor, index_map: torch.Tensor) -> torch.Tensor:
        """Scatter by look-up into a (B, C, grid, grid) map.

        Args:
            pillars: (B, P, N, F) point features.
            index_map: (B, grid²) pillar of each cell, P where empty.
        """
        batch, count, points, features = pillars.shape
        x = pillars.reshape(-1, features) * self.scales
        if self.first is not None:
            each = self.first(x).view(batch, count, points, -1)
            whole = each.amax(dim=2, keepdim=True).expand_as(each)
            x = torch.cat([each, whole], dim=3).view(batch * count * points, -1)
        x = self.norm(self.linear(x)).view(batch, count, points, -1).amax(dim=2)
        x = functional.relu(x) if self.floor is None else torch.maximum(x, self.floor.to(x.dtype))
        cells = gather_rows(x, index_map)
        return cells.view(batch, self.grid, self.grid, -1).permute(0, 3, 1, 2)


def _point_layer(features: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, channels, bias=False), nn.BatchNorm1d(channels, EPS, MOMENTUM), nn.ReLU(inplace=True)
    )
