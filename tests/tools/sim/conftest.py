# SPDX-License-Identifier: Apache-2.0
"""A bare street with one actor on it, so that what a sensor should see is known beforehand."""

from collections.abc import Callable

import numpy as np
import pytest

from peft_dml_tools.sim.actors import make_actor
from peft_dml_tools.sim.drive import Drive, DriveSpec
from peft_dml_tools.sim.mesh import Material, Mesh
from peft_dml_tools.sim.road import Road
from peft_dml_tools.sim.terrain import Terrain
from peft_dml_tools.sim.traffic import STEP_S
from peft_dml_tools.sim.world import Ego, World

WorldMaker = Callable[..., World]


def _bare_world(cls="car", at=(20.0, 3.0), yaw=0.3, velocity=(0.0, 0.0), ego_speed=0.0, yaw_rate=0.0) -> World:
    """Ego at the origin looking along x, and one actor."""
    times = np.arange(0.0, 4.0, STEP_S)
    stations = np.arange(-140.0, 200.0)
    road = Road(stations, np.stack([stations, 0 * stations], 1), 0 * stations, 1, 1, ())
    place = np.array([*at, yaw]) + times[:, None] * np.array([*velocity, 0.0])
    actor = make_actor("one", cls, place, np.random.default_rng(3))
    heading = yaw_rate * times
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * ego_speed * STEP_S, axis=0)
    ego = Ego(
        np.column_stack([path - path[0], heading]),
        np.full(len(times), float(ego_speed)),
        np.zeros(len(times)),
        np.full(len(times), float(yaw_rate)),
        np.zeros((len(times), 3)),
    )
    corners = np.array([[-300, -300, 0], [300, -300, 0], [300, 300, 0], [-300, 300, 0]], np.float32)
    ground = Mesh.make(corners, np.array([[0, 1, 2], [0, 2, 3]]), Material((0.2, 0.2, 0.2), 0.2))
    poses = np.pad(actor.track, ((0, 0), (0, 1)))[None]
    speeds = np.gradient(poses[..., :2], STEP_S, axis=1)
    sun = np.array([0.0, 0.6, 0.8])
    plane = Terrain.make(np.random.default_rng(0), 0.0)
    return World(0, 3.0, road, (actor,), ground, times, poses, speeds, ego, sun, plane)


@pytest.fixture(scope="session")
def bare_world() -> WorldMaker:
    return _bare_world


@pytest.fixture(scope="session")
def drive() -> Drive:
    """A short drive on a full street."""
    return Drive(11, 1.2, DriveSpec(image_width_px=96, camera_hz=2.0))
