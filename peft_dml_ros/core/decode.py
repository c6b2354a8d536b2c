# SPDX-License-Identifier: Apache-2.0
"""Candidates of the fusion graph to boxes, and non-maximum suppression."""

from __future__ import annotations

import numba
import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import ATTRIBUTES_OF_CLASS
from peft_dml_ros.core.spec import REGRESSION, ModelSpec
from peft_dml_ros.core.typing import AnyArray, BoolArray, FloatArray, IntArray

NMS_RADIUS_M = {
    "car": 2.0,
    "truck": 3.0,
    "bus": 3.5,
    "trailer": 3.2,
    "construction_vehicle": 3.2,
    "pedestrian": 0.42,
    "motorcycle": 0.5,
    "bicycle": 0.5,
    "traffic_cone": 0.42,
    "barrier": 1.0,
}
"""Centre distances below which the weaker of two boxes of one class goes (circle NMS of CenterPoint, in metres).

Motorcycles and bicycles have 0.5 where CenterPoint has 0.92: parked ones stand 0.7 m apart.
"""

_COLUMN = {name: i for i, name in enumerate(REGRESSION)}
_MAX_LOG_SIZE = 4.0


def decode_candidates(
    outputs: dict[str, AnyArray], spec: ModelSpec, score_threshold: float, temperature: float = 1.0
) -> Boxes3D:
    """Boxes in base_link from the fusion graph's outputs, best first.

    Args:
        outputs: `scores`, `labels`, `cells`, `regression`, `attributes` as `graph_outputs` declares them.
        spec: Grid and class names.
        score_threshold: Candidates below this calibrated confidence are left out.
        temperature: Divides the logit of each score (calibration per availability mask).
    """
    scores = calibrate(outputs["scores"].astype(np.float64), temperature)
    regression = outputs["regression"].astype(np.float64)
    keep = np.flatnonzero((scores >= score_threshold) & np.isfinite(regression).all(axis=1))
    keep = keep[np.argsort(-scores[keep], kind="stable")]
    values, cells = regression[keep], outputs["cells"][keep].astype(np.int64)
    labels = outputs["labels"][keep].astype(np.int64)
    rows, columns = np.divmod(cells, spec.grid.size)

    def column(*names: str) -> FloatArray:
        picked: FloatArray = values[:, [_COLUMN[n] for n in names]]
        return picked

    corner = np.stack([columns, rows], axis=1) * spec.grid.cell_m - spec.grid.half_range_m
    xy = corner + (column("dx", "dy") + 0.5) * spec.grid.cell_m
    sin_cos = column("sin_yaw", "cos_yaw")
    variance = np.exp(np.clip(column("log_var_xy", "log_var_xy", "log_var_z", "log_var_yaw"), -10.0, 6.0))
    logits = outputs["attributes"][keep].astype(np.float64)
    return Boxes3D(
        centers_m=np.concatenate([xy, column("z")], axis=1),
        sizes_m=np.exp(np.clip(column("log_length", "log_width", "log_height"), -_MAX_LOG_SIZE, _MAX_LOG_SIZE)),
        yaws_rad=np.arctan2(sin_cos[:, 0], sin_cos[:, 1]),
        velocities_mps=column("vx", "vy"),
        labels=labels,
        scores=scores[keep],
        attributes=_attributes(logits, labels, spec.classes),
        sigmas=np.sqrt(variance),
    )


def calibrate(scores: FloatArray, temperature: float) -> FloatArray:
    """Scores with their logits divided by a temperature; keeps their order."""
    if temperature == 1.0:
        return scores
    clipped = np.clip(scores, 1e-7, 1 - 1e-7)
    softened: FloatArray = 1.0 / (1.0 + np.exp(-np.log(clipped / (1 - clipped)) / temperature))
    return softened


def _attributes(logits: FloatArray, labels: IntArray, classes: tuple[str, ...]) -> IntArray:
    """Best attribute among those that each box's class may carry; -1 where it may carry none."""
    allowed = np.full((len(classes), logits.shape[1] if logits.ndim > 1 else 0), -np.inf)
    for label, name in enumerate(classes):
        allowed[label, list(ATTRIBUTES_OF_CLASS.get(name, ()))] = 0.0
    masked = logits + allowed[labels]
    best: IntArray = masked.argmax(axis=1) if len(masked) else np.zeros(0, dtype=np.int64)
    return np.where(np.isfinite(allowed[labels]).any(axis=1), best, -1).astype(np.int64)


@numba.njit(cache=True, nogil=True)
def _suppress(centers: FloatArray, labels: IntArray, radii: FloatArray) -> BoolArray:
    keep = np.ones(len(centers), dtype=np.bool_)
    for i in range(len(centers)):
        if not keep[i]:
            continue
        limit = radii[labels[i]] ** 2
        for j in range(i + 1, len(centers)):
            if keep[j] and labels[i] == labels[j]:
                dx, dy = centers[i, 0] - centers[j, 0], centers[i, 1] - centers[j, 1]
                if dx * dx + dy * dy < limit:
                    keep[j] = False
    return keep


def nms_radius_m(name: str) -> float:
    """Radius of a class; 1 m for one that nuScenes does not have."""
    return NMS_RADIUS_M.get(name, 1.0)


def non_maximum_suppression(boxes: Boxes3D, classes: tuple[str, ...], scale: float = 1.0) -> Boxes3D:
    """Keep the best of the boxes of one class whose centres lie within that class's radius.

    Args:
        boxes: Sorted by score, best first.
        classes: Names of the labels.
        scale: Factor on `NMS_RADIUS_M`; 0 keeps all.
    """
    radii = np.array([nms_radius_m(name) * scale for name in classes])
    return boxes[_suppress(boxes.centers_m, boxes.labels, radii)]
