# SPDX-License-Identifier: Apache-2.0
"""Ground with slope and bumps, what stands on it, and how the ego lies on it."""

import numpy as np
import pytest

from peft_dml_tools.sim.ground import ground
from peft_dml_tools.sim.lidar import scan
from peft_dml_tools.sim.mesh import normals_of
from peft_dml_tools.sim.raycast import Caster
from peft_dml_tools.sim.suspension import attitude, body_motion
from peft_dml_tools.sim.terrain import Terrain
from peft_dml_tools.sim.vehicle_rig import make_rig
from peft_dml_tools.sim.world import World

SEEDS = range(10)


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [World.make(seed, 2.0) for seed in SEEDS]


def test_the_ground_is_as_uneven_as_a_real_one(worlds):
    lidar, lows = make_rig()["LIDAR_TOP"].base_SE3_sensor, []
    for world in worlds:
        sweep, _ = scan(Caster(world), lidar, 1.0, 0, np.random.default_rng(0))
        x, y, z = lidar.transform(sweep.points[:, :3].astype(np.float64)).T
        away = np.hypot(x, y)
        near = (away > 3) & (away < 50)
        quadrant = 2 * (x > 0) + (y > 0)
        lows += [np.percentile(z[near & (quadrant == k)], 10) for k in range(4)]
    # Real frames: -.4 to 1.9 m.
    assert -1.2 < np.min(lows) < -0.15
    assert np.std(lows) > 0.1
    assert abs(np.median(lows)) < 0.15


def test_mesh_and_things_lie_on_the_terrain(worlds):
    for world in worlds[:4]:
        mesh = ground(world.road, world.terrain)
        centres = mesh.vertices[mesh.faces].mean(axis=1).astype(np.float64)
        near = np.hypot(*centres[:, :2].T) < 60
        off = centres[near, 2] - world.terrain.height_m(centres[near, :2])
        assert off.min() > -0.12
        assert off.max() < 0.22  # the kerb is 0.15 m
        assert (normals_of(mesh)[:, 2] > -0.02).all()
        poses, _ = world.states(1.0)
        stands = poses[:, 3] - world.terrain.height_m(poses[:, :2])
        assert stands.min() > -1e-3
        assert stands.max() < 0.16


def test_the_ego_pitches_and_rolls_with_the_ground(worlds):
    for world in worlds:
        pose = world.world_SE3_base(1.0)
        ahead, left = (pose.translation + pose.rotation[:, k] * d for k, d in ((0, 2.6), (1, 0.75)))
        for point in (pose.translation, ahead, left):
            assert abs(point[2] - world.terrain.height_m(point[:2])) < 0.12


def test_braking_lowers_the_front_and_a_left_turn_lifts_the_left():
    steps = 100
    pose, still = np.zeros((steps, 3)), np.zeros(steps)
    plane = Terrain.make(np.random.default_rng(0), 0.0)
    body = body_motion(
        pose, still, still - 6.0, still + 4.0, Terrain.make(np.random.default_rng(0), 0.0), np.random.default_rng(0)
    )
    rest = body_motion(pose, still, still, still, plane, np.random.default_rng(0))
    roll, pitch = (body - rest)[50, 1:]
    assert np.rad2deg(pitch) == pytest.approx(1.2, abs=0.1)
    assert np.rad2deg(roll) == pytest.approx(0.8, abs=0.1)
    tilted = attitude(0.7, roll, pitch, (0.0, 0.0, 0.0))
    assert tilted.rotation[2, 0] < 0 < tilted.rotation[2, 1]
    assert tilted.yaw_rad == pytest.approx(0.7)


def test_a_relief_of_nothing_is_a_plane():
    flat = Terrain.make(np.random.default_rng(3), 0.0)
    np.testing.assert_array_equal(flat.height_m(np.random.default_rng(0).uniform(-90, 90, (50, 2))), 0.0)
