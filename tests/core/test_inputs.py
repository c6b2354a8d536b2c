# SPDX-License-Identifier: Apache-2.0
"""Snapshot to arrays: shapes of the contract, moved points, counted drops, absent modalities absent."""

from dataclasses import replace

import numpy as np
import pytest

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.inputs import InputAssembler
from peft_dml_ros.core.measurements import RADAR_DTYPE, CameraImage, LidarSweep, RadarSweep
from peft_dml_ros.core.pillars import recent
from peft_dml_ros.core.rig import Rig, Sensor
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import ModelSpec, graph_inputs
from tests.support import scenes
from tests.support.scenes import MS, START_NS

SPEC = ModelSpec()


def full_snapshot(**changes):
    t = START_NS
    fields = {
        "lidar": {"LIDAR_TOP": tuple(scenes.lidar(t - k * 100 * MS) for k in range(4))},
        "cameras": {name: scenes.image(t - 20 * MS) for name in scenes.CAMERAS},
        "radars": {"RADAR_FRONT": tuple(scenes.radar(t - k * 70 * MS) for k in range(3))},
        "imu": tuple(scenes.imu(t - k * 10 * MS) for k in range(60))[::-1],
        "gnss": tuple(scenes.gnss(t - k * 100 * MS, -k) for k in range(8))[::-1],
        "odometry": tuple(scenes.odometry(t - k * 50 * MS, -0.5 * k) for k in range(20))[::-1],
        "age_s": {"lidar": 0.0, "camera": 0.02},
    }
    return Snapshot(t, "LIDAR_TOP", **(fields | changes))


def test_a_full_snapshot_fills_every_declared_input():
    inputs = InputAssembler(SPEC, scenes.rig())(full_snapshot())
    declared = graph_inputs(SPEC)
    assert set(inputs.feeds) == {"lidar", "camera", "radar", "imu", "gnss"}
    for modality, feeds in inputs.feeds.items():
        assert {n: (a.shape, str(a.dtype)) for n, a in feeds.items()} == declared[modality]
    np.testing.assert_array_equal(inputs.mask, 1)
    np.testing.assert_allclose(inputs.completeness, [1, 2 / 6, 0.5, 1, 1])
    assert inputs.age_s[1] == np.float32(0.02)
    assert not inputs.drops


def test_sweeps_are_moved_by_ego_motion_and_turned_by_mounting():
    point = np.array([[3.0, 10.0, 0.5, 255.0, 4.0]], dtype=np.float32)
    sweeps = (LidarSweep(START_NS - 100 * MS, point),)
    feeds = InputAssembler(SPEC, scenes.rig())(full_snapshot(lidar={"LIDAR_TOP": sweeps})).feeds["lidar"]
    pillar = feeds["pillars"][0, 0]
    # x-right y-forward sensor at (0.94, 0, 1.84); the vehicle has driven 1 m since.
    np.testing.assert_allclose(pillar[:3], [0.94 + 10.0 - 1.0, -3.0, 1.84 + 0.5], atol=1e-5)
    np.testing.assert_allclose(pillar[3:5], [1.0, 0.1], atol=1e-6)


def test_radar_points_move_with_their_own_velocity():
    raw = np.zeros(1, dtype=RADAR_DTYPE)
    raw["x"], raw["y"], raw["vx_comp"], raw["ambig_state"] = 20.0, 1.0, 10.0, 3
    rig = Rig({"RADAR_FRONT": Sensor("RADAR_FRONT", "radar", SE3.identity())})
    snapshot = full_snapshot(radars={"RADAR_FRONT": (RadarSweep(START_NS - 100 * MS, raw),)}, lidar={}, cameras={})
    pillar = InputAssembler(SPEC, rig)(snapshot).feeds["radar"]["pillars"][0, 0]
    np.testing.assert_allclose(pillar[:2], [20.0 - 1.0 + 1.0, 1.0], atol=1e-5)
    np.testing.assert_allclose(pillar[3:5], [1.0, 0.0], atol=1e-6)


