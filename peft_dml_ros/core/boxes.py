# SPDX-License-Identifier: Apache-2.0
"""3D boxes: geometric centre, (length, width, height), yaw about +z from +x, all in `base_link` at one stamp."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3, wrap_angle
from peft_dml_ros.core.typing import BoolArray, FloatArray, IntArray

Index: TypeAlias = IntArray | BoolArray | slice


@dataclass(frozen=True, slots=True)
class Boxes3D:
    """N boxes.

    Attributes:
        centers_m: (N, 3) float64.
        sizes_m: (N, 3) float64: length, width, height, all >= 0.
        yaws_rad: (N,) float64.
        velocities_mps: (N, 2) float64: vx, vy; NaN where unknown (truth of a single frame).
        labels: (N,) int64 indices into `CLASSES`.
        scores: (N,) float64 in [0, 1]; 1 for truth.
        attributes: (N,) int64 indices into `ATTRIBUTES`, -1 for none.
        sigmas: (N, 4) float64 predicted standard deviations of x, y, z (m) and yaw (rad); 0 where unknown.
        ids: N strings, instance or track ids; empty tuple when untracked.
    """

    centers_m: FloatArray
    sizes_m: FloatArray
    yaws_rad: FloatArray
    velocities_mps: FloatArray
    labels: IntArray
    scores: FloatArray
    attributes: IntArray
    sigmas: FloatArray
    ids: tuple[str, ...] = field(default=())

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
            msg = f"boxes do not agree on their number: {'; '.join(wrong)}"
            raise DataError(msg)

    @classmethod
    def empty(cls) -> Boxes3D:
        """No boxes."""
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
    ) -> Boxes3D:
        """Boxes with defaults: standing still, score 1, no attribute, no variance."""
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

    def __getitem__(self, index: Index) -> Boxes3D:
        """The boxes that an index array, boolean mask or slice selects."""
        picked = np.arange(len(self))[index]
        return Boxes3D(
            self.centers_m[index],
            self.sizes_m[index],
            self.yaws_rad[index],
            self.velocities_mps[index],
            self.labels[index],
            self.scores[index],
            self.attributes[index],
            self.sigmas[index],
            tuple(self.ids[i] for i in picked) if self.ids else (),
        )

    def transform(self, a_SE3_b: SE3) -> Boxes3D:
        """The same boxes, given in frame b, in frame a; velocities turn, they are not compensated."""
        velocity = np.concatenate([self.velocities_mps, np.zeros((len(self), 1))], axis=1)
        return Boxes3D(
            a_SE3_b.transform(self.centers_m),
            self.sizes_m,
            wrap_angle(self.yaws_rad + a_SE3_b.yaw_rad),
            a_SE3_b.rotate(velocity)[:, :2],
            self.labels,
            self.scores,
            self.attributes,
            self.sigmas,
            self.ids,
        )

    def corners_m(self) -> FloatArray:
        """(N, 8, 3) corners: four of the bottom, then four of the top; the first two of each are the front's."""
        signs = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]], dtype=np.float64) / 2
        flat = np.concatenate([signs, signs])
        local = np.concatenate([flat, np.repeat([[-0.5], [0.5]], 4, axis=0)], axis=1)[None] * self.sizes_m[:, None]
        cos, sin = np.cos(self.yaws_rad)[:, None], np.sin(self.yaws_rad)[:, None]
        x = local[..., 0] * cos - local[..., 1] * sin
        y = local[..., 0] * sin + local[..., 1] * cos
        corners: FloatArray = np.stack([x, y, local[..., 2]], axis=-1) + self.centers_m[:, None]
        return corners

    def contain(self, points: FloatArray, margin_m: float = 0.0) -> BoolArray:
        """(N, M) bool: which of the points (M, 3), in the boxes' frame, lie in which box grown by a margin."""
        offset = points[None, :, :] - self.centers_m[:, None]
        cos, sin = np.cos(self.yaws_rad)[:, None], np.sin(self.yaws_rad)[:, None]
        along = offset[..., 0] * cos + offset[..., 1] * sin
        across = -offset[..., 0] * sin + offset[..., 1] * cos
        half = self.sizes_m / 2 + margin_m
        inside: BoolArray = (
            (np.abs(along) <= half[:, :1]) & (np.abs(across) <= half[:, 1:2]) & (np.abs(offset[..., 2]) <= half[:, 2:])
        )
        return inside
