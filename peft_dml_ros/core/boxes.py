# SPDX-License-Identifier: Apache-2.0
"""3D boxes: the container, their decoding from the network's candidates, and non-maximum suppression.

A box is its geometric centre, (length, width, height), yaw about +z from +x, all in `base_link` at one stamp.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TypeAlias

import numba
import numpy as np

from peft_dml_ros.core.classes import ATTRIBUTES_OF_CLASS
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3, wrap_angle
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import AnyArray, BoolArray, FloatArray, IntArray

Index: TypeAlias = IntArray | BoolArray | slice


@dataclass(frozen=True, slots=True)
class Boxes3D:
    """N boxes."""

    centers_m: FloatArray  #: (N, 3) float64
    sizes_m: FloatArray  #: (N, 3) float64: length, width, height, all >= 0
    yaws_rad: FloatArray  #: (N,) float64
    velocities_mps: FloatArray  #: (N, 2) float64: vx, vy; NaN where unknown (truth of a single frame)
    labels: IntArray  #: (N,) int64 indices into `CLASSES`
    scores: FloatArray  #: (N,) float64 in [0, 1]; 1 for truth
    attributes: IntArray  #: (N,) int64 indices into `ATTRIBUTES`, -1 for none
    sigmas: FloatArray  #: (N, 4) float64 predicted standard deviations of x, y, z (m) and yaw (rad); 0 where unknown
    ids: tuple[str, ...] = field(default=())  #: N strings, instance or track ids; empty tuple when untracked

    def __post_init__(self) -> None:
        n = len(self.centers_m)
        shapes = {
            "centers_m": (n, 3),
            "sizes_m": (n, 3),
            "yaws_rad": (n,),
            "velocities_mps": (n, 2),
            "labels": (n,),
            "scores": (n,),
            "attributes": (n,),
            "sigmas": (n, 4),
        }
        wrong = [f"{k} {getattr(self, k).shape} != {s}" for k, s in shapes.items() if getattr(self, k).shape != s]
        if self.ids and len(self.ids) != n:
            wrong.append(f"ids {len(self.ids)} != {n}")
        if wrong:
            raise DataError(f"boxes do not agree on their number: {'; '.join(wrong)}; fix: one row a box")

    @classmethod
    def empty(cls) -> "Boxes3D":
        """Return no boxes."""
        return cls.make(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0, dtype=np.int64))

    @classmethod
    def make(
        cls,
        centers_m: FloatArray,
        sizes_m: FloatArray,
        yaws_rad: FloatArray,
        labels: IntArray,
        *,
        velocities_mps: FloatArray | None = None,
        scores: FloatArray | None = None,
        attributes: IntArray | None = None,
        ids: tuple[str, ...] = (),
    ) -> "Boxes3D":
        """Return boxes with defaults: standing still, score 1, no attribute, no variance."""
        n = len(centers_m)
        return cls(
            centers_m=np.asarray(centers_m, dtype=np.float64).reshape(n, 3),
            sizes_m=np.asarray(sizes_m, dtype=np.float64).reshape(n, 3),
            yaws_rad=np.asarray(yaws_rad, dtype=np.float64),
            velocities_mps=np.zeros((n, 2)) if velocities_mps is None else np.asarray(velocities_mps, np.float64),
            labels=np.asarray(labels, dtype=np.int64),
            scores=np.ones(n) if scores is None else np.asarray(scores, dtype=np.float64),
            attributes=np.full(n, -1, dtype=np.int64) if attributes is None else np.asarray(attributes, np.int64),
            sigmas=np.zeros((n, 4)),
            ids=ids,
        )

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self.centers_m)

    def __getitem__(self, index: Index) -> "Boxes3D":
        """Return the boxes that an index array, boolean mask or slice selects."""
        ids = tuple(self.ids[i] for i in np.arange(len(self))[index]) if self.ids else ()
        columns = {column.name: getattr(self, column.name)[index] for column in fields(self)[:-1]}
        return replace(self, **columns, ids=ids)

    def transform(self, a_SE3_b: SE3) -> "Boxes3D":
        """Return the boxes, given in frame b, in frame a; velocities turn, they are not compensated."""
        velocity = np.concatenate([self.velocities_mps, np.zeros((len(self), 1))], axis=1)
        return replace(
            self,
            centers_m=a_SE3_b.transform(self.centers_m),
            yaws_rad=wrap_angle(self.yaws_rad + a_SE3_b.yaw_rad),
            velocities_mps=a_SE3_b.rotate(velocity)[:, :2],
        )

    def corners_m(self) -> FloatArray:
        """Return (N, 8, 3) corners: four of the bottom, then four of the top; the first two of each are the front's."""
        signs = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]], dtype=np.float64) / 2
        flat = np.concatenate([signs, signs])
        local = np.concatenate([flat, np.repeat([[-0.5], [0.5]], 4, axis=0)], axis=1)[None] * self.sizes_m[:, None]
        cos, sin = np.cos(self.yaws_rad)[:, None], np.sin(self.yaws_rad)[:, None]
        x = local[..., 0] * cos - local[..., 1] * sin
        y = local[..., 0] * sin + local[..., 1] * cos
        corners: FloatArray = np.stack([x, y, local[..., 2]], axis=-1) + self.centers_m[:, None]
        return corners

    def contain(self, points: FloatArray, margin_m: float = 0.0) -> BoolArray:
        """Return (N, M) bool: which of the points (M, 3), in the boxes' frame, lie in which box grown by a margin."""
        offset = points[None, :, :] - self.centers_m[:, None]
        cos, sin = np.cos(self.yaws_rad)[:, None], np.sin(self.yaws_rad)[:, None]
        along = offset[..., 0] * cos + offset[..., 1] * sin
        across = -offset[..., 0] * sin + offset[..., 1] * cos
        half = self.sizes_m / 2 + margin_m
        inside: BoolArray = (
            (np.abs(along) <= half[:, :1]) & (np.abs(across) <= half[:, 1:2]) & (np.abs(offset[..., 2]) <= half[:, 2:])
        )
        return inside


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

