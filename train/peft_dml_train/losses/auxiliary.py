# SPDX-License-Identifier: Apache-2.0
"""Smaller losses: consistency under dropout, gate supervision, depth."""

import torch
from torch.nn import functional

from peft_dml_ros.core.classes import DETECTING
from peft_dml_train.data.frame import NO_DEPTH

MOTION_SHARE = 0.15
"""IMU and GNSS may take this much of the gate together."""

LEAST_DIFFERENCE = 0.1
"""Of quality between the best and the worst modality, from which on the gate has to tell them apart."""


def consistency(student: torch.Tensor, teacher: torch.Tensor, heat: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Return the heat map with sensors dropped towards the heat map with all of them.

    Args:
        student: (B, classes, H, W) logits of the dropped pass.
        teacher: Same shape, logits of the full pass; it gets no gradient.
        heat: Truth; cells count where truth or teacher see something.
        count: Objects to divide by.
    """
    with torch.no_grad():
        wanted = teacher.sigmoid()
        weight = torch.maximum(wanted, heat)
    # Few cells count, so only these are computed.
    where = weight > 0.05
    difference = (student[where].sigmoid() - wanted[where]).square() * weight[where]
    return difference.sum() / count.clamp(min=1)


def gate_loss(gates: torch.Tensor, mask: torch.Tensor, quality: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
    """Return the loss that moves the gate's weight to modalities that see, are present and are not degraded.

    IMU and GNSS are hardly ever corrupted and see nothing: if they counted as clean, the gate could do right by leaning
    on them alone. Clean is judged among LiDAR, camera and radar, and more than `MOTION_SHARE` on the other two costs.

    Args:
        gates: (B, 5, H, W) weights.
        mask: (B, 5).
        quality: (B, 5) from 1 where untouched to 0 where worthless.
        heat: (B, classes, H, W) truth: the gate matters where objects are.

    Returns:
        Sum over samples in which present modalities differ in quality of -log(weight times quality, relative to the
        best modality's), plus the excess on IMU and GNSS of all; divide it by the samples.
    """
    where = heat.amax(dim=1, keepdim=True) + 1e-2
    pooled = (gates * where).sum(dim=(2, 3)) / where.sum(dim=(2, 3))
    sees = len(DETECTING)
    excess = (pooled[:, sees:].sum(dim=1) - MOTION_SHARE).clamp(min=0).sum()
    present = mask[:, :sees]
    quality = quality[:, :sees]
    best = (present * quality).amax(dim=1)
    worst = torch.where(present > 0, quality, 1.0).amin(dim=1)
    judged = best > worst + LEAST_DIFFERENCE
    weight = pooled[:, :sees] * present
    good = (weight * quality).sum(dim=1) / best.clamp(min=1e-3)
    share = good / weight.sum(dim=1).clamp(min=1e-4)
    return excess - (share.clamp(min=1e-4).log() * judged).sum()


def depth_loss(logits: torch.Tensor, bins: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the camera's depth distribution against projected LiDAR points.

    Args:
        logits: (B, cameras, pixels, depth_bins).
        bins: (B, cameras, pixels) int64, `NO_DEPTH` where unknown.
        count: Known pixels to divide by.
    """
    wrong = functional.cross_entropy(logits.flatten(0, 2), bins.flatten(), ignore_index=NO_DEPTH, reduction="sum")
    return wrong / count.clamp(min=1)
