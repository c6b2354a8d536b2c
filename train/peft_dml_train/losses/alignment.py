# SPDX-License-Identifier: Apache-2.0
"""Metric alignment: one space for all modalities, in which an object lies by its like whatever sensor saw it.

Embeddings are pooled at object centres from each modality's latent map, never over a whole frame: one vector per sensor
could not tell several objects apart. Supervised contrast (Khosla et al., 2020), once with the class as label and once
with the instance: there the same object seen by two sensors is the positive, and all other objects, those that a memory
keeps from earlier steps included (Wang et al., "Cross-Batch Memory", CVPR 2020), are negatives.

Batch-hard triplets (Hermans et al., 2017) are the other choice; where they weigh much they find the trivial solution,
all vectors alike, at a loss of the margin: on the small recipe, weight 1, the cosine of any two objects was .93.
"""

from typing import NamedTuple

import torch
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner

from peft_dml_ros.core.classes import CLASSES, DETECTING, MODALITIES
from peft_dml_train.data.withheld import WithheldPair
from peft_dml_train.losses.targets import Targets

MOST = 48
"""Objects that one batch contributes; empty cells are half as many."""
UNNAMED = -1
"""Label of objects whose class is withheld."""


class Embeddings(NamedTuple):
    """Latents at object centres and on empty ground.

    Attributes:
        vectors: (N, d) unit vectors.
        label: (N,) class; empty ground is a class of its own, `UNNAMED` objects whose class is withheld.
        instance: (N,) number of the object; each piece of empty ground has its own.
    """

    vectors: torch.Tensor
    label: torch.Tensor
    instance: torch.Tensor


