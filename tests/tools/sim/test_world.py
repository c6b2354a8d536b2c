# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import ATTRIBUTES, CLASSES
from peft_dml_ros.core.classes import ATTRIBUTES_OF_CLASS as ALLOWED
from peft_dml_tools.sim import people
from peft_dml_tools.sim.actors import CLASS_STATISTICS, draw_size
from peft_dml_tools.sim.domain import PRESETS
from peft_dml_tools.sim.mesh import Material, box, column, ellipsoid, normals_of, wheel
from peft_dml_tools.sim.road import Road
from peft_dml_tools.sim.route import DrivePlan
from peft_dml_tools.sim.traffic import Vehicle, drive_lane
from peft_dml_tools.sim.world import World

GREY = Material((0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [World.make(seed, 3.0) for seed in range(8)]


@pytest.mark.parametrize(
    "mesh",
    [
        box((1, 2, 3), GREY),
        wheel(0.5, 0.2, (0, 0, 0), GREY),
        column([1, 0.5], [0, 2], GREY),
        ellipsoid((1, 2, 3), (0, 0, 0), GREY),
    ],
    ids=["box", "wheel", "column", "ellipsoid"],
)
def test_primitives_face_outwards(mesh):
    centres = mesh.vertices[mesh.faces].mean(axis=1) - mesh.vertices.mean(axis=0)
    assert (np.einsum("ij,ij->i", normals_of(mesh), centres) > 0).all()


def test_a_seed_makes_one_world():
    a, b, other = World.make(5, 2.0), World.make(5, 2.0), World.make(6, 2.0)
    np.testing.assert_array_equal(a.poses, b.poses)
    np.testing.assert_array_equal(a.background.vertices, b.background.vertices)
    np.testing.assert_array_equal(a.ego.pose, b.ego.pose)
    assert a.poses.shape != other.poses.shape or not np.allclose(a.poses, other.poses)


@pytest.mark.parametrize("cls", CLASSES)
def test_sizes_follow_the_statistics(cls):
    rng = np.random.default_rng(0)
    sizes = np.array([draw_size(cls, rng) for _ in range(400)])
    kind = CLASS_STATISTICS[cls]
    np.testing.assert_allclose(sizes.mean(axis=0), kind.mean_m, atol=0.15 * np.array(kind.std_m).max() + 0.01)
    assert (np.abs(sizes - kind.mean_m) <= 2.01 * np.array(kind.std_m) + 1e-3).all()


def test_meshes_fill_their_boxes(worlds):
    for actor in worlds[0].actors:
        low, high = actor.mesh.vertices.min(axis=0), actor.mesh.vertices.max(axis=0)
        np.testing.assert_allclose(high - low, actor.size_m - [0.06, 0.06, 0.03], atol=1e-4)
        assert low[2] == pytest.approx(0.0, abs=1e-5)


def test_all_classes_appear_with_attributes_they_may_carry(worlds):
    seen = set()
    for world in worlds:
        boxes = world.boxes(1.0)
        seen |= {CLASSES[i] for i in boxes.labels}
        for label, attribute in zip(boxes.labels, boxes.attributes, strict=True):
            allowed = ALLOWED[CLASSES[label]]
            assert attribute in allowed if allowed else attribute == -1
    assert seen == set(CLASSES)


def test_velocity_is_the_change_of_place(worlds):
    for world in worlds[:3]:
        before, now, after = (world.boxes(t).transform(world.world_SE3_base(t)) for t in (0.9, 1.0, 1.1))
        rate = (after.centers_m - before.centers_m)[:, :2] / 0.2
        np.testing.assert_allclose(rate, now.velocities_mps, atol=0.25)
        moving = np.array([ATTRIBUTES[a].endswith(".moving") if a >= 0 else False for a in now.attributes])
        speed = np.linalg.norm(now.velocities_mps, axis=1)
        assert (speed[moving] > 0.2).all()


def test_vehicles_drive_forwards(worlds):
    for world in worlds:
        boxes: Boxes3D = world.boxes(1.5)
        speed = np.linalg.norm(boxes.velocities_mps, axis=1)
        heading = np.stack([np.cos(boxes.yaws_rad), np.sin(boxes.yaws_rad)], axis=1)
        along = np.einsum("ij,ij->i", boxes.velocities_mps, heading)
        assert (along[speed > 1.0] > 0.98 * speed[speed > 1.0]).all()


def test_nobody_drives_into_the_one_ahead():
    rng = np.random.default_rng(0)
    lane = [Vehicle("car", 18.0 * i, 8.0, float(rng.uniform(2, 15)), 4.6) for i in range(10)]
    lane.append(Vehicle("bus", 200.0, 5.0, 5.0, 12.0, stop_at_m=230.0, go_at_s=1e9))
    stations, speeds = drive_lane(lane, 600)
    order = np.argsort(stations[:, 0])
    lengths = np.array([v.length_m for v in lane])[order]
    gaps = np.diff(stations[order], axis=0) - ((lengths[1:] + lengths[:-1]) / 2)[:, None]
    assert gaps.min() > 0.3
    assert speeds.min() >= 0
    assert stations[-1].max() < 230.0


def test_ego_moves_along_its_heading(worlds):
    for world in worlds:
        moved = np.diff(world.ego.pose[:, :2], axis=0)
        heading = world.ego.pose[:-1, 2]
        aside = -moved[:, 0] * np.sin(heading) + moved[:, 1] * np.cos(heading)
        assert np.abs(aside).max() < 0.03
        speed = np.linalg.norm(moved, axis=1) / 0.05
        np.testing.assert_allclose(speed, world.ego.speed_mps[:-1], atol=0.3)


def _planned(wanted, duration_s, count):
    """The first worlds of a kind."""
    plans = ((seed, DrivePlan.draw(np.random.default_rng([seed, 0]), duration_s)) for seed in range(400))
    return [World.make(seed, duration_s) for seed, plan in itertools.islice((p for p in plans if wanted(p[1])), count)]


def _forces(world):
    """The ego's speeds, accelerations and yaw rates while the drive lasts."""
    driven = world.times_s <= world.duration_s
    return world.ego.speed_mps[driven], world.ego.accel_mps2[driven], world.ego.yaw_rate_radps[driven]


def test_drives_range_from_standstill_to_thirty_metres_a_second():
    plans = [DrivePlan.draw(np.random.default_rng([seed, 0]), 10.0) for seed in range(500)]
    wishes = np.array([p.desired_mps for p in plans])
    assert wishes.min() < 0.2
    assert 28 < wishes.max() <= 30
    assert 0.1 < np.mean([p.fast for p in plans]) < 0.25
    assert 0.15 < np.mean([p.turn != 0 for p in plans]) < 0.35
    (fast,) = _planned(lambda p: p.fast and p.desired_mps > 28, 4.0, 1)
    speed, _, _ = _forces(fast)
    assert speed.max() > 20
    assert fast.road.crossings == ()
    people = sum(CLASSES[a.label] == "pedestrian" for a in fast.actors)
    assert people < 0.15 * len(fast.actors)


@pytest.mark.parametrize("sense", [-1, 1])
def test_ego_turns_at_crossings(sense):
    for world in _planned(lambda p: p.turn == sense, 16.0, 2):
        speed, _, rate = _forces(world)
        turned = np.ptp(world.ego.pose[world.times_s <= world.duration_s, 2])
        assert np.deg2rad(60) < turned < np.deg2rad(125)
        sharpest = np.argmax(np.abs(rate))
        assert 0.3 < np.abs(rate[sharpest]) < 0.7
        assert 3.0 < speed[sharpest] < 8.0


def test_ego_brakes_hard_for_something_in_the_road():
    for world in _planned(lambda p: np.isfinite(p.halt_s) and p.desired_mps > 8, 8.0, 2):
        speed, accel, _ = _forces(world)
        assert -8.5 < accel.min() < -3.0
        assert speed.min() >= 0


def test_ego_brakes_behind_one_who_brakes():
    lane = [
        Vehicle("ego", 0.0, 14.0, 14.0, 4.1, headway_s=0.8),
        Vehicle("car", 20.0, 14.0, 14.0, 4.6, halt_at_s=2.0, halt_for_s=9.0, halt_mps2=7.0),
    ]
    stations, speeds = drive_lane(lane, 200)
    assert (stations[1] - stations[0]).min() > 4.35
    assert np.diff(speeds[0]).min() / 0.05 < -4.5
    assert speeds[:, -1] == pytest.approx([0, 0], abs=0.1)


def test_nobody_is_where_the_ego_drives(worlds):
    for world in [*worlds[:4], *_planned(lambda p: p.turn != 0, 6.0, 2)]:
        for time_s in np.arange(0.0, world.duration_s, 0.5):
            boxes = world.boxes(time_s)
            places = np.array([[x, y, 0.9] for x in (-0.6, 1.3, 3.2) for y in (-0.8, 0.0, 0.8)])
            assert not boxes.contain(places).any()


def test_people_differ():
    rng = np.random.default_rng(0)
    strides = [np.ptp(people.person(rng, moving=True).vertices[:, 0]) for _ in range(20)]
    assert np.ptp(strides) > 0.1
    assert np.median(strides) > np.median([np.ptp(people.person(rng, moving=False).vertices[:, 0]) for _ in range(20)])


def test_a_crossing_beyond_the_end_of_a_short_road_is_left_out():
    """The road of a slow drive ends 172 m ahead; the second crossing may lie at 179 m."""
    for seed in range(300):
        road = Road.make(32.0, np.random.default_rng(seed), PRESETS["target"], corner=True)
        assert all(crossing.station_m <= road.stations_m[-1] for crossing in road.crossings)
