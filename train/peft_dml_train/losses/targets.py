# SPDX-License-Identifier: Apache-2.0
"""Boxes to training targets: a Gaussian per object on its class's heat map, and regression values around its centre."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import TypeAlias

import numpy as np
import torch

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import AnyArray

MIN_RADIUS = 2
MIN_OVERLAP = 0.1
VALUES = 12
"""Regression columns with a target: dx, dy, z, log l, log w, log h, sin 2θ, cos 2θ, heading x and y, vx, vy."""

Row: TypeAlias = tuple[int, int, AnyArray, float, int, int, bool]


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets of a batch; M entries are cells around object centres, each cell at most once."""

    heat: torch.Tensor  #: (B, classes, H, W) float32
    sample: torch.Tensor  #: (M,) int64 row of the batch
    cell: torch.Tensor  #: (M,) int64 flat cell
    values: torch.Tensor  #: (M, 12) float32; NaN where unknown; the heading is a unit vector
    weight: torch.Tensor  #: (M,) float32, 1 at the centre, less around it
    attribute: torch.Tensor  #: (M,) int64, -1 for none
    label: torch.Tensor  #: (M,) int64
    central: torch.Tensor  #: (M,) bool, the cell that holds the centre

    def only(self, taught: torch.Tensor | None) -> "Targets":
        """Return the targets without boxes and attributes of what a sample does not teach.

        Args:
            taught: (B, classes) bool from `withheld.learnt`; none where everything is taught.
        """
        if taught is None:
            return self
        kept = taught[self.sample, self.label]
        return replace(self, weight=self.weight * kept, attribute=self.attribute.where(kept, -1))

    def to(self, device: torch.device | str) -> "Targets":
        """Return the targets on another device."""
        return self.map(lambda x: x.to(device))

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Targets":
        """Return the targets with every tensor changed."""
        return Targets(*(change(getattr(self, f.name)) for f in fields(self)))


def gaussian_radius(length: float, width: float, min_overlap: float = MIN_OVERLAP) -> float:
    """Return radius within which a shifted box still overlaps, in the units of its size.

    The formula of CornerNet as every implementation keeps it: it adds the root in all three cases, which is not the
    solution of the quadratic in two of them, but is what published results were trained with.
    """
    b1 = length + width
    c1 = width * length * (1 - min_overlap) / (1 + min_overlap)
    r1 = (b1 + np.sqrt(b1**2 - 4 * c1)) / 2
    b2 = 2 * (length + width)
    c2 = (1 - min_overlap) * width * length
    r2 = (b2 + np.sqrt(b2**2 - 16 * c2)) / 2
    a3, b3 = 4 * min_overlap, -2 * min_overlap * (length + width)
    c3 = (min_overlap - 1) * width * length
    r3 = (b3 + np.sqrt(b3**2 - 4 * a3 * c3)) / 2
    return float(min(r1, r2, r3))


def _draw(heat: AnyArray, row: int, column: int, radius: int) -> None:
    size = heat.shape[0]
    sigma = (2 * radius + 1) / 6
    top, bottom = max(row - radius, 0), min(row + radius + 1, size)
    left, right = max(column - radius, 0), min(column + radius + 1, size)
    y, x = np.ogrid[top - row : bottom - row, left - column : right - column]
    patch = heat[top:bottom, left:right]
    np.maximum(patch, np.exp(-(x * x + y * y) / (2 * sigma * sigma)), out=patch)


def make_targets(boxes: list[Boxes3D], spec: ModelSpec) -> Targets:
    """Return targets of a batch of truth boxes in `base_link`."""
    size, cell_m, half = spec.grid.size, spec.grid.cell_m, spec.grid.half_range_m
    heat = np.zeros((len(boxes), len(spec.classes), size, size), dtype=np.float32)
    # A cell between two objects describes the nearer one: both at once would teach it neither.
    nearest: dict[tuple[int, int], tuple[float, Row]] = {}
    for sample, truth in enumerate(boxes):
        xy = (truth.centers_m[:, :2] + half) / cell_m
        sizes = np.log(np.maximum(truth.sizes_m, 1e-2))
        for i in range(len(truth)):
            column, row = (int(v) for v in np.floor(xy[i]))
            if not (0 <= row < size and 0 <= column < size):
                continue
            label = int(truth.labels[i])
            radius = max(MIN_RADIUS, int(gaussian_radius(truth.sizes_m[i, 0] / cell_m, truth.sizes_m[i, 1] / cell_m)))
            _draw(heat[sample, label], row, column, radius)
            yaw = truth.yaws_rad[i]
            axis = [np.sin(2 * yaw), np.cos(2 * yaw), np.cos(yaw), np.sin(yaw)]
            known = [truth.centers_m[i, 2:3], sizes[i], axis, truth.velocities_mps[i]]
            for dr, dc in product((-1, 0, 1), repeat=2):
                r, c = row + dr, column + dc
                if not (0 <= r < size and 0 <= c < size):
                    continue
                offset = xy[i] - (c + 0.5, r + 0.5)
                place, away = (sample, r * size + c), float(offset @ offset)
                if place not in nearest or away < nearest[place][0]:
                    weight = float(np.exp(-0.7 * (dr * dr + dc * dc)))
                    values = np.concatenate([offset, *known])
                    nearest[place] = away, (*place, values, weight, int(truth.attributes[i]), label, dr == dc == 0)
    rows = [entry for _, entry in nearest.values()]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    values = np.array(columns[2], dtype=np.float32).reshape(-1, VALUES)
    return Targets(
        torch.from_numpy(heat),
        torch.tensor(columns[0], dtype=torch.int64),
        torch.tensor(columns[1], dtype=torch.int64),
        torch.from_numpy(values),
        torch.tensor(columns[3], dtype=torch.float32),
        torch.tensor(columns[4], dtype=torch.int64),
        torch.tensor(columns[5], dtype=torch.int64),
        torch.tensor(columns[6], dtype=torch.bool),
    )
