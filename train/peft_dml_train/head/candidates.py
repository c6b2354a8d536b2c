# SPDX-License-Identifier: Apache-2.0
"""The end of the exported graph: peaks of the heat map and what the head says there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional

from peft_dml_ros.core.boxes import nms_radius_m
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.head.center import HeadOutput


class Candidates(NamedTuple):
    """Top-K peaks, best first; shapes as in `core.spec.graph_outputs`.

    Attributes:
        scores: (K,) probabilities.
        labels: (K,) int32 classes.
        cells: (K,) int32, row · size + column.
        regression: (K, 13).
        attributes: (K, 8) logits.
    """

    scores: torch.Tensor
    labels: torch.Tensor
    cells: torch.Tensor
    regression: torch.Tensor
    attributes: torch.Tensor


def finer_than_grid(spec: ModelSpec) -> torch.Tensor:
    """(1, classes, 1, 1) float32, 1 for classes that may stand nearer to each other than a cell is wide.

    Two people or two parked motorcycles often lie in neighbouring cells. The window would take one of each such pair,
    so these classes keep every cell and leave it to the suppression by decoded centres (TransFusion's rule for
    pedestrians and cones: Bai et al., CVPR 2022).
    """
    finer = [float(nms_radius_m(name) < spec.grid.cell_m) for name in spec.classes]
    return torch.tensor(finer).view(1, -1, 1, 1)


def top_candidates(output: HeadOutput, spec: ModelSpec) -> Candidates:
    """Best cells of one sample: those with no higher neighbour of their class in a 3 × 3 window.

    Classes of `finer_than_grid` are not thinned by the window.
    """
    heat = output.heat[:1].sigmoid()
    peak = functional.max_pool2d(heat, 3, 1, 1)
    # Products with a comparison instead of `where`: every runtime has them.
    kept = heat * torch.maximum((heat >= peak).to(heat.dtype), finer_than_grid(spec).to(heat))
    size = heat.shape[2] * heat.shape[3]
    scores, flat = kept.reshape(-1).topk(spec.candidates)
    index = flat.to(torch.int32)
    labels = torch.div(index, size, rounding_mode="trunc")
    cells = index - labels * size
    regression = output.regression[0].flatten(1).t()
    attributes = output.attributes[0].flatten(1).t()
    rows = torch.cat([regression, attributes], dim=1).index_select(0, cells)
    return Candidates(scores, labels, cells, rows[:, : regression.shape[1]], rows[:, regression.shape[1] :])
