# SPDX-License-Identifier: Apache-2.0
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import RADAR_DTYPE, trusted_radar_points
from peft_dml_tools.sim import radar, radar_echo
from peft_dml_tools.sim.drive import Drive, DriveSpec
from peft_dml_tools.sim.radar_echo import Echoes
from peft_dml_tools.sim.raycast import Caster
from peft_dml_tools.sim.vehicle_rig import make_rig

RIG = make_rig(352)
AHEAD = RIG["RADAR_FRONT"].base_SE3_sensor


def _near(world, seeds, radius_m=8.0):
    """Points near the one actor, of some cycles of the front radar."""
    centre = AHEAD.inverse().transform(world.boxes(0.5).centers_m)[0]
    found = []
    for seed in range(seeds):
        points = radar.measure(Caster(world), AHEAD, 0.5, 0, np.random.default_rng(seed))[0].points
        found.append(points[np.hypot(points["x"] - centre[0], points["y"] - centre[1]) < radius_m])
    return np.concatenate(found)


@pytest.fixture(scope="module")
def sweeps():
    """All points of all radars, at some instants of some streets."""
    out = []
    for seed in (3, 8, 12, 17):
        drive = Drive(seed, 2.0, DriveSpec(camera_hz=0))
        for sensor in drive.rig.of("radar"):
            for time_s in (0.5, 1.5):
                rng = np.random.default_rng([seed, len(out)])
                out.append(radar.measure(drive.caster, sensor.base_SE3_sensor, time_s, 0, rng)[0].points)
    return out


def test_a_side_reflects_more_than_a_corner(bare_world):
    gain = radar_echo.aspect_gain_db(np.deg2rad([90.0, 0.0, 180.0, 45.0, -135.0, -90.0]))
    assert gain[0] > gain[1] > gain[3]
    np.testing.assert_allclose(gain[[5, 2, 4]], gain[[0, 1, 3]])
    side, corner = (_near(bare_world("car", at=(20.0, 0.0), yaw=yaw), 30) for yaw in (np.pi / 2, np.pi / 4))
    assert np.median(side["rcs"]) > np.median(corner["rcs"]) + 4.0


def test_classes_differ(bare_world):
    rcs = {c: np.median(_near(bare_world(c, at=(14.0, 0.0), yaw=0.8), 30)["rcs"]) for c in ("bus", "car", "pedestrian")}
    assert rcs["bus"] > rcs["car"] > rcs["pedestrian"]


def test_what_is_weak_is_seen_near_only(bare_world):
    near, far = (_near(bare_world("pedestrian", at=(x, 0.0)), 60, radius_m=2.0) for x in (12.0, 66.0))
    assert len(near) > 3 * len(far)
    assert far["rcs"].min(initial=99.0) > -4.0


def _echo(position, velocity, owner=0):
    one = np.array([position], dtype=np.float64)
    return Echoes(one, np.array([velocity], dtype=np.float64), np.array([9.0]), np.array([owner]), np.array([0]))


def test_a_wall_mirrors_place_and_speed():
    # A wall along x, 8 m to the left; the target moves away on the right of it.
    walls, normals = np.array([[15.0, 8.0]]), np.array([[0.0, -1.0]])
    image = radar_echo.mirrored(_echo((20.0, 3.0), (5.0, 1.0)), walls, normals, 1, np.random.default_rng(0))
    np.testing.assert_allclose(image.position_m, [[20.0, 13.0]])
    np.testing.assert_allclose(image.velocity_mps, [[5.0, -1.0]])
    assert image.rcs_dbsm[0] < 9.0 - 3.9
    behind = radar_echo.mirrored(_echo((20.0, 12.0), (5.0, 1.0)), walls, normals, 1, np.random.default_rng(0))
    assert len(behind.owner) == 0


def test_a_hidden_vehicle_is_seen_under_the_one_before_it():
    reflectors = radar_echo.Reflectors(
        *(np.array(v) for v in ([9.0, 9.0], [0.2, 0.2], [3, 3], [True, True], [0.0, 0.0]))
    )
    bearing = np.linspace(-0.5, 0.5, 101)
    nearest = (bearing, np.full(101, 10.0), np.zeros(101, np.int64))
    seen = 0
    for seed in range(200):
        found = radar_echo.hidden(
            reflectors,
            np.array([[12.0, 0.0], [25.0, 0.0]]),
            np.array([[0.0, 0.0], [7.0, 0.0]]),
            nearest,
            np.random.default_rng(seed),
        )
        assert set(found.owner) <= {1}
        np.testing.assert_array_equal(found.velocity_mps, np.full((len(found.owner), 2), [7.0, 0.0]))
        seen += len(found.owner)
    assert 10 < seen < 60