def test_doubtful_radar_points_are_left_out():
    sweep = scenes.radar(START_NS, n=4)
    sweep.points["invalid_state"][0], sweep.points["ambig_state"][1], sweep.points["dyn_prop"][2] = 4, 1, 7
    sweep.points["x"] = (10, 20, 30, 40)
    feeds = InputAssembler(SPEC, scenes.rig())(full_snapshot(radars={"RADAR_FRONT": (sweep,)})).feeds["radar"]
    assert (feeds["index_map"] < SPEC.radar.pillars).sum() == 1


def test_bad_content_is_dropped_and_counted():
    points = scenes.lidar(START_NS).points.copy()
    points[::2, 0] = np.nan
    cameras = {"CAM_FRONT": CameraImage(START_NS, b"\xff\xd8broken"), "CAM_BACK": scenes.image(START_NS)}
    snapshot = full_snapshot(lidar={"LIDAR_TOP": (LidarSweep(START_NS, points),)}, cameras=cameras)
    inputs = InputAssembler(SPEC, scenes.rig())(snapshot)
    assert np.isfinite(inputs.feeds["lidar"]["pillars"]).all()
    assert inputs.drops == {"camera: corrupt image CAM_FRONT": 1}
    np.testing.assert_array_equal(inputs.feeds["camera"]["present"], [0, 0, 0, 1, 0, 0])


@pytest.mark.parametrize("threads", [1, 2])
def test_pictures_that_are_the_same_everywhere_are_dropped_and_counted(threads):
    """The intake looks at a camera's pictures twice a second; what it lets through does not reach the network."""
    seen = {name: scenes.image(START_NS) for name in scenes.CAMERAS}
    grey = {n: replace(i, jpeg=None, pixels=np.full((198, 352, 3), 128, np.uint8)) for n, i in seen.items()}
    assemble = InputAssembler(SPEC, scenes.rig(), threads)
    one = assemble(full_snapshot(cameras=seen | {"CAM_BACK": grey["CAM_BACK"]}))
    np.testing.assert_array_equal(one.feeds["camera"]["present"], [1, 0, 0, 0, 0, 0])
    assert not one.feeds["camera"]["images"][3].any()
    assert one.drops == {"camera: blank image CAM_BACK": 1}
    assert one.completeness[1] == np.float32(1 / 6)
    six = assemble(full_snapshot(cameras=grey))
    assert "camera" not in six.feeds
    assert six.mask[1] == 0
    assert sum(six.drops.values()) == len(grey)


def test_without_ego_motion_one_sweep_is_left():
    inputs = InputAssembler(SPEC, scenes.rig())(full_snapshot(odometry=(), imu=(), gnss=()))
    assert inputs.drops["lidar: sweep without ego motion"] == 2
    assert inputs.completeness[0] == np.float32(1 / 3)
    np.testing.assert_array_equal(inputs.mask, [1, 1, 1, 0, 0])


@pytest.mark.parametrize("modality", ["lidar", "camera", "radar", "imu", "gnss"])
def test_an_absent_modality_has_no_inputs(modality):
    inputs = InputAssembler(SPEC, scenes.rig(), threads=2)(full_snapshot().without(modality))
    assert modality not in inputs.feeds
    assert inputs.mask.sum() == 4


@pytest.mark.parametrize(("rate_hz", "ages_ms"), [(10, [0, 100, 200]), (20, [0, 100, 200]), (7, [0, 143, 286])])
def test_sweeps_keep_their_spacing_whatever_the_rate(rate_hz, ages_ms):
    stamps = [START_NS + 1000 * MS - round(k * 1000 / rate_hz) * MS for k in range(12)]
    kept = recent([scenes.lidar(stamp, n=1) for stamp in stamps], 3, 0.1)
    assert [(START_NS + 1000 * MS - sweep.stamp_ns) // MS for sweep in kept] == ages_ms
    assert [s.stamp_ns for s in recent([scenes.lidar(t, n=1) for t in stamps], 3, 0.0)] == stamps[:3]


def test_sensors_that_the_rig_has_lost_are_left_out_and_counted():
    rig = scenes.rig()
    sensors = {name: s for name, s in rig.sensors.items() if name not in {"LIDAR_TOP", "RADAR_FRONT"}}
    inputs = InputAssembler(SPEC, Rig(sensors))(full_snapshot())
    assert set(inputs.feeds) == {"camera", "imu", "gnss"}
    assert inputs.drops == {"lidar: LIDAR_TOP not in the rig": 1, "radar: RADAR_FRONT not in the rig": 1}