def embed(
    latents: dict[str, torch.Tensor],
    mask: torch.Tensor,
    targets: Targets,
    withheld: tuple[WithheldPair, ...] = (),
    first: int = 0,
    seen: dict[str, torch.Tensor] | None = None,
) -> Embeddings:
    """Return embeddings of a batch's objects, one for each modality that a sample holds.

    Args:
        latents: (B, d, H, W) unit vectors of LiDAR, camera and radar.
        mask: (B, 5) availability.
        targets: Objects.
        withheld: Modalities and classes whose embeddings bear no label.
        first: Number of the first instance.
        seen: (B, cells) bool by modality, see `visibility.seen_cells`: an object that a sensor has no echo of teaches
            it nothing. All objects count without it.
    """
    device = mask.device
    centres = targets.central.nonzero()[:, 0]
    centres = centres[torch.randperm(len(centres)).to(device)[:MOST]]
    empty = (targets.heat.amax(dim=1).flatten(1) < 0.01).nonzero()
    empty = empty[torch.randint(max(len(empty), 1), (min(MOST // 2, len(empty)),)).to(device)]
    sample = torch.cat([targets.sample[centres], empty[:, 0]])
    cell = torch.cat([targets.cell[centres], empty[:, 1]])
    label = torch.cat([targets.label[centres], torch.full((len(empty),), len(CLASSES), device=device)])
    number = torch.arange(len(sample), device=device) + first
    vectors, labels, numbers = [], [], []
    for m in DETECTING:
        held = mask[sample, MODALITIES.index(m)] > 0
        if seen is not None:
            held &= seen[m][sample, cell] | (label == len(CLASSES))
        vectors.append(latents[m].flatten(2)[sample[held], :, cell[held]])
        hidden = torch.tensor([pair.label for pair in withheld if pair.modality == m], device=device)
        labels.append(label[held].masked_fill(torch.isin(label[held], hidden), UNNAMED))
        numbers.append(number[held])
    return Embeddings(torch.cat(vectors), torch.cat(labels), torch.cat(numbers))


class EmbeddingMemory:
    """Embeddings of earlier steps, without their gradients; the oldest go first.

    Args:
        size: Embeddings kept at most; 0 keeps none.
    """

    def __init__(self, size: int) -> None:
        self.size, self.instances = size, 0
        self.kept: Embeddings | None = None

    def push(self, new: Embeddings) -> None:
        """Take in a step's embeddings."""
        self.instances = max(self.instances, int(new.instance.max()) + 1) if len(new.instance) else self.instances
        detached = Embeddings(new.vectors.detach(), new.label, new.instance)
        joined = detached if self.kept is None else Embeddings(*map(torch.cat, zip(self.kept, detached, strict=True)))
        self.kept = Embeddings(*(x[-self.size :] for x in joined)) if self.size else None

    def state(self) -> dict[str, torch.Tensor | int]:
        """Return plain values for a checkpoint."""
        return {"instances": self.instances, **(self.kept._asdict() if self.kept else {})}

    def load(self, state: dict[str, torch.Tensor | int]) -> None:
        """Restore what `state` gave."""
        tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
        self.instances = int(state["instances"])
        self.kept = Embeddings(**tensors) if tensors else None


def contrast(
    vectors: torch.Tensor, labels: torch.Tensor, bank: torch.Tensor, bank_labels: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the supervised contrast of embeddings with one another and with a memory.

    Args:
        vectors: (N, d) unit vectors.
        labels: (N,).
        bank: (M, d) unit vectors without gradients.
        bank_labels: (M,).
        temperature: Of the softmax over all others.

    Returns:
        Mean over the vectors that have a positive of -log of the positives' mean probability (in the log).
    """
    similar = vectors @ torch.cat([vectors, bank.to(vectors)]).t() / temperature
    itself = torch.zeros_like(similar, dtype=torch.bool)
    itself.fill_diagonal_(fill_value=True)
    same = (labels[:, None] == torch.cat([labels, bank_labels])[None]) & ~itself
    logs = similar.masked_fill(itself, -1e4).log_softmax(dim=1)
    positives = same.sum(dim=1)
    mean = (logs * same).sum(dim=1) / positives.clamp(min=1)
    return -mean.sum() / (positives > 0).sum().clamp(min=1)


def concentration(now: Embeddings, kept: Embeddings) -> torch.Tensor:
    """Return how far all classes lie in one direction: 1 where every vector is the same one, 0 where they surround 0.

    A contrast leaves alone what all vectors have in common, because it cancels between positives and negatives; boxes
    are learnt most easily where the sphere is nearly flat, within one narrow cone. The sensors' classes then differ by
    next to nothing, whatever the weight of the contrast.

    Args:
        now: Embeddings of the step; the gradient is theirs alone.
        kept: Those of the memory, which hold the classes that the step lacks.
    """
    present = sorted(set(now.label.tolist()) - {UNNAMED})
    if not present:
        return now.vectors.sum() * 0.0
    vectors = torch.cat([now.vectors.detach(), kept.vectors.to(now.vectors)])
    labels = torch.cat([now.label, kept.label])
    named = sorted(set(labels.tolist()) - {UNNAMED})
    along = now.vectors @ torch.stack([vectors[labels == label].mean(dim=0) for label in named]).mean(dim=0)
    return torch.stack([along[now.label == label].mean() for label in present]).mean()


class AlignmentLoss:
    """Triplets, or contrast, over modalities: anchor, positive and negative may come from different sensors.

    Args:
        margin: Of the triplets.
        temperature: Of supervised contrast instead of triplets; none for triplets.
    """

    def __init__(self, margin: float, temperature: float | None = None) -> None:
        self.temperature = temperature
        self.miner, self.loss = BatchHardMiner(), TripletMarginLoss(margin=margin)

    def __call__(
        self,
        vectors: torch.Tensor,
        labels: torch.Tensor,
        bank: torch.Tensor | None = None,
        bank_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the loss of embeddings (N, d) with labels (N,); 0 where they form no triplet."""
        if len(vectors) < 3 or bool((labels == labels[0]).all()):
            return vectors.sum() * 0.0
        if self.temperature is None:
            found: torch.Tensor = self.loss(vectors, labels, self.miner(vectors, labels))
            return found
        if bank is None or bank_labels is None:
            bank, bank_labels = vectors[:0].detach(), labels[:0]
        return contrast(vectors, labels, bank, bank_labels, self.temperature)