_MAX_LOG_SIZE = 4.0


def decode_candidates(
    outputs: dict[str, AnyArray], spec: ModelSpec, score_threshold: float, temperature: float = 1.0
) -> Boxes3D:
    """Return boxes in base_link from the fusion graph's outputs, best first.

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
        picked: FloatArray = values[:, [spec.regression.index(n) for n in names]]
        return picked

    corner = np.stack([columns, rows], axis=1) * spec.grid.cell_m - spec.grid.half_range_m
    xy = corner + (column("dx", "dy") + 0.5) * spec.grid.cell_m
    variance = np.exp(np.clip(column("log_var_xy", "log_var_xy", "log_var_z", "log_var_yaw"), -10.0, 6.0))
    logits = outputs["attributes"][keep].astype(np.float64)
    return Boxes3D(
        centers_m=np.concatenate([xy, column("z")], axis=1),
        sizes_m=np.exp(np.clip(column("log_length", "log_width", "log_height"), -_MAX_LOG_SIZE, _MAX_LOG_SIZE)),
        yaws_rad=_yaws_rad(column, spec),
        velocities_mps=column("vx", "vy"),
        labels=labels,
        scores=scores[keep],
        attributes=_attributes(logits, labels, spec.classes),
        sigmas=np.sqrt(variance),
    )


def _yaws_rad(column: Callable[..., FloatArray], spec: ModelSpec) -> FloatArray:
    """Return the headings: the axis, turned round where the direction vector points against it."""
    if "sin_yaw" in spec.regression:
        yaws: FloatArray = np.arctan2(*column("sin_yaw", "cos_yaw").T)
        return yaws
    axis = np.arctan2(*column("sin_2yaw", "cos_2yaw").T) / 2
    ahead = (column("heading_x", "heading_y") * np.stack([np.cos(axis), np.sin(axis)], axis=1)).sum(axis=1)
    return wrap_angle(np.where(ahead < 0, axis + np.pi, axis))


def calibrate(scores: FloatArray, temperature: float) -> FloatArray:
    """Return scores with their logits divided by a temperature; keeps their order."""
    if temperature == 1.0:
        return scores
    clipped = np.clip(scores, 1e-7, 1 - 1e-7)
    softened: FloatArray = 1.0 / (1.0 + np.exp(-np.log(clipped / (1 - clipped)) / temperature))
    return softened


def _attributes(logits: FloatArray, labels: IntArray, classes: tuple[str, ...]) -> IntArray:
    """Return the best attribute among those that each box's class may carry; -1 where it may carry none."""
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
    """Return radius of a class; 1 m for one that nuScenes does not have."""
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
