# SPDX-License-Identifier: Apache-2.0
"""Metric alignment: one space for all modalities, in which objects of a class lie together whatever saw them.

Embeddings are pooled at object centres from each modality's latent map, never over a whole frame: one vector per sensor
could not tell several objects apart. Batch-hard triplets (Hermans et al., "In Defense of the Triplet Loss", 2017).
"""

from __future__ import annotations

import torch
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner

from peft_dml_ros.core.classes import CLASSES, DETECTING, MODALITIES
from peft_dml_train.losses.targets import Targets

MOST = 48
"""Objects, and as many empty cells, that one batch contributes."""


class AlignmentLoss:
    """Triplets over modalities: anchor, positive and negative may come from different sensors."""

    def __init__(self, margin: float) -> None:
        self.miner = BatchHardMiner()
        self.loss = TripletMarginLoss(margin=margin)

    def __call__(self, latents: dict[str, torch.Tensor], mask: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Loss of a batch.

        Args:
            latents: (B, d, H, W) unit vectors of LiDAR, camera and radar.
            mask: (B, 5) availability.
            targets: Objects; empty ground is a class of its own.
        """
        centres = targets.central.nonzero()[:, 0]
        zero = sum(latents[m].sum() for m in DETECTING) * 0.0
        if len(centres) < 2:
            return zero
        centres = centres[torch.randperm(len(centres))[:MOST]]
        empty = (targets.heat.amax(dim=1).flatten(1) < 0.01).nonzero()
        empty = empty[torch.randint(len(empty), (min(MOST // 2, len(empty)),))]
        sample = torch.cat([targets.sample[centres], empty[:, 0]])
        cell = torch.cat([targets.cell[centres], empty[:, 1]])
        label = torch.cat([targets.label[centres], torch.full((len(empty),), len(CLASSES))])
        embeddings, labels = [], []
        for m in DETECTING:
            seen = mask[sample, MODALITIES.index(m)] > 0
            embeddings.append(latents[m].flatten(2)[sample[seen], :, cell[seen]])
            labels.append(label[seen])
        joined, classes = torch.cat(embeddings), torch.cat(labels)
        if len(joined) < 3 or len(classes.unique()) < 2:
            return zero
        return self.loss(joined, classes, self.miner(joined, classes))
