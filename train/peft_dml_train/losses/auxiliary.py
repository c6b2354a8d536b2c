# SPDX-License-Identifier: Apache-2.0
"""Smaller losses: consistency under dropout, gate supervision, depth."""

from __future__ import annotations

import torch
from torch.nn import functional

from peft_dml_train.data.frame import NO_DEPTH


def consistency(student: torch.Tensor, teacher: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
    """Heat map with sensors dropped towards the heat map with all of them.

    Args:
        student: (B, classes, H, W) logits of the dropped pass.
        teacher: Same shape, logits of the full pass; it gets no gradient.
        heat: Truth; cells count where truth or teacher see something.
    """
    with torch.no_grad():
        wanted = teacher.sigmoid()
        weight = torch.maximum(wanted, heat)
    # Few cells count, so only these are computed.
    where = weight > 0.05
    difference = (student[where].sigmoid() - wanted[where]).square() * weight[where]
    return difference.sum() / heat.eq(1).sum().clamp(min=1)


def gate_loss(gates: torch.Tensor, mask: torch.Tensor, quality: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
    """The gate's weight belongs on modalities that are present and not corrupted.

    Args:
        gates: (B, 5, H, W) weights.
        mask: (B, 5).
        quality: (B, 5), 0 where corrupted.
        heat: (B, classes, H, W) truth: the gate matters where objects are.

    Returns:
        Mean of -log(weight on clean modalities) over samples with a corrupted and a clean modality present.
    """
    clean = mask * quality
    judged = ((mask - clean).sum(dim=1) > 0) & (clean.sum(dim=1) > 0)
    if not judged.any():
        return gates.sum() * 0
    where = heat.amax(dim=1, keepdim=True) + 1e-2
    pooled = (gates * where).sum(dim=(2, 3)) / where.sum(dim=(2, 3))
    return -(pooled * clean).sum(dim=1)[judged].clamp(min=1e-4).log().mean()


def depth_loss(logits: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the camera's depth distribution against projected LiDAR points.

    Args:
        logits: (B, cameras, pixels, depth_bins).
        bins: (B, cameras, pixels) int64, `NO_DEPTH` where unknown.
    """
    if not (bins != NO_DEPTH).any():
        return logits.sum() * 0
    return functional.cross_entropy(logits.flatten(0, 2), bins.flatten(), ignore_index=NO_DEPTH)
