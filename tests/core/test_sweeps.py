# SPDX-License-Identifier: Apache-2.0
"""Accumulated sweeps against a plain version of the same rule."""

import numpy as np
import pytest

from peft_dml_ros.core.geometry import SE3, rotation_from_rotvec, rotvec_from_rotation
from peft_dml_ros.core.measurements import RADAR_DTYPE, trusted_radar_points
from peft_dml_ros.core.pillars import lidar_cloud, radar_cloud


def pose(seed):
    rng = np.random.default_rng(seed)
    return SE3(rotation_from_rotvec(rng.normal(0, 1, 3)), rng.normal(0, 5, 3))


def test_lidar_sweeps_are_moved_scaled_and_cleaned():
    rng = np.random.default_rng(0)
    sweeps = [(rng.normal(0, 20, (200, 5)).astype(np.float32), pose(k), 0.05 * k) for k in range(3)]
    sweeps[1][0][5, 1] = np.nan
    sweeps[1][0][6, 0] = np.inf
    expected = []
    for points, now_SE3_sensor, age_s in sweeps:
        good = np.isfinite(points[:, :3]).all(axis=1) & (np.linalg.norm(points[:, :3], axis=1) > 8.0)
        moved = now_SE3_sensor.transform(points[good, :3].astype(np.float64))
        expected.append(np.column_stack([moved, points[good, 3] / 255, np.full(good.sum(), age_s)]))
    cloud = lidar_cloud(sweeps, 8.0)
    assert cloud.dtype == np.float32
    np.testing.assert_allclose(cloud, np.concatenate(expected), atol=1e-4)


def test_radar_points_move_by_their_velocity_and_come_newest_first():
    rng = np.random.default_rng(1)
    sweeps, expected = [], []
    for k, age_s in enumerate((0.2, 0.0, 0.1)):
        raw = np.zeros(50, dtype=RADAR_DTYPE)
        for name in ("x", "y", "z", "rcs", "vx_comp", "vy_comp"):
            raw[name] = rng.normal(0, 20, 50)
        raw["ambig_state"], raw["invalid_state"][:7] = 3, 4
        raw["x"][10] = np.nan
        sweeps.append((raw, pose(k), age_s))
        kept = raw[trusted_radar_points(raw) & np.isfinite(raw["x"])]
        for p in kept:
            velocity = pose(k).rotate(np.array([[p["vx_comp"], p["vy_comp"], 0.0]]))[0, :2]
            xy = pose(k).transform(np.array([[p["x"], p["y"], p["z"]]], dtype=np.float64))[0, :2] + velocity * age_s
            expected.append([*xy, p["rcs"], *velocity, age_s])
    cloud = radar_cloud(sweeps)
    expected = np.array(expected)
    np.testing.assert_allclose(cloud, expected[np.argsort(expected[:, 5], kind="stable")], atol=1e-3)
    assert len(cloud) == 3 * 42


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-6, 0.3, 1.6, 3.0, np.pi - 1e-5, np.pi])
def test_rotation_vectors_come_back(angle):
    axis = np.array([2.0, -1.0, 0.5]) / np.linalg.norm([2.0, -1.0, 0.5])
    rotation = rotation_from_rotvec(axis * angle)
    np.testing.assert_allclose(rotation_from_rotvec(rotvec_from_rotation(rotation)), rotation, atol=1e-9)
