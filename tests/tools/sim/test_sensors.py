# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from peft_dml_ros.core.classes import CLASSES
from peft_dml_tools.sim import radar
from peft_dml_tools.sim.actors import CLASS_STATISTICS
from peft_dml_tools.sim.raycast import Caster
from peft_dml_tools.sim.vehicle_rig import make_rig

RIG = make_rig(352)


def test_no_return_is_lost_between_neighbouring_movers_and_the_rest(bare_world):
    still, moving = bare_world(velocity=(0.0, 0.0)), bare_world(velocity=(1e-3, 0.0))
    ranges = []
    for world in (still, moving):
        rays = np.random.default_rng(1).normal(size=(20000, 3))
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        ranges.append(Caster(world).at(0.0).cast(np.array([0, 0, 1.5]), rays).range_m)
    np.testing.assert_allclose(ranges[0], ranges[1], rtol=1e-4, atol=1e-3)


def _over_boxes(world, sensor, points, time_s):
    """Radar points over a box's footprint."""
    place = np.stack([points["x"], points["y"], 0 * points["x"]], axis=1).astype(np.float64)
    place[:, 2] = 0.5 - RIG[sensor].base_SE3_sensor.translation[2]
    inside = world.boxes(time_s).contain(RIG[sensor].base_SE3_sensor.transform(place), 0.3)
    return points[inside.any(axis=0)]


@pytest.mark.parametrize("ego_speed", [0.0, 8.0])
@pytest.mark.parametrize(("speed", "state"), [(6.0, 0), (-6.0, 2)])
def test_radar_doppler_is_positive_for_what_goes_away(bare_world, ego_speed, speed, state):
    world = bare_world(at=(30.0, 0.0), yaw=0.0, velocity=(speed, 0.0), ego_speed=ego_speed)
    found = []
    for seed in range(8):
        sweep, _ = radar.measure(Caster(world), RIG["RADAR_FRONT"].base_SE3_sensor, 0.5, 0, np.random.default_rng(seed))
        found.append(_over_boxes(world, "RADAR_FRONT", sweep.points, 0.5))
    points = np.concatenate(found)
    assert len(points) > 5
    assert np.median(points["vx_comp"]) == pytest.approx(speed, abs=0.4)
    assert np.median(points["vx"]) == pytest.approx(speed - ego_speed, abs=0.4)
    assert (points["dyn_prop"] == state).mean() > 0.9


def test_radar_compensates_a_turn(bare_world):
    world = bare_world("bus", at=(6.0, 9.0), yaw=0.0, ego_speed=8.0, yaw_rate=0.4)
    speeds = []
    for seed in range(8):
        sweep, _ = radar.measure(
            Caster(world), RIG["RADAR_FRONT_LEFT"].base_SE3_sensor, 0.3, 0, np.random.default_rng(seed)
        )
        points = _over_boxes(world, "RADAR_FRONT_LEFT", sweep.points, 0.3)
        speeds.append(np.hypot(points["vx_comp"], points["vy_comp"]))
    assert np.median(np.concatenate(speeds)) < 0.3


def test_radar_keeps_to_its_field_of_view(drive):
    points = radar.measure(drive.caster, RIG["RADAR_FRONT"].base_SE3_sensor, 0.5, 0, np.random.default_rng(0))[0].points
    bearing = np.arctan2(points["y"], points["x"])
    assert np.abs(bearing).max() < radar.HALF_FOV_RAD + 0.08
    assert len(points) <= radar.MAX_POINTS
    assert (points["z"] == 0).all()


def test_every_class_has_statistics():
    assert set(CLASS_STATISTICS) == set(CLASSES)
