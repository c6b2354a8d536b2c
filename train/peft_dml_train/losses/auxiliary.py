# SPDX-License-Identifier: Apache-2.0
"""Smaller losses: consistency under dropout, gate supervision, depth."""

from __future__ import annotations

import torch
from torch.nn import functional

from peft_dml_ros.core.classes import DETECTING
from peft_dml_train.data.frame import NO_DEPTH

MOTION_SHARE = 0.15
"""IMU and GNSS may take this much of the gate together."""


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
    """The gate's weight belongs on modalities that see, are present and are not corrupted.

    IMU and GNSS are hardly ever corrupted and see nothing: if they counted as clean, the gate could do right by leaning
    on them alone. Clean is judged among LiDAR, camera and radar, and more than `MOTION_SHARE` on the other two costs.

    Args:
        gates: (B, 5, H, W) weights.
        mask: (B, 5).
        quality: (B, 5), 0 where corrupted.
        heat: (B, classes, H, W) truth: the gate matters where objects are.

    Returns:
        Mean of -log(clean share of the weight on what sees) over samples with a corrupted and a clean modality present,
        plus the excess on IMU and GNSS.
    """
    where = heat.amax(dim=1, keepdim=True) + 1e-2
    pooled = (gates * where).sum(dim=(2, 3)) / where.sum(dim=(2, 3))
    sees = len(DETECTING)
    excess = (pooled[:, sees:].sum(dim=1) - MOTION_SHARE).clamp(min=0).mean()
    present, clean = mask[:, :sees], mask[:, :sees] * quality[:, :sees]
    judged = ((present - clean).sum(dim=1) > 0) & (clean.sum(dim=1) > 0)
    if not judged.any():
        return excess
    weight = pooled[:, :sees] * present
    share = (weight * clean).sum(dim=1)[judged] / weight.sum(dim=1)[judged].clamp(min=1e-4)
    return excess - share.clamp(min=1e-4).log().mean()


def depth_loss(logits: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the camera's depth distribution against projected LiDAR points.

    Args:
        logits: (B, cameras, pixels, depth_bins).
        bins: (B, cameras, pixels) int64, `NO_DEPTH` where unknown.
    """
    if not (bins != NO_DEPTH).any():
        return logits.sum() * 0
    return functional.cross_entropy(logits.flatten(0, 2), bins.flatten(), ignore_index=NO_DEPTH)
