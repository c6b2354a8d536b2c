# SPDX-License-Identifier: Apache-2.0
"""All losses of one training step."""

from __future__ import annotations

import torch

from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.config import LossConfig
from peft_dml_train.data.batch import Batch
from peft_dml_train.losses.alignment import AlignmentLoss
from peft_dml_train.losses.auxiliary import consistency, depth_loss, gate_loss
from peft_dml_train.losses.detection import box_losses, focal
from peft_dml_train.losses.targets import make_targets
from peft_dml_train.network import Detection, Latents, PeftDmlNetwork


class TotalLoss:
    """Weighted sum over the full pass and the pass with dropped sensors."""

    def __init__(self, spec: ModelSpec, config: LossConfig) -> None:
        self.spec, self.config = spec, config
        self.align = AlignmentLoss(config.alignment_margin)

    def __call__(
        self, network: PeftDmlNetwork, batch: Batch, latents: Latents, passes: list[Detection]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss to minimise and its parts for the log.

        Args:
            network: Holder of the single-modality heads.
            batch: Its truth.
            latents: Of all modalities.
            passes: Full pass, then the dropped one.
        """
        config = self.config
        targets = make_targets(batch.boxes, self.spec)
        full, dropped = passes
        parts: dict[str, torch.Tensor] = {}
        for name, detection, mask in (("full", full, batch.mask), ("dropped", dropped, batch.dropped)):
            parts[f"{name}/heatmap"] = config.heatmap * focal(detection.head.heat, targets.heat)
            for key, value in box_losses(detection.head, targets, config).items():
                parts[f"{name}/{key}"] = getattr(config, key) * value
            gate = gate_loss(detection.fused.gates.float(), mask, batch.quality, targets.heat)
            parts[f"{name}/gate"] = config.gate * gate
        parts["consistency"] = config.consistency * consistency(dropped.head.heat, full.head.heat, targets.heat)
        parts["alignment"] = config.alignment * self.align(latents.by_modality, batch.mask, targets)
        if latents.depth_logits is not None:
            parts["depth"] = config.depth * depth_loss(latents.depth_logits.float(), batch.depth_bins)
        for m in DETECTING:
            present = batch.mask[:, MODALITIES.index(m)] > 0
            if present.any():
                logits = network.single[m](latents.by_modality[m][present] * network.single_scale).float()
                parts[f"single/{m}"] = config.single * focal(logits, targets.heat[present])
        total = torch.stack(list(parts.values())).sum()
        return total, {name: float(value.detach()) for name, value in parts.items()}
