# SPDX-License-Identifier: Apache-2.0
"""Metric alignment: one space for all modalities, in which an object lies by its like whatever sensor saw it.

Embeddings are pooled at object centres from each modality's latent map, never over a whole frame: one vector per sensor
could not tell several objects apart. Batch-hard triplets (Hermans et al., "In Defense of the Triplet Loss", 2017), once
with the class as label and once with the instance: there the same object seen by two sensors is the positive, and other
objects of its class are negatives like all others, at a smaller margin.

Batch-hard triplets that weigh much find the trivial solution, all vectors alike, at a loss of the margin: on the small
recipe, weight 1, the cosine of any two objects was .93. Supervised contrast does not, and is the other choice.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pytorch_metric_learning.losses import SupConLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner

from peft_dml_ros.core.classes import CLASSES, DETECTING, MODALITIES
from peft_dml_train.data.withheld import Pair
from peft_dml_train.losses.targets import Targets

MOST = 48
"""Objects that one batch contributes; empty cells are half as many."""
UNNAMED = -1
"""Label of what must not be told."""


class Embeddings(NamedTuple):
    """Latents at object centres and on empty ground.

    Attributes:
        vectors: (N, d) unit vectors.
        label: (N,) class; empty ground is a class of its own, `UNNAMED` what must not be told.
        instance: (N,) number of the object; each piece of empty ground has its own.
    """

    vectors: torch.Tensor
    label: torch.Tensor
    instance: torch.Tensor


def embed(
    latents: dict[str, torch.Tensor], mask: torch.Tensor, targets: Targets, withheld: tuple[Pair, ...] = ()
) -> Embeddings:
    """Embeddings of a batch's objects, one for each modality that a sample holds.

    Args:
        latents: (B, d, H, W) unit vectors of LiDAR, camera and radar.
        mask: (B, 5) availability.
        targets: Objects.
        withheld: Modalities and classes whose embeddings bear no label.
    """
    device = mask.device
    centres = targets.central.nonzero()[:, 0]
    centres = centres[torch.randperm(len(centres)).to(device)[:MOST]]
    empty = (targets.heat.amax(dim=1).flatten(1) < 0.01).nonzero()
    empty = empty[torch.randint(max(len(empty), 1), (min(MOST // 2, len(empty)),)).to(device)]
    sample = torch.cat([targets.sample[centres], empty[:, 0]])
    cell = torch.cat([targets.cell[centres], empty[:, 1]])
    label = torch.cat([targets.label[centres], torch.full((len(empty),), len(CLASSES), device=device)])
    number = torch.arange(len(sample), device=device)
    vectors, labels, numbers = [], [], []
    for m in DETECTING:
        seen = mask[sample, MODALITIES.index(m)] > 0
        vectors.append(latents[m].flatten(2)[sample[seen], :, cell[seen]])
        hidden = torch.tensor([pair.label for pair in withheld if pair.modality == m], device=device)
        labels.append(label[seen].masked_fill(torch.isin(label[seen], hidden), UNNAMED))
        numbers.append(number[seen])
    return Embeddings(torch.cat(vectors), torch.cat(labels), torch.cat(numbers))


class AlignmentLoss:
    """Triplets, or contrast, over modalities: anchor, positive and negative may come from different sensors.

    Args:
        margin: Of the triplets.
        temperature: Of supervised contrast (Khosla et al., 2020) instead of triplets; none for triplets.
    """

    def __init__(self, margin: float, temperature: float | None = None) -> None:
        self.miner = BatchHardMiner() if temperature is None else None
        self.loss = TripletMarginLoss(margin=margin) if temperature is None else SupConLoss(temperature=temperature)

    def __call__(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of embeddings (N, d) with labels (N,); 0 where they form no triplet."""
        if len(vectors) < 3 or len(labels.unique()) < 2:
            return vectors.sum() * 0.0
        return self.loss(vectors, labels, self.miner(vectors, labels) if self.miner else None)
