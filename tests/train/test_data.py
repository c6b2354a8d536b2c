# SPDX-License-Identifier: Apache-2.0
"""Augmentation keeps inputs and truth in agreement; masks are drawn as designed."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.camera_view import voxel_lookup
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.pillars import lidar_pillars, radar_pillars
from peft_dml_ros.core.rig import CameraModel, Rig, Sensor
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.config import DropoutConfig, SplitConfig
from peft_dml_train.data.augment import another_lidar, degrade, mirror
from peft_dml_train.data.batch import BatchStream, collate, draw_mask, frame_weights
from peft_dml_train.data.dataset import load_degraded, load_frames
from peft_dml_train.data.frame import NO_DEPTH, CameraFrame, Frame, Pillars, project_depth
from peft_dml_train.data.paste import collect_objects, inside, paste
from peft_dml_train.data.points import lidar_points, radar_points, to_lidar, to_radar
from peft_dml_train.data.sensor_corruption import corrupt
from peft_dml_train.data.turn import WorldMotion, turn
from peft_dml_train.loop.stages import stage_stream

SPEC = ModelSpec()


def frame_of(points, radar, rig):
    """A frame as the assembler would make it of these points."""
    entries = {}
    for name, (pillars, index_map), capacity in (
        ("lidar", lidar_pillars(points, SPEC.grid, SPEC.lidar), SPEC.lidar.pillars),
        ("radar", radar_pillars(radar, SPEC.grid, SPEC.radar), SPEC.radar.pillars),
    ):
        cells = np.flatnonzero(index_map < capacity).astype(np.int32)
        entries[name] = Pillars(pillars[index_map[cells]], cells)
    images = np.random.default_rng(0).integers(0, 256, (6, 128, 352, 3), dtype=np.uint8)
    camera = CameraFrame(
        images, np.ones(6, np.float32), *voxel_lookup(SPEC, rig), project_depth(points[:, :3], rig, SPEC)
    )
    ones = np.ones(5, np.float32)
    boxes = Boxes3D.make(np.array([[10.0, 4, 1]]), np.array([[4.0, 2, 1.5]]), np.array([0.4]), np.array([0]))
    windows = {"imu": np.ones((32, 7), np.float32), "gnss": np.ones((8, 6), np.float32)}
    return Frame("t", entries, camera, windows, ones, ones, ones, ones, boxes)


def forward_camera(y_m):
    """Looks along +x from the given side of the vehicle."""
    optical = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    k = np.array([[280.0, 0, 175.5], [0, 280.0, 63.5], [0, 0, 1]])
    return Sensor("CAM_FRONT", "camera", SE3(optical, np.array([1.5, y_m, 1.5])), CameraModel(k, 352, 128))


def test_mirrored_frame_equals_the_frame_of_the_mirrored_world():
    draw = np.random.default_rng(1)
    # One point per pillar, so that the order within pillars does not matter.
    lidar = np.concatenate([draw.uniform(-50, 50, (400, 2)), draw.uniform(-1, 3, (400, 1)), draw.random((400, 2))], 1)
    cells = np.floor((lidar[:, :2] + 51.2) / 0.4).astype(int)
    lidar = lidar[np.unique(cells @ [1, 1000], return_index=True)[1]].astype(np.float32)
    radar = draw.normal(size=(1, 6)).astype(np.float32)
    turn = np.array([1, -1, 1, 1, 1], np.float32)
    turn_radar = np.array([1, -1, 1, 1, -1, 1], np.float32)
    own = mirror(frame_of(lidar, radar, Rig({"CAM_FRONT": forward_camera(0.4)})), SPEC)
    wanted = frame_of(lidar * turn, radar * turn_radar, Rig({"CAM_FRONT": forward_camera(-0.4)}))
    for name in ("lidar", "radar"):
        a, b = own.pillars[name], wanted.pillars[name]
        a = a.take(np.argsort(a.cells))
        np.testing.assert_array_equal(a.cells, b.cells)
        np.testing.assert_allclose(a.points, b.points, atol=1e-5)
    assert np.mean(own.camera.voxel_pixel == wanted.camera.voxel_pixel) > 0.995
    assert np.mean(own.camera.voxel_depth == wanted.camera.voxel_depth) > 0.995
    assert np.mean(own.camera.depth_bins == wanted.camera.depth_bins) > 0.995
    assert (own.camera.depth_bins != NO_DEPTH).sum() > 20
    assert own.boxes.centers_m[0, 1] == -4
    assert own.boxes.yaws_rad[0] == pytest.approx(-0.4)


def test_turned_frame_equals_the_frame_of_the_turned_world():
    draw = np.random.default_rng(2)
    lidar = np.concatenate([draw.uniform(-50, 50, (400, 2)), draw.uniform(-1, 3, (400, 1)), draw.random((400, 2))], 1)
    cells = np.floor((lidar[:, :2] + 51.2) / 0.4).astype(int)
    lidar = lidar[np.unique(cells @ [1, 1000], return_index=True)[1]].astype(np.float32)
    radar = draw.normal(size=(1, 6)).astype(np.float32)
    # A right angle maps cells onto cells, so that the tables have to agree exactly.
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    seen = forward_camera(0.4)
    pose = SE3(quarter, np.zeros(3)) @ seen.base_SE3_sensor
    turned_rig = Rig({"CAM_FRONT": Sensor("CAM_FRONT", "camera", pose, seen.camera)})
    turned_lidar, turned_radar = lidar.copy(), radar.copy()
    turned_lidar[:, :2] = lidar[:, :2] @ quarter[:2, :2].T
    turned_radar[:, :2], turned_radar[:, 3:5] = radar[:, :2] @ quarter[:2, :2].T, radar[:, 3:5] @ quarter[:2, :2].T
    own = turn(frame_of(lidar, radar, Rig({"CAM_FRONT": seen})), WorldMotion(np.pi / 2), SPEC)
    wanted = frame_of(turned_lidar, turned_radar, turned_rig)
    for name in ("lidar", "radar"):
        a, b = (entry.take(np.argsort(entry.cells)) for entry in (own.pillars[name], wanted.pillars[name]))
        np.testing.assert_array_equal(a.cells, b.cells)
        np.testing.assert_allclose(a.points, b.points, atol=2e-5)
    assert np.mean(own.camera.voxel_pixel == wanted.camera.voxel_pixel) > 0.995
    assert np.mean(own.camera.voxel_depth == wanted.camera.voxel_depth) > 0.995
    np.testing.assert_allclose(own.boxes.centers_m[0], [-4, 10, 1], atol=1e-9)
    assert own.boxes.yaws_rad[0] == pytest.approx(0.4 + np.pi / 2)
    np.testing.assert_allclose(own.windows["imu"][0], [-1, 1, 1, -1, 1, 1, 1], atol=1e-6)


def test_scale_acts_on_places_sizes_and_speeds(frames, config):
    before = frames[0]
    after = turn(before, WorldMotion(0.3, scale=1.05), config.spec)
    np.testing.assert_allclose(after.boxes.sizes_m, before.boxes.sizes_m * 1.05)
    for name in ("centers_m", "velocities_mps"):
        lengths = [np.linalg.norm(getattr(f.boxes, name)[:, :2], axis=1) for f in (before, after)]
        np.testing.assert_allclose(lengths[1], lengths[0] * 1.05)
    np.testing.assert_allclose(after.windows["gnss"][:, 1:5], before.windows["gnss"][:, 1:5] * 1.05, rtol=1e-6)
    np.testing.assert_array_equal(after.windows["gnss"][:, [0, 5]], before.windows["gnss"][:, [0, 5]])


def crowd(seed):
    """A frame with a cloud of points in each box, moving radar points among them."""
    draw = np.random.default_rng(seed)
    boxes = Boxes3D.make(
        np.array([[12.0, 5, 1], [-20, 8, 1]]),
        np.array([[4.0, 2, 2], [1, 1, 2]]),
        np.array([0.3, 1.0]),
        np.array([0, 8]),
        velocities_mps=np.array([[6.0, 2], [0, 0]]),
    )
    lidar = np.concatenate([boxes.centers_m[i] + draw.uniform(-0.3, 0.3, (40, 3)) for i in (0, 1)])
    lidar = np.concatenate([lidar, np.full((80, 1), 0.5), np.zeros((80, 1))], axis=1).astype(np.float32)
    radar = np.array([[12.0, 5, 10, 6, 2, 0.05]], dtype=np.float32)
    frame = frame_of(lidar, radar, Rig({"CAM_FRONT": forward_camera(0.4)}))
    return replace(frame, boxes=boxes)


def test_pasted_objects_bring_their_points_and_take_the_camera_away():
    store = collect_objects([crowd(1), crowd(2)])
    assert [len(objects) for objects in store] == [2, 0, 0, 0, 0, 0, 0, 0, 2, 0]
    before = crowd(3)
    after = paste(before, store, 6, SPEC, np.random.default_rng(0))
    new = np.arange(len(before.boxes), len(after.boxes))
    assert len(new) >= 3
    assert after.camera is None
    assert after.mask.tolist() == [1, 0, 1, 1, 1]
    points, echoes = lidar_points(after.pillars["lidar"]), radar_points(after.pillars["radar"])
    for i in new:
        assert inside(points, after.boxes, i).sum() >= 5
        distance = np.linalg.norm(after.boxes.centers_m[:, :2] - after.boxes.centers_m[i, :2], axis=1)
        assert np.sort(distance)[1] > 1.0
        if after.boxes.labels[i] == 0:
            mine = echoes[inside(echoes, after.boxes, i)]
            np.testing.assert_allclose(mine[0, 3:5], after.boxes.velocities_mps[i], atol=1e-3)
            course = np.arctan2(*after.boxes.velocities_mps[i][::-1]) - after.boxes.yaws_rad[i]
            assert np.cos(course - np.arctan2(2, 6) + 0.3) == pytest.approx(1, abs=1e-6)
    assert len(before.boxes) == 2, "the frame in memory must not change"


def test_frames_with_rare_classes_come_more_often(frames, config):
    common = [replace(f, boxes=Boxes3D.make(*(np.zeros((9, 3)),) * 2, np.zeros(9), np.zeros(9, int))) for f in frames]
    rare = replace(frames[0], token="rare", boxes=Boxes3D.make(*(np.ones((1, 3)),) * 2, np.zeros(1), np.array([4])))
    weights = frame_weights([*common, rare], 1.0)
    assert weights.sum() == pytest.approx(1)
    assert frame_weights([*common, rare], 0.0).max() == pytest.approx(0.2)
    one_car = frame_weights([*common, replace(rare, boxes=replace(rare.boxes, labels=np.array([0])))], 1.0)
    assert weights[-1] > 1.5 * one_car[-1]
    stage = config.pretrain.model_copy(update={"balance": 1.0, "batch": 1})
    batches = BatchStream([*common, rare], config, stage, seed=0)
    drawn = np.mean([batches._picked(step)[0] == 4 for step in range(500)])
    assert drawn == pytest.approx(weights[-1], abs=0.02)


def test_weather_and_corruptions_lower_the_quality_of_what_they_harm(miniature):
    load = partial(load_frames, miniature, ("sim_val",), SPEC, slice(0, 2))
    clear, foggy = load(), load(weather=("fog=20",), seed=1)
    for a, b in zip(clear, foggy, strict=True):
        assert (a.quality == 1).all()
        assert b.quality[1] == pytest.approx(20 / 400)
        assert b.quality[0] == pytest.approx(20 / 200)
        assert b.quality[2] == 1
        assert b.camera.images.std() < 0.7 * a.camera.images.std()
        reach = [np.hypot(*f.pillars["lidar"].points[:, 0, :2].T).max() for f in (a, b)]
        assert reach[1] < 0.8 * reach[0]
    corrupted = load_degraded(miniature, ("sim_val",), SPEC, slice(None), 1.0, 3)
    assert len(corrupted) == 6
    assert sum(f.quality.min() < 0.99 for f in corrupted) >= 4
    with pytest.raises(ConfigError, match="hail"):
        load(weather=("hail=3",))
    with pytest.raises(ConfigError, match="severity"):
        load(weather=("dark/4",))


def test_frames_to_train_on_may_be_corrupted_too(miniature):
    load = partial(load_frames, miniature, ("sim_val",), SPEC, slice(0, 2))
    for clear, noisy in zip(load(), load(weather=("radar_noise/3",)), strict=True):
        assert noisy.quality.tolist() == [1, 1, 0, 1, 1]
        assert not np.array_equal(clear.pillars["radar"].cells, noisy.pillars["radar"].cells)
        np.testing.assert_array_equal(clear.pillars["lidar"].points, noisy.pillars["lidar"].points)


def test_masks_keep_a_detecting_modality_and_the_designed_rates():
    draw = np.random.default_rng(0)
    masks = np.array([draw_mask(np.ones(5, np.float32), DropoutConfig(), 1.0, draw) for _ in range(4000)])
    assert (masks[:, :3].sum(axis=1) > 0).all()
    # Given that not all three are gone: P(LiDAR dropped) = (.5 - .5·.5·.3) / (1 - .5·.5·.3).
    np.testing.assert_allclose(1 - masks.mean(axis=0), [0.459, 0.459, 0.243, 0.3, 0.3], atol=0.03)


def test_tilts_are_rotations_and_carry_boxes_and_points_alike(frames, config):
    pitch, roll = 0.026, -0.02
    c, s, d, t = np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    tilt = np.array([[1, 0, 0], [0, d, -t], [0, t, d]]) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    lidar = np.zeros((6, 5), dtype=np.float32)
    lidar[:, :3] = frames[0].boxes.centers_m
    before = replace(frames[0], pillars={"lidar": to_lidar(lidar, config.spec)})
    after = turn(before, WorldMotion(pitch_rad=pitch, roll_rad=roll, rise_m=0.25), config.spec)
    wanted = (before.boxes.centers_m @ tilt.T)[:, 2] + 0.25
    np.testing.assert_allclose(after.boxes.centers_m[:, 2], wanted, atol=0.02)
    np.testing.assert_allclose(np.sort(lidar_points(after.pillars["lidar"])[:, 2]), np.sort(wanted), atol=0.02)


def test_another_lidar_differs_in_intensity_or_beams(frames, config):
    stage, found, draw = config.pretrain, [], np.random.default_rng(1)
    points = np.c_[draw.uniform(-45, 45, (300, 2)), draw.uniform(0, 3, 300), draw.random(300), np.zeros(300)]
    frame = replace(frames[0], pillars={"lidar": to_lidar(points.astype(np.float32), config.spec)})
    before = lidar_points(frame.pillars["lidar"])
    for seed in range(30):
        one = stage.model_copy(update={"intensity": float(seed % 2), "beams": float(1 - seed % 2)})
        draw = np.random.default_rng(seed)
        after = lidar_points(another_lidar(frame, one, config.spec, draw).pillars["lidar"])
        assert seed % 2 == (len(after) == len(before))
        found.append(after[:, 3])
    assert any(not values.any() for values in found[1::2]), "intensity is sometimes unknown"
    assert len({round(float(values.mean()), 3) for values in found[1::2]}) > 8
    assert {len(v) * 10 // len(before) for v in found[::2]} >= {5, 6, 7}


def test_a_radar_lies_in_four_ways(frames, config):
    draw, kinds = np.random.default_rng(1), set()
    points = np.c_[draw.uniform(-45, 45, (40, 2)), draw.normal(size=(40, 3)), np.zeros(40)].astype(np.float32)
    frame = replace(frames[0], pillars={"radar": to_radar(points, config.spec)})
    before = radar_points(frame.pillars["radar"])
    for seed in range(40):
        noisy = corrupt(frame, "radar", config.spec, np.random.default_rng(seed))
        assert noisy.quality.tolist() == [1, 1, 0, 1, 1]
        after = radar_points(noisy.pillars["radar"])
        there = np.isin(before[:, 0], after[:, 0]).mean()
        kinds.add("strength" if len(after) == len(before) and there == 1 else "invented" if len(after) > 90 else
                  "lost" if np.isin(after[:, 0], before[:, 0]).all() else "moved")  # fmt: skip
    assert kinds == {"strength", "invented", "lost", "moved"}


def test_a_modality_that_a_sample_lacks_stays_absent(frames):
    draw = np.random.default_rng(0)
    lacking = np.array([1, 0, 1, 0, 1], np.float32)
    for _ in range(50):
        assert (draw_mask(lacking, DropoutConfig(), 1.0, draw) <= lacking).all()


def test_degraded_frames_say_so(frames, config):
    always = DropoutConfig(corruption=1.0, sweep=1.0, single_camera=0.5, stale=0)
    for seed in range(30):
        before = frames[seed % len(frames)]
        after = degrade(before, always, 1.0, config.spec, np.random.default_rng(seed))
        assert (after.quality == 0).sum() == 1
        assert after.completeness[0] < 1
        assert (after.completeness[2:] < 1).all()
        assert after.completeness[1] == pytest.approx(after.camera.present.mean())
        if after.quality[1]:
            assert after.camera.images is before.camera.images, "features of these pixels are cached"
        assert before.quality.min() == 1, "the frame in memory must not change"


def test_batches_depend_on_seed_and_step_alone(frames, config):
    a = BatchStream(frames, config, config.pretrain, seed=3).make(5, 1.0)
    b = BatchStream(frames, config, config.pretrain, seed=3).make(5, 1.0)
    assert a.tokens == b.tokens
    for m, feed in a.feeds.items():
        for name, value in feed.items():
            assert value.equal(b.feeds[m][name]), (m, name)


@pytest.mark.timeout(300)
def test_worker_processes_make_the_frames_and_batches_that_a_thread_makes(miniature, config):
    made = []
    for workers in (0, 2):
        recipe = config.model_copy(update={"spec": SPEC, "workers": workers, "splits": SplitConfig(train=("sim_val",))})
        stream = stage_stream(recipe, recipe.pretrain, recipe.splits.train, miniature, seed=4)
        assert len(stream.degraded)
        made.append(list(stream.run(2, 6, 3)))
    for (step, one), (again, other) in zip(*made, strict=True):
        assert (step, one.tokens) == (again, other.tokens)
        assert one.targets.heat.equal(other.targets.heat)
        for m, feed in one.feeds.items():
            for name, value in feed.items():
                assert value.equal(other.feeds[m][name]), (m, name)


def test_absent_sensors_collate_to_nothing(frames, config):
    empty = Frame(
        "none", {}, None, {}, *(np.zeros(5, np.float32) for _ in range(3)), np.ones(5, np.float32), Boxes3D.empty()
    )
    batch = collate([empty, frames[0]], config.spec)
    pillars = batch.feeds["lidar"]["pillars"]
    assert (batch.feeds["lidar"]["index_map"][0] == pillars.shape[1]).all()
    assert batch.mask[0].sum() == 0
    assert batch.feeds["camera"]["present"][0].sum() == 0