def test_fields_are_those_of_real_files(sweeps):
    points = np.concatenate(sweeps)
    trusted = points[trusted_radar_points(points)]
    assert 0.45 < len(trusted) / len(points) < 0.75
    assert set(np.unique(points["invalid_state"])) >= {0, 1, 4, 6, 11, 17}
    assert set(np.unique(points["ambig_state"])) >= {1, 2, 3, 4}
    assert set(np.unique(points["dyn_prop"])) >= {0, 1, 2, 3}
    assert (points["is_quality_valid"] == 1).all()
    for field, low, high in (("x_rms", 19, 24), ("y_rms", 19, 25), ("vx_rms", 16, 20), ("vy_rms", 3, 3)):
        assert low <= points[field].min() <= points[field].max() <= high
    assert Counter(trusted["pdh0"].tolist()).most_common(1)[0][0] == 1
    assert points["pdh0"].max() <= 4
    np.testing.assert_allclose(points["x"] * 5, np.round(points["x"] * 5), atol=1e-3)
    np.testing.assert_allclose(points["vx"] * 4, np.round(points["vx"] * 4), atol=1e-4)
    np.testing.assert_allclose(points["rcs"] * 2, np.round(points["rcs"] * 2), atol=1e-4)
    for one in sweeps:
        assert len(one) <= radar.MAX_POINTS
        assert one["id"].tolist() == list(range(len(one)))
        # The device counts by range; places are rounded.
        assert (np.diff(np.hypot(one["x"], one["y"])) > -0.4).all()


def test_compensated_and_raw_velocity_differ_by_the_vehicles_own(bare_world):
    world = bare_world("car", at=(25.0, 2.0), yaw=0.0, velocity=(3.0, 0.0), ego_speed=9.0)
    points = radar.measure(Caster(world), AHEAD, 0.5, 0, np.random.default_rng(0))[0].points
    np.testing.assert_allclose(points["vx"] - points["vx_comp"], -9.0, atol=0.13)
    np.testing.assert_allclose(points["vy"] - points["vy_comp"], 0.0, atol=0.13)


def test_nothing_lies_outside_the_lobes(sweeps):
    points = np.concatenate(sweeps)
    distance, bearing = np.hypot(points["x"], points["y"]), np.abs(np.arctan2(points["y"], points["x"]))
    assert (bearing[distance > radar.NARROW_RANGE_M + 0.5] < radar.NARROW_HALF_RAD + 0.01).all()
    assert (distance > radar.NARROW_RANGE_M).any()


def test_small_things_are_found_no_better_than_by_real_radars():
    points, met, objects = Counter(), Counter(), Counter()
    for seed in (3, 8, 12, 17, 21, 34):
        drive = Drive(seed, 2.0, DriveSpec(camera_hz=0))
        world, counts = drive.world, []
        for time_s in np.arange(0.5, 1.0, 1 / 13):
            for sensor in drive.rig.of("radar"):
                rng = np.random.default_rng([seed, len(counts)])
                counts.append(radar.measure(drive.caster, sensor.base_SE3_sensor, time_s, 0, rng)[1])
        distance = np.linalg.norm(world.boxes(0.75).centers_m[:, :2], axis=1)
        for actor, away, hits in zip(world.actors, distance, np.sum(counts, axis=0), strict=True):
            if away < 50:
                name = CLASSES[actor.label]
                objects[name] += 1
                points[name] += hits / (len(counts) / 5)
                met[name] += hits > 0
    # nuScenes: 0.2 points a pedestrian and frame, 0.1 a cone, 0.9 a car.
    for name, most, share in (("pedestrian", 0.3, 0.45), ("traffic_cone", 0.15, 0.45), ("barrier", 0.4, 0.45)):
        assert objects[name] > 20
        assert points[name] / objects[name] < most
        assert met[name] / objects[name] < share
    assert 0.5 < points["car"] / objects["car"] < 1.8


def test_numbers_are_near_real_ones(real_front_radar):
    counts, middles, rcs = [], [], []
    for seed in range(100, 107):
        drive = Drive(seed, 1.0, DriveSpec(camera_hz=0))
        points = radar.measure(drive.caster, AHEAD, 0.5, 0, np.random.default_rng(seed))[0].points
        points = points[trusted_radar_points(points)]
        counts.append(len(points))
        middles.append(np.median(np.hypot(points["x"], points["y"])))
        rcs.append(np.median(points["rcs"]))
    real = real_front_radar
    assert 1 / 1.5 < np.median(middles) / np.median(np.hypot(real["x"], real["y"])) < 1.5
    assert 30 < np.median(counts) < 1.5 * len(real)
    assert abs(np.median(rcs) - np.median(real["rcs"])) < 4.5


@pytest.fixture
def real_front_radar(real_keyframe: Path):
    """Points of a real front radar after the devkit's filters."""
    path = next((real_keyframe / "samples" / "RADAR_FRONT").glob("*.pcd"))
    content = path.read_bytes()
    begin = content.index(b"DATA binary\n") + len(b"DATA binary\n")
    points = np.frombuffer(content[begin : begin + 74 * RADAR_DTYPE.itemsize], RADAR_DTYPE)
    assert len(points) == 74
    return points


def test_a_turned_mounting_turns_what_is_seen(bare_world):
    world = bare_world("bus", at=(0.0, 20.0), yaw=0.0)
    left = SE3.from_yaw(np.pi / 2, (0.0, 0.0, 0.5))
    points = radar.measure(Caster(world), left, 0.5, 0, np.random.default_rng(1))[0].points
    near = points[(np.abs(points["x"] - 19.0) < 2.5) & (np.abs(points["y"]) < 7)]
    assert len(near) >= 2
