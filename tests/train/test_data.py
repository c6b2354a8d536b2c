# SPDX-License-Identifier: Apache-2.0
"""Augmentation keeps inputs and truth in agreement; masks are drawn as designed."""

import numpy as np
import pytest

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.camera_view import voxel_lookup
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.pillars import lidar_pillars, radar_pillars
from peft_dml_ros.core.rig import CameraModel, Rig, Sensor
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.config import DropoutConfig
from peft_dml_train.data.augment import degrade, mirror
from peft_dml_train.data.batch import BatchStream, collate, draw_mask
from peft_dml_train.data.frame import NO_DEPTH, CameraFrame, Frame, Pillars, project_depth

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
    ours = mirror(frame_of(lidar, radar, Rig({"CAM_FRONT": forward_camera(0.4)})), SPEC)
    wanted = frame_of(lidar * turn, radar * turn_radar, Rig({"CAM_FRONT": forward_camera(-0.4)}))
    for name in ("lidar", "radar"):
        a, b = ours.pillars[name], wanted.pillars[name]
        a = a.take(np.argsort(a.cells))
        np.testing.assert_array_equal(a.cells, b.cells)
        np.testing.assert_allclose(a.points, b.points, atol=1e-5)
    assert np.mean(ours.camera.voxel_pixel == wanted.camera.voxel_pixel) > 0.995
    assert np.mean(ours.camera.voxel_depth == wanted.camera.voxel_depth) > 0.995
    assert np.mean(ours.camera.depth_bins == wanted.camera.depth_bins) > 0.995
    assert (ours.camera.depth_bins != NO_DEPTH).sum() > 20
    assert ours.boxes.centers_m[0, 1] == -4
    assert ours.boxes.yaws_rad[0] == pytest.approx(-0.4)


def test_masks_keep_a_detecting_modality_and_the_designed_rates():
    draw = np.random.default_rng(0)
    masks = np.array([draw_mask(np.ones(5, np.float32), DropoutConfig(), 1.0, draw) for _ in range(4000)])
    assert (masks[:, :3].sum(axis=1) > 0).all()
    # Given that not all three are gone: P(LiDAR dropped) = (.5 - .5·.5·.3) / (1 - .5·.5·.3).
    np.testing.assert_allclose(1 - masks.mean(axis=0), [0.459, 0.459, 0.243, 0.3, 0.3], atol=0.03)


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
            assert not after.camera.images[after.camera.present == 0].any()
        assert before.quality.min() == 1, "the frame in memory must not change"


def test_batches_depend_on_seed_and_step_alone(frames, config):
    a = BatchStream(frames, config, config.pretrain, seed=3).make(5, 1.0)
    b = BatchStream(frames, config, config.pretrain, seed=3).make(5, 1.0)
    assert a.tokens == b.tokens
    for m, feed in a.feeds.items():
        for name, value in feed.items():
            assert value.equal(b.feeds[m][name]), (m, name)


def test_absent_sensors_collate_to_nothing(frames, config):
    empty = Frame(
        "none", {}, None, {}, *(np.zeros(5, np.float32) for _ in range(3)), np.ones(5, np.float32), Boxes3D.empty()
    )
    batch = collate([empty, frames[0]], config.spec)
    pillars = batch.feeds["lidar"]["pillars"]
    assert (batch.feeds["lidar"]["index_map"][0] == pillars.shape[1]).all()
    assert batch.mask[0].sum() == 0
    assert batch.feeds["camera"]["present"][0].sum() == 0
