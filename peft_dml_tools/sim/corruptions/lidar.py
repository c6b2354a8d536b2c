# SPDX-License-Identifier: Apache-2.0
"""LiDAR corruptions: MultiCorrupt's (arXiv 2402.11677), and nuScenes-R's cut field of view and failing objects.

All take and return points (N, 5) float32: x, y, z in m (sensor frame), intensity 0-255, ring; severities are 1 to 3.
"""

from typing import Final

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import SE3, rotation_from_rotvec
from peft_dml_ros.core.typing import Float32Array
from peft_dml_tools.sim.weather.fog import fog as fog_points
from peft_dml_tools.sim.weather.precipitation import flakes, precipitate

RING_STEPS: Final = (2, 4, 8)  #: Every n-th ring stays, from ring 1: 16, 8, 4 of 32
DROPPED: Final = (0.7, 0.8, 0.9)
FOG: Final = ((0.02, 0.008), (0.03, 0.008), (0.06, 0.05))  #: Extinction in 1/m and backscatter in 1/(m sr)
SNOW: Final = ((0.5, 1.2), (2.5, 1.6), (1.5, 0.4))  #: Snowfall in mm/h and terminal velocity in m/s
BLUR_M: Final = (0.06, 0.1, 0.13)
JITTER_SHARES: Final = (0.15, 0.2, 0.12)
MISALIGNED: Final = ((0.2, 1.0), (0.4, 2.0), (0.6, 3.0))  #: Chance, and rotation about each axis in degrees
MISALIGNED_M: Final = (2.0, 0.0, 0.0)


def beams_reducing(points: Float32Array, severity: int) -> Float32Array:
    """Keep 16, 8 or 4 rings."""
    step = RING_STEPS[severity - 1]
    kept: Float32Array = points[(points[:, 4].astype(np.int64) % step) == 1]
    return kept


def points_reducing(points: Float32Array, severity: int, rng: np.random.Generator) -> Float32Array:
    """Drop 70, 80 or 90 % of the points, exactly so many, in their order."""
    kept = round(len(points) * (1 - DROPPED[severity - 1]))
    return points[np.sort(rng.permutation(len(points))[:kept])]


def fog(points: Float32Array, severity: int, rng: np.random.Generator) -> Float32Array:
    """Return a sweep in fog with the benchmark's pairs of extinction and backscatter."""
    alpha, beta = FOG[severity - 1]
    return fog_points(points, alpha, rng, beta_per_m_sr=beta)


def snow(points: Float32Array, severity: int, rng: np.random.Generator) -> Float32Array:
    """Return a sweep in snowfall at the benchmark's rates and fall speeds.

    The benchmark casts each ring's beams at discs, which takes hours a drive; here each beam meets its own flakes, as
    many as fill the same share of the air.
    """
    return precipitate(points, flakes(*SNOW[severity - 1]), rng)


def motion_blur(points: Float32Array, severity: int, rng: np.random.Generator) -> Float32Array:
    """Return a sweep with one shift, and jitter of each point."""
    sigma = BLUR_M[severity - 1]
    jitter = rng.normal(size=(len(points), 3)) * sigma * np.array(JITTER_SHARES)
    out = points.copy()
    out[:, :3] += (rng.normal(0, sigma, 3) + np.clip(jitter, -3 * sigma, 3 * sigma)).astype(np.float32)
    return out


def misalignment(severity: int, rng: np.random.Generator) -> SE3:
    """Return a wrong calibration with the benchmark's chance, else none: 1, 2, 3 degrees about each axis, 2 m.

    The benchmark draws for each sweep alone; one draw for all sweeps of a frame is how a mounting errs.
    """
    chance, angle_deg = MISALIGNED[severity - 1]
    if rng.random() >= chance:
        return SE3.identity()
    about_x, about_y, about_z = (rotation_from_rotvec(-np.deg2rad(angle_deg) * axis) for axis in np.eye(3))
    return SE3(about_x @ about_y @ about_z, np.array(MISALIGNED_M))


def moved(points: Float32Array, error: SE3) -> Float32Array:
    """Return points as a wrongly calibrated sensor gives them."""
    out = points.copy()
    out[:, :3] = error.transform(points[:, :3])
    return out


def field_of_view(points: Float32Array, base_SE3_lidar: SE3, half_angle_deg: float) -> Float32Array:
    """Return the points within an angle to either side of straight ahead (nuScenes-R: 90 and 60 degrees)."""
    sight = base_SE3_lidar.rotate(points[:, :3])
    kept: Float32Array = points[np.abs(np.arctan2(sight[:, 1], sight[:, 0])) <= np.deg2rad(half_angle_deg)]
    return kept


def object_failure(points: Float32Array, base_SE3_lidar: SE3, failing: Boxes3D) -> Float32Array:
    """Return a sweep without the points of objects that fail, in boxes grown by 5 cm.

    Args:
        points: The sweep.
        base_SE3_lidar: Maps it to the frame of the boxes.
        failing: Objects (nuScenes-R loses half of all, for the whole frame).
    """
    if not len(failing):
        return points
    inside = failing.contain(base_SE3_lidar.transform(points[:, :3].astype(np.float64)), 0.05).any(axis=0)
    left: Float32Array = points[~inside]
    return left
