# SPDX-License-Identifier: Apache-2.0
"""The end of the exported graph: peaks of the heat map and what the head says there."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch.nn import functional

from peft_dml_ros.core.boxes import nms_radius_m
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.head.center import BoxValues

BoxesAt: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], BoxValues]


class Candidates(NamedTuple):
    """Top-K peaks, best first; shapes as in `core.spec.graph_outputs`."""

    scores: torch.Tensor  #: (K,) probabilities
    labels: torch.Tensor  #: (K,) int32 classes
    cells: torch.Tensor  #: (K,) int32, row · size + column
    regression: torch.Tensor  #: (K, 15)
    attributes: torch.Tensor  #: (K, 8) logits


def finer_than_grid(spec: ModelSpec) -> torch.Tensor:
    """Return (1, classes, 1, 1) float32, 1 for classes that may stand nearer to each other than a cell is wide.

    Two people or two parked motorcycles often lie in neighbouring cells. The window would take one of each such pair,
    so these classes keep every cell and leave it to the suppression by decoded centres (TransFusion's rule for
    pedestrians and cones: Bai et al., CVPR 2022).
    """
    finer = [float(nms_radius_m(name) < spec.grid.cell_m) for name in spec.classes]
    return torch.tensor(finer).view(1, -1, 1, 1)


def top_candidates(heat: torch.Tensor, boxes_at: BoxesAt, spec: ModelSpec) -> Candidates:
    """Pick the best cells of one sample: those with no higher neighbour of their class in a 3 × 3 window.

    Classes of `finer_than_grid` are not thinned by the window.

    Args:
        heat: (1, classes, H, W) logits.
        boxes_at: Computes boxes of samples, cells and labels, each (K,).
        spec: Number of candidates, classes.
    """
    probability = heat[:1].sigmoid()
    peak = functional.max_pool2d(probability, 3, 1, 1)
    # Products with a comparison instead of `where`: every runtime has them.
    kept = probability * torch.maximum((probability >= peak).to(heat.dtype), finer_than_grid(spec).to(heat))
    size = heat.shape[2] * heat.shape[3]
    scores, flat = kept.reshape(-1).topk(spec.candidates)
    index = flat.to(torch.int32)
    labels = torch.div(index, size, rounding_mode="trunc")
    cells = index - labels * size
    boxes = boxes_at(torch.zeros_like(cells), cells, labels)
    return Candidates(scores, labels, cells, boxes.regression, boxes.attributes)
