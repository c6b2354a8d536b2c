# SPDX-License-Identifier: Apache-2.0
"""The end of the exported graph: peaks of the heat map and what the head says there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional

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


def top_candidates(output: HeadOutput, count: int) -> Candidates:
    """Peaks of one sample: a cell survives where no neighbour of its 3 × 3 window is higher in the same class."""
    heat = output.heat[:1].sigmoid()
    peak = functional.max_pool2d(heat, 3, 1, 1)
    # A product with a comparison instead of `where`: every runtime has it.
    kept = heat * (heat >= peak).to(heat.dtype)
    size = heat.shape[2] * heat.shape[3]
    scores, flat = kept.reshape(-1).topk(count)
    index = flat.to(torch.int32)
    labels = torch.div(index, size, rounding_mode="trunc")
    cells = index - labels * size
    regression = output.regression[0].flatten(1).t()
    attributes = output.attributes[0].flatten(1).t()
    rows = torch.cat([regression, attributes], dim=1).index_select(0, cells)
    return Candidates(scores, labels, cells, rows[:, : regression.shape[1]], rows[:, regression.shape[1] :])
