# SPDX-License-Identifier: Apache-2.0
"""All losses of one training step; what has weight 0 is not computed."""

import torch
from torch import distributed

from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.config import LossConfig
from peft_dml_train.data.batch import Batch
from peft_dml_train.data.frame import NO_DEPTH
from peft_dml_train.data.withheld import learnt, parse_pairs
from peft_dml_train.losses.alignment import UNNAMED, AlignmentLoss, EmbeddingMemory, Embeddings, concentration, embed
from peft_dml_train.losses.auxiliary import consistency, depth_loss, gate_loss
from peft_dml_train.losses.detection import box_losses, focal
from peft_dml_train.losses.targets import Targets, make_targets
from peft_dml_train.losses.visibility import seen_cells
from peft_dml_train.network import Detection, Latents, PeftDmlNetwork


def counts_of(batch: Batch, targets: Targets) -> dict[str, torch.Tensor]:
    """Return what the losses are divided by: its mean over all processes.

    With it, the mean of the processes' gradients is the gradient of one process with all their samples.

    Returns:
        Samples, objects, weight of the cells, objects with an attribute, pixels of known depth, and objects in samples
        that hold a modality.
    """
    names = ("samples", "objects", "weight", "attribute", "depth", *DETECTING)
    # Two objects of a class in one cell make one centre, as the heat map has it.
    centres = targets.heat.eq(1).flatten(1).sum(dim=1)
    held = [(centres * (batch.mask[:, MODALITIES.index(m)] > 0)).sum() for m in DETECTING]
    values = [
        torch.tensor(len(batch.boxes), device=centres.device),
        centres.sum(),
        targets.weight.sum(),
        (targets.attribute >= 0).sum(),
        (batch.depth_bins != NO_DEPTH).sum(),
        *held,
    ]
    counts = torch.stack([value.float() for value in values])
    if distributed.is_initialized():
        distributed.all_reduce(counts)
        counts /= distributed.get_world_size()
    return dict(zip(names, counts, strict=True))


class TotalLoss:
    """Weighted sum over the full pass and the pass with dropped sensors."""

    def __init__(self, spec: ModelSpec, config: LossConfig, withheld: tuple[str, ...] = ()) -> None:
        self.spec, self.config, self.withheld = spec, config, parse_pairs(withheld)
        temperature = config.temperature if config.metric == "contrastive" else None
        margins = (config.alignment_margin, config.instance_margin)
        self.align, self.separate = (AlignmentLoss(margin, temperature) for margin in margins)
        self.memory = EmbeddingMemory(config.memory if temperature else 0)

    def __call__(
        self, network: PeftDmlNetwork, batch: Batch, latents: Latents, passes: list[Detection]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss to minimise and its parts for the log.

        Args:
            network: Holder of the shared classifier and of the head.
            batch: Its truth.
            latents: Of all modalities.
            passes: Full pass, then the dropped one; or the dropped one alone.
        """
        parts = self.parts(network, batch, latents, passes)
        total = torch.stack(list(parts.values())).sum()
        return total, {name: float(value.detach()) for name, value in parts.items()}

    def parts(
        self, network: PeftDmlNetwork, batch: Batch, latents: Latents, passes: list[Detection]
    ) -> dict[str, torch.Tensor]:
        """Return the weighted losses by name."""
        config = self.config
        targets = batch.targets or make_targets(batch.boxes, self.spec).to(batch.mask.device)
        counts = counts_of(batch, targets)
        parts: dict[str, torch.Tensor] = {}
        kinds = (("full", batch.mask), ("dropped", batch.dropped))[-len(passes) :]
        for (name, mask), detection in zip(kinds, passes, strict=True):
            known = learnt(mask, self.withheld)
            if config.heatmap:
                heat = focal(detection.head.heat, targets.heat, counts["objects"], known)
                parts[f"{name}/heatmap"] = config.heatmap * heat
            taught = targets.only(known)
            boxes = network.head.boxes_at(detection.head, taught.sample, taught.cell, taught.label)
            for key, value in box_losses(boxes, taught, config, counts).items():
                parts[f"{name}/{key}"] = getattr(config, key) * value
            if config.gate:
                gate = gate_loss(detection.fused.gates.float(), mask, batch.quality, targets.heat)
                parts[f"{name}/gate"] = config.gate * gate / counts["samples"]
        if config.consistency and len(passes) > 1:
            full, dropped = passes
            differ = consistency(dropped.head.heat, full.head.heat, targets.heat, counts["objects"])
            parts["consistency"] = config.consistency * differ
        parts |= self._alignment(batch, latents, targets)
        if config.depth and latents.depth_logits is not None:
            depth = depth_loss(latents.depth_logits.float(), batch.depth_bins, counts["depth"])
            parts["depth"] = config.depth * depth
        return parts | self._single(network, batch, latents, targets, counts)

    def _alignment(self, batch: Batch, latents: Latents, targets: Targets) -> dict[str, torch.Tensor]:
        config, parts = self.config, {}
        if config.alignment or config.instance or config.concentration:
            first = self.memory.instances
            seen = seen_cells(batch, self.spec)
            found = embed(latents.by_modality, batch.mask, targets, self.withheld, first, seen)
            bank = self.memory.kept or Embeddings(*(x[:0].detach() for x in found))
            if config.alignment:
                named, kept = found.label != UNNAMED, bank.label != UNNAMED
                now, then = (x[at] for x, at in ((found.vectors, named), (bank.vectors, kept)))
                same = self.align(now, found.label[named], then, bank.label[kept])
                parts["alignment"] = config.alignment * same
            if config.instance:
                alone = self.separate(found.vectors, found.instance, bank.vectors, bank.instance)
                parts["instance"] = config.instance * alone
            if config.concentration:
                parts["concentration"] = config.concentration * concentration(found, bank)
            self.memory.push(found)
        return parts

    def _single(
        self,
        network: PeftDmlNetwork,
        batch: Batch,
        latents: Latents,
        targets: Targets,
        counts: dict[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        if not self.config.single:
            return {}
        parts = {}
        for m in DETECTING:
            # Samples without the modality pass through with weight 0, so that every process has every gradient.
            present = batch.mask[:, MODALITIES.index(m)] > 0
            known = learnt(batch.mask * _only(m, batch.mask), self.withheld)
            if known is not None:
                present = present[:, None] & known
            logits = network.classifier(latents.by_modality[m]).float()
            parts[f"single/{m}"] = self.config.single * focal(logits, targets.heat, counts[m], present)
        return parts


def _only(modality: str, mask: torch.Tensor) -> torch.Tensor:
    """Return (5,) 1 for one modality."""
    return torch.tensor([float(m == modality) for m in MODALITIES], device=mask.device)
