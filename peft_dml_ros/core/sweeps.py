# SPDX-License-Identifier: Apache-2.0
"""Sweeps of one sensor kind as one cloud in `base_link` at the reference time, written once, in place."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import LidarSweep, trusted_radar_points
from peft_dml_ros.core.typing import AnyArray, Float32Array


def spaced(sweeps: Sequence[LidarSweep], count: int, spacing_s: float) -> list[LidarSweep]:
    """The newest sweep and those before it at a spacing, so that a LiDAR's rate makes no difference to the network.

    A quarter less than the spacing is near enough: rates are not exact, and a slower LiDAR's sweeps are all taken.

    Args:
        sweeps: Newest first.
        count: Most that are taken.
        spacing_s: Time between these; 0 takes each.
    """
    kept: list[LidarSweep] = []
    for sweep in sweeps:
        if len(kept) < count and (not kept or kept[-1].stamp_ns - sweep.stamp_ns >= 0.75e9 * spacing_s):
            kept.append(sweep)
    return kept


def lidar_cloud(sweeps: Sequence[tuple[Float32Array, SE3, float]], min_range_m: float) -> Float32Array:
    """Accumulated LiDAR sweeps.

    Args:
        sweeps: Per sweep (N, 5) float32 points in the sensor's frame (x, y, z in m, intensity 0-255, ring), the
            transform `now_SE3_sensor`, and the age in s; newest first.
        min_range_m: Returns nearer to their sensor than this are the vehicle itself, and are left out, as are points
            that are not finite.

    Returns:
        (M, 5) float32: x, y, z in `base_link`, intensity 0-1, age in s.
    """
    cloud = np.empty((sum(len(points) for points, _, _ in sweeps), 5), dtype=np.float32)
    filled = 0
    for points, now_SE3_sensor, age_s in sweeps:
        filled = _append(
            *(points, now_SE3_sensor.rotation.astype(np.float32), now_SE3_sensor.translation.astype(np.float32)),
            *(np.float32(min_range_m**2), np.float32(age_s), cloud, filled),
        )
    return cloud[:filled]


@numba.njit(cache=True, nogil=True)
def _append(
    points: Float32Array,
    rotation: Float32Array,
    translation: Float32Array,
    min_square: np.float32,
    age_s: np.float32,
    cloud: Float32Array,
    filled: int,
) -> int:
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        square = x * x + y * y + z * z
        # Not-a-number fails every comparison.
        if not min_square < square < np.inf:
            continue
        for axis in range(3):
            turned = x * rotation[axis, 0] + y * rotation[axis, 1] + z * rotation[axis, 2]
            cloud[filled, axis] = turned + translation[axis]
        cloud[filled, 3] = points[i, 3] / np.float32(255.0)
        cloud[filled, 4] = age_s
        filled += 1
    return filled


def radar_cloud(sweeps: Sequence[tuple[AnyArray, SE3, float]]) -> Float32Array:
    """Accumulated radar sweeps of all radars, newest first.

    Args:
        sweeps: Per sweep its structured points (`RADAR_DTYPE`, sensor's frame), the transform `now_SE3_sensor`, and the
            age in s.

    Returns:
        (M, 6) float32: x, y in `base_link`, moved by v·age; RCS in dBsm; compensated velocity vx, vy in m/s; age in s.
    """
    # Structured arrays are concatenated field by field; their bytes are not.
    raw = np.frombuffer(b"".join(points.tobytes() for points, _, _ in sweeps), dtype=sweeps[0][0].dtype)
    number = np.repeat(np.arange(len(sweeps)), [len(points) for points, _, _ in sweeps])
    trusted = trusted_radar_points(raw)
    raw, number = raw[trusted], number[trusted]
    rotations = np.stack([pose.rotation for _, pose, _ in sweeps]).astype(np.float32)[number]
    translations = np.stack([pose.translation for _, pose, _ in sweeps]).astype(np.float32)[number]
    ages_s = np.array([age_s for _, _, age_s in sweeps], dtype=np.float32)[number]
    xyz = np.stack([raw["x"], raw["y"], raw["z"]], axis=1, dtype=np.float32)
    speed = np.stack([raw["vx_comp"], raw["vy_comp"]], axis=1, dtype=np.float32)
    velocity = np.einsum("nij,nj->ni", rotations[:, :2, :2], speed)
    points = np.empty((len(raw), 6), dtype=np.float32)
    points[:, :2] = np.einsum("nij,nj->ni", rotations[:, :2], xyz) + translations[:, :2] + velocity * ages_s[:, None]
    points[:, 2] = raw["rcs"]
    points[:, 3:5] = velocity
    points[:, 5] = ages_s
    points = points[np.isfinite(points).all(axis=1)]
    newest_first: Float32Array = points[np.argsort(points[:, 5], kind="stable")]
    return newest_first


def compile_kernels() -> None:
    """Compile everything here, which otherwise the first frame would have to wait for."""
    lidar_cloud([(np.ones((1, 5), dtype=np.float32), SE3.identity(), 0.0)], 0.0)
