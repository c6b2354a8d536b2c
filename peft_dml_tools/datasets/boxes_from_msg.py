# SPDX-License-Identifier: Apache-2.0
"""Convert vision_msgs/Detection3DArray and its parallel cloud of velocities back to boxes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from peft_dml_ros.conversions.pointcloud import cloud_view, column
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import ATTRIBUTES, CLASSES
from peft_dml_ros.core.errors import DataError, nearest
from peft_dml_ros.core.typing import FloatArray
from peft_dml_tools.datasets.encode import VARIANCES


def boxes_from_msg(msg: Any, classes: Sequence[str] = CLASSES) -> Boxes3D:
    """Convert a vision_msgs/Detection3DArray to boxes; velocities are NaN, since the message has none.

    Raises DataError: a detection has no result, an unknown class, or numbers that make no box.
    """
    n = len(msg.detections)
    centers, sizes, yaws = np.zeros((n, 3)), np.zeros((n, 3)), np.zeros(n)
    scores, sigmas, labels = np.zeros(n), np.zeros((n, 4)), np.zeros(n, dtype=np.int64)
    for i, detection in enumerate(msg.detections):
        if not len(detection.results):
            text = f"detection {i} of the Detection3DArray in frame '{msg.header.frame_id}' has no result"
            raise DataError(f"{text}; fix: give each one")
        best = detection.results[0]
        labels[i] = _label(str(best.hypothesis.class_id), classes)
        scores[i] = best.hypothesis.score
        q, center, size = detection.bbox.center.orientation, detection.bbox.center.position, detection.bbox.size
        centers[i], sizes[i] = (center.x, center.y, center.z), (size.x, size.y, size.z)
        yaws[i] = np.arctan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y**2 + q.z**2))
        sigmas[i] = np.sqrt(np.maximum([best.pose.covariance[k] for k in VARIANCES], 0.0))
    if not all(np.isfinite(a).all() for a in (centers, sizes, yaws, scores, sigmas)) or (sizes < 0).any():
        text = f"the Detection3DArray in frame '{msg.header.frame_id}' holds values not finite or sizes below 0"
        raise DataError(f"{text}; fix: check its publisher")
    ids = tuple(str(detection.id) for detection in msg.detections)
    boxes = Boxes3D.make(
        centers, sizes, yaws, labels, scores=scores, velocities_mps=np.full((n, 2), np.nan), ids=ids if any(ids) else ()
    )
    return replace(boxes, sigmas=sigmas)


def with_velocities(boxes: Boxes3D, msg: Any) -> Boxes3D:
    """Return boxes with a cloud's velocities and attributes. Raises DataError: it is malformed or of another length."""
    view = cloud_view(msg, ("vx", "vy", "attribute"))
    names = view.dtype.names or ()
    if view.size != len(boxes) or (view.size and not {"vx", "vy"} <= set(names)):
        text = f"velocities do not belong to the boxes: {view.size} points with {names} for {len(boxes)} boxes"
        raise DataError(f"{text}; fix: one each")
    if not len(boxes):
        return boxes
    velocities: FloatArray = np.stack([column(view, "vx"), column(view, "vy")], axis=1).astype(np.float64)
    attributes = column(view, "attribute").astype(np.int64) if "attribute" in names else boxes.attributes
    known = (attributes >= -1) & (attributes < len(ATTRIBUTES))
    return replace(boxes, velocities_mps=velocities, attributes=np.where(known, attributes, -1))


def _label(name: str, classes: Sequence[str]) -> int:
    try:
        return list(classes).index(name)
    except ValueError:
        raise DataError(f"unknown class '{name}' in a Detection3DArray; {nearest(name, classes)}") from None
