# SPDX-License-Identifier: Apache-2.0
"""Detection losses: focal on the heat map, L1 and predicted variance on boxes, cross-entropy on front and attribute."""

from typing import Any

import torch
from torch.nn import functional

from peft_dml_ros.core.classes import ATTRIBUTES, ATTRIBUTES_OF_CLASS, CLASSES
from peft_dml_train.config import LossConfig
from peft_dml_train.head.center import BoxValues
from peft_dml_train.losses.targets import VALUES, Targets

VARIANCE_OF = ((0, 1), (2,), (6, 7))
"""Regression columns whose errors the log variances of xy, z and yaw describe."""
AXIS, HEADING, VELOCITY = slice(6, 8), slice(8, 10), slice(10, 12)
KNEE_MPS = 4.0
"""Velocity errors count quadratically below it.

Five of six objects stand still. The absolute error alone is least where every velocity is zero, and training stays
there: speeds were 0.0 m/s for all objects although a linear fit of the radar's latents explained 64 % of the variance.
"""
MOVING_MPS = 1.0
WITHOUT_AXIS, WITHOUT_FRONT = ("traffic_cone",), ("traffic_cone", "barrier")
"""Classes whose yaw, or whose front, means nothing."""


class _EmptyCells(torch.autograd.Function):
    """Sum of w · softplus(x) · sigmoid(x)², with its gradient made in the same pass.

    The heat maps of five passes make this the largest elementwise computation of a step; composed of single operations
    it takes four times as long.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the loss, and its derivative for later."""
        probability = logits.sigmoid()
        penalty = functional.softplus(logits)
        weighted = probability.square().mul_(weight)
        loss = torch.dot(penalty.flatten(), weighted.flatten())
        slope = penalty.mul_(2).mul_(1 - probability).add_(probability).mul_(weighted)
        ctx.save_for_backward(slope)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the gradient of the logits."""
        (slope,) = ctx.saved_tensors
        return slope * gradient, None


def focal(
    logits: torch.Tensor, heat: torch.Tensor, count: torch.Tensor | None = None, rows: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the penalty-reduced focal loss (Law and Deng, "CornerNet", ECCV 2018), per object.

    Args:
        logits: (B, classes, H, W).
        heat: Same shape, 1 at object centres, falling off around them.
        count: Objects to divide by; those of these samples without it.
        rows: (B,) bool samples, or (B, classes) bool classes of samples, that count; all without it.
    """
    logits = logits.contiguous()
    centres = heat.eq(1)
    weight = (1 - heat).square_().square_()
    if rows is not None:
        counted = rows.view(len(rows), -1, 1, 1)
        centres = centres & counted
        weight *= counted
    at = logits[centres]
    hit = functional.softplus(-at) * (1 - at.sigmoid()).square()
    empty: torch.Tensor = _EmptyCells.apply(logits, weight)  # type: ignore[no-untyped-call]  # torch gives it no types
    return (hit.sum() + empty) / (centres.sum() if count is None else count).clamp(min=1)


def box_losses(
    predicted: BoxValues, targets: Targets, config: LossConfig, counts: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the losses of box values: L1, Huber on velocities, Laplace of variances, entropy of direction, attribute.

    Args:
        predicted: At the target cells.
        targets: Of the batch.
        config: Weights; what has weight 0 is left out.
        counts: `weight` and `attribute` to divide by, see `total.counts_of`.

    Returns:
        Weighted means: box, heading, variance, attribute.
    """
    known = targets.values.isfinite()
    known[:, AXIS] &= _has(targets.label, WITHOUT_AXIS)
    truth = targets.values.nan_to_num()
    error = (predicted.regression[:, :VALUES] - truth).abs() * known
    total = counts["weight"].clamp(min=1e-3)
    out = {}
    if config.box:
        code = torch.tensor(config.code, dtype=error.dtype, device=error.device)
        moving = truth[:, VELOCITY].norm(dim=1, keepdim=True) > MOVING_MPS
        speed = _bend(error[:, VELOCITY]) * (1 + (config.moving - 1) * moving)
        penalty = torch.cat([error[:, : VELOCITY.start], speed], dim=1)
        out["box"] = (penalty * code * targets.weight[:, None]).sum() / total
    if config.heading:
        # The product with the true direction is the logit of "the front is there" against "the rear is there".
        logit = (predicted.regression[:, HEADING] * targets.values[:, HEADING].nan_to_num()).sum(dim=1)
        counted = targets.weight * _has(targets.label, WITHOUT_FRONT)[:, 0]
        out["heading"] = (functional.softplus(-logit) * counted).sum() / total
    if config.variance:
        out["variance"] = _variance(predicted.regression, error, targets.weight) / total
    if config.attribute:
        carries = targets.attribute >= 0
        logits = predicted.attributes[carries] + _allowed(error.device)[targets.label[carries]]
        wrong = functional.cross_entropy(logits, targets.attribute[carries], reduction="sum")
        out["attribute"] = wrong / counts["attribute"].clamp(min=1)
    return out


def _bend(error: torch.Tensor) -> torch.Tensor:
    """Return the Huber penalty, with a slope of 1 above the knee."""
    return torch.where(error < KNEE_MPS, error.square() / (2 * KNEE_MPS), error - KNEE_MPS / 2)


def _variance(regression: torch.Tensor, error: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Sum the Laplace likelihoods; errors are detached: the variance describes them and must not trade them away."""
    terms = regression.new_zeros(())
    for i, columns in enumerate(VARIANCE_OF):
        log_var = regression[:, VALUES + i].clamp(-8, 6)
        deviation = error[:, list(columns)].detach().mean(dim=1)
        if columns[0] == AXIS.start:
            deviation = deviation / 2  # of twice the yaw
        terms = terms + ((deviation * 2**0.5 * torch.exp(-0.5 * log_var) + 0.5 * log_var) * weight).sum()
    return terms


def _has(label: torch.Tensor, without: tuple[str, ...]) -> torch.Tensor:
    """Return (M, 1) bool, false for classes without an axis or a front."""
    lacking = torch.tensor([CLASSES.index(name) for name in without], device=label.device)
    return ~torch.isin(label, lacking)[:, None]


def _allowed(device: torch.device) -> torch.Tensor:
    """Return (classes, attributes), 0 where a class may carry an attribute and very low elsewhere."""
    allowed = torch.full((len(CLASSES), len(ATTRIBUTES)), -1e4)
    for label, name in enumerate(CLASSES):
        allowed[label, list(ATTRIBUTES_OF_CLASS[name])] = 0.0
    return allowed.to(device)
