# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import ATTRIBUTES, CLASSES
from peft_dml_ros.core.classes import ATTRIBUTES_OF_CLASS as ALLOWED
from peft_dml_ros.sim.actors import KINDS, draw_size
from peft_dml_ros.sim.mesh import Material, box, column, ellipsoid, normals_of, wheel
from peft_dml_ros.sim.traffic import Vehicle, drive_lane
from peft_dml_ros.sim.world import World

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
    kind = KINDS[cls]
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
