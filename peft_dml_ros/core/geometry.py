# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms. `a_SE3_b` maps points given in frame b to frame a, so that names chain: `a_SE3_b @ b_SE3_c`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.typing import FloatArray

_Floating = TypeVar("_Floating", np.float32, np.float64)


@dataclass(frozen=True, slots=True)
class SE3:
    """Rigid transform."""

    rotation: FloatArray  #: (3, 3) float64, orthonormal
    translation: FloatArray  #: (3,) float64, metres

    def __post_init__(self) -> None:
        if self.rotation.shape != (3, 3) or self.translation.shape != (3,):
            msg = f"SE3 of {self.rotation.shape} and {self.translation.shape}"
            raise DataError(f"{msg}; fix: give rotation (3, 3), translation (3,)")

    @classmethod
    def identity(cls) -> SE3:
        """Return the transform that changes nothing."""
        return cls(np.eye(3), np.zeros(3))

    @classmethod
    def from_quaternion_wxyz(cls, quaternion_wxyz: npt.ArrayLike, translation_m: npt.ArrayLike) -> SE3:
        """Make one from a quaternion in nuScenes order (w, x, y, z) and a translation in metres."""
        return cls(rotation_from_quaternion_wxyz(quaternion_wxyz), np.asarray(translation_m, dtype=np.float64))

    @classmethod
    def from_quaternion_xyzw(cls, quaternion_xyzw: npt.ArrayLike, translation_m: npt.ArrayLike) -> SE3:
        """Make one from a quaternion in ROS order (x, y, z, w) and a translation in metres."""
        x, y, z, w = np.asarray(quaternion_xyzw, dtype=np.float64)
        return cls.from_quaternion_wxyz((w, x, y, z), translation_m)

    @classmethod
    def from_yaw(cls, yaw_rad: float, translation_m: npt.ArrayLike = (0.0, 0.0, 0.0)) -> SE3:
        """Return the rotation about +z, counter-clockwise from +x."""
        cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
        rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        return cls(rotation, np.asarray(translation_m, dtype=np.float64))

    def __matmul__(self, other: SE3) -> SE3:
        """Chain two transforms: `(a_SE3_b @ b_SE3_c)` is `a_SE3_c`."""
        return SE3(self.rotation @ other.rotation, self.rotation @ other.translation + self.translation)

    def inverse(self) -> SE3:
        """Return `b_SE3_a` of `a_SE3_b`."""
        transposed = self.rotation.T
        return SE3(transposed, -transposed @ self.translation)

    def transform(self, points: npt.NDArray[_Floating]) -> npt.NDArray[_Floating]:
        """Return points (N, 3) of frame b in frame a; keeps the dtype."""
        dtype = points.dtype
        moved: npt.NDArray[_Floating] = points @ self.rotation.T.astype(dtype) + self.translation.astype(dtype)
        return moved

    def rotate(self, vectors: npt.NDArray[_Floating]) -> npt.NDArray[_Floating]:
        """Return directions or velocities (N, 3) of frame b in frame a; keeps the dtype."""
        turned: npt.NDArray[_Floating] = vectors @ self.rotation.T.astype(vectors.dtype)
        return turned

    @property
    def yaw_rad(self) -> float:
        """Heading of frame b's x axis in the xy plane of frame a."""
        return float(np.arctan2(self.rotation[1, 0], self.rotation[0, 0]))

    @property
    def quaternion_wxyz(self) -> FloatArray:
        """(4,) unit quaternion, nuScenes order, w >= 0."""
        return quaternion_wxyz_from_rotation(self.rotation)

    @property
    def quaternion_xyzw(self) -> FloatArray:
        """(4,) unit quaternion, ROS order, w >= 0."""
        return np.roll(self.quaternion_wxyz, -1)


def rotation_from_quaternion_wxyz(quaternion_wxyz: npt.ArrayLike) -> FloatArray:
    """Return the rotation matrix (3, 3) of a quaternion (w, x, y, z) of any length but zero.

    Raises DataError: the quaternion is not four finite numbers, or has no length.
    """
    quaternion = np.asarray(quaternion_wxyz, dtype=np.float64)
    norm = float(np.linalg.norm(quaternion)) if quaternion.shape == (4,) else np.nan
    if not np.isfinite(norm) or norm < 1e-9:
        raise DataError(f"not a rotation quaternion: {quaternion.tolist()}; fix: give 4 finite numbers, not all zero")
    w, x, y, z = quaternion / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_wxyz_from_rotation(rotation: FloatArray) -> FloatArray:
    """Return the unit quaternion (w, x, y, z) with w >= 0 of a rotation matrix (3, 3).

    Takes the eigenvector of Bar-Itzhack's symmetric matrix: one formula for every angle, no branch near 180 degrees.
    """
    (a, b, c), (d, e, f), (g, h, i) = rotation
    symmetric = np.array(
        [
            [a - e - i, 0.0, 0.0, 0.0],
            [d + b, e - a - i, 0.0, 0.0],
            [g + c, h + f, i - a - e, 0.0],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    _, vectors = np.linalg.eigh(symmetric / 3.0)
    x, y, z, w = vectors[:, -1]
    quaternion = np.array([w, x, y, z])
    return quaternion if w >= 0 else -quaternion


def rotation_from_rotvec(rotvec_rad: FloatArray) -> FloatArray:
    """Return the rotation matrix (3, 3) of a rotation vector (3,) in rad (Rodrigues)."""
    angle = float(np.linalg.norm(rotvec_rad))
    x, y, z = rotvec_rad
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    if angle < 1e-8:
        return np.asarray(np.eye(3) + skew)
    first, second = np.sin(angle) / angle, (1.0 - np.cos(angle)) / angle**2
    turned: FloatArray = np.eye(3) + first * skew + second * skew @ skew
    return turned


def rotvec_from_rotation(rotation: FloatArray) -> FloatArray:
    """Return the rotation vector (3,) in rad, of length up to pi, of a rotation matrix (3, 3)."""
    (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
    twice_sine = np.array([h - f, c - g, d - b])
    sine, cosine = float(np.linalg.norm(twice_sine)) / 2, (a + e + i - 1) / 2
    angle = float(np.arctan2(sine, cosine))
    if sine > 1e-3 or cosine > 0:
        # The ratio tends to 1 at angle 0; near pi the sine no longer tells the axis.
        return np.asarray(twice_sine / 2 * (angle / sine if sine > 1e-9 else 1.0))
    axis = quaternion_wxyz_from_rotation(rotation)[1:]
    return np.asarray(axis / np.linalg.norm(axis) * angle)


def wrap_angle(angle_rad: npt.ArrayLike) -> FloatArray:
    """Return angles in [-pi, pi)."""
    return np.mod(np.asarray(angle_rad, dtype=np.float64) + np.pi, 2 * np.pi) - np.pi
