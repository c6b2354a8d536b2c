# SPDX-License-Identifier: Apache-2.0
import json
import shutil

import numpy as np
import pytest

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import ATTRIBUTES, CLASSES
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.provenance import scene_identities
from peft_dml_tools.datasets.source import open_source

SPEC = ModelSpec()


@pytest.fixture
def reader(mini):
    return NuScenesReader(mini)


def test_lists_scenes_splits_and_samples(reader):
    assert reader.scenes == ("scene-0001", "scene-0002")
    assert reader.splits == {"train": ("scene-0001",), "val": ("scene-0002",)}
    assert len(reader.samples()) == 6
    assert reader.samples("val") == reader.samples("scene-0002") == reader.samples(["scene-0002"])
    stamps = [reader.stamp_ns(token) for token in reader.samples("train")]
    assert np.diff(stamps).tolist() == [500_000_000, 500_000_000]
    with pytest.raises(ConfigError, match="did you mean 'scene-0001'"):
        reader.samples("scene-001")


def test_one_of_several_versions_is_named_by_its_folder(mini_copy):
    version = next(mini_copy.glob("*/scene.json")).parent
    shutil.copytree(version, mini_copy / "v1.0-other")
    with pytest.raises(DataError, match=f"there are: v1.0-other, .*; fix: name one, {mini_copy}/v1.0-other"):
        NuScenesReader(mini_copy)
    assert NuScenesReader(version).samples() == open_source(version).reader.samples()
    assert scene_identities(version).keys() == {"scene-0001", "scene-0002"}


def test_rig_holds_calibration_and_motion_sensors(reader):
    rig = reader.rig(reader.samples()[0])
    assert set(rig.sensors) == {
        "CAM_FRONT", "LIDAR_TOP", "RADAR_FRONT", "RADAR_BACK_LEFT", "IMU", "GNSS", "ODOM",
    }  # fmt: skip
    assert (rig["CAM_FRONT"].camera.width_px, rig["CAM_FRONT"].camera.height_px) == (320, 180)
    assert np.allclose(rig["LIDAR_TOP"].base_SE3_sensor.yaw_rad, -1.57)
    assert reader.rig(reader.samples()[1]) is rig


def test_snapshot_holds_sweeps_newest_first(reader):
    token = reader.samples("train")[1]
    snapshot = reader.snapshot(token, SPEC)
    now = reader.stamp_ns(token)
    assert snapshot.reference == "LIDAR_TOP"
    assert snapshot.stamp_ns == now
    ages = [now - s.stamp_ns for s in snapshot.lidar["LIDAR_TOP"]]
    assert ages == [0, 100_000_000, 200_000_000]
    assert [now - s.stamp_ns for s in snapshot.radars["RADAR_FRONT"]] == [7_001_000 + k * 100_000_000 for k in range(6)]
    assert snapshot.cameras["CAM_FRONT"].jpeg.startswith(b"\xff\xd8")
    assert snapshot.imu[0].stamp_ns == now - 990_000_000
    assert snapshot.imu[-1].stamp_ns == now
    # The keyframe's own record was made 3 ms after the LiDAR's: the vehicle would not have it yet.
    assert now - snapshot.radars["RADAR_BACK_LEFT"][0].stamp_ns == 100_000_000 - 3_003_000
    assert [f.has_fix for f in snapshot.gnss][:2] == [False, True]
    stamps = [o.stamp_ns for o in snapshot.odometry]
    assert stamps == sorted(set(stamps))
    assert {s.stamp_ns for s in snapshot.radars["RADAR_FRONT"]} | {now} <= set(stamps)
    assert snapshot.age_s["lidar"] == 0
    assert snapshot.age_s["radar"] == pytest.approx((0.007001 + 0.096997) / 2)
    assert snapshot.age_s["camera"] == pytest.approx(0.02)


def test_radar_filter_is_the_devkits_default(mini):
    token = NuScenesReader(mini).samples()[0]
    assert len(NuScenesReader(mini).snapshot(token, SPEC).radars["RADAR_FRONT"][0].points) == 17
    points = NuScenesReader(mini, filter_radar=False).snapshot(token, SPEC).radars["RADAR_FRONT"][0].points
    assert points["id"].tolist() == list(range(20))


def test_truth_agrees_with_the_devkit(mini, reader):
    nuscenes = pytest.importorskip("nuscenes.nuscenes")
    devkit = nuscenes.NuScenes(version="v1.0-test-rig", dataroot=str(mini), verbose=False)
    for token in reader.samples():
        truth = reader.truth(token, keep_unseen=True)
        assert len(truth) == {0: 3, 1: 3, 2: 3}[reader.samples(reader.scene_of(token)).index(token)]
        turn = reader.global_SE3_base(token)
        annotations = {
            devkit.get("sample_annotation", a)["instance_token"]: a for a in devkit.get("sample", token)["anns"]
        }
        for i, name in enumerate(truth.ids):
            box, velocity = devkit.get_box(annotations[name]), devkit.box_velocity(annotations[name])
            assert np.allclose(turn.transform(truth.centers_m[i][None])[0], box.center)
            assert np.allclose(truth.sizes_m[i], box.wlh[[1, 0, 2]])
            expected = turn.inverse().rotate(velocity[None])[0, :2]
            assert np.allclose(truth.velocities_mps[i], expected, equal_nan=True)
            assert abs(np.cos(truth.yaws_rad[i] + turn.yaw_rad - box.orientation.yaw_pitch_roll[0]) - 1) < 1e-4


def test_truth_drops_what_no_sensor_saw(reader):
    truth = reader.truth(reader.samples()[0])
    assert [CLASSES[label] for label in truth.labels] == ["car", "barrier"]
    assert [ATTRIBUTES[a] if a >= 0 else None for a in truth.attributes] == ["vehicle.moving", None]
    assert np.isfinite(truth.velocities_mps[0]).all()
    assert np.isnan(truth.velocities_mps[1]).all()


def test_all_missing_tables_are_named_at_once(mini_copy):
    for name in ("ego_pose", "instance"):
        (mini_copy / "v1.0-test-rig" / f"{name}.json").unlink()
    with pytest.raises(DataError, match=r"ego_pose\.json, instance\.json"):
        NuScenesReader(mini_copy)
    with pytest.raises(DataError, match=r"lacks the tables ego_pose\.json;"):
        NuScenesReader(mini_copy, allow_missing=True)


def test_missing_files_are_named_or_left_out(mini_copy):
    reader = NuScenesReader(mini_copy)
    token = reader.samples()[1]
    for path in [*(mini_copy / "sweeps/RADAR_FRONT").iterdir(), *(mini_copy / "samples/CAM_FRONT").iterdir()]:
        path.unlink()
    with pytest.raises(DataError, match=r"lacks 5 files: .*CAM_FRONT.*RADAR_FRONT"):
        reader.snapshot(token, SPEC)
    (mini_copy / "samples/CAM_FRONT").rmdir()
    with pytest.raises(DataError, match="samples/CAM_FRONT"):
        NuScenesReader(mini_copy)
    lenient = NuScenesReader(mini_copy, allow_missing=True)
    assert "CAM_FRONT" not in lenient.rig(token).sensors
    snapshot = lenient.snapshot(token, SPEC)
    assert not snapshot.cameras
    assert len(snapshot.radars["RADAR_FRONT"]) == 2


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("samples/LIDAR_TOP", lambda data: data[:-3], "no multiple of 20"),
        ("samples/RADAR_FRONT", lambda data: data[:-100], "promises 20 points"),
        ("samples/RADAR_FRONT", lambda data: data.replace(b"DATA binary", b"DATA ascii "), "no table of numbers"),
        ("samples/RADAR_FRONT", lambda data: data.replace(b" rcs ", b" abc "), "lacks the radar fields rcs"),
        ("samples/RADAR_FRONT", lambda data: data.replace(b"POINTS 20", b"POINTS -1"), "promises -1"),
    ],
)
def test_damaged_files_are_named(mini_copy, file, damage, message):
    for path in (mini_copy / file).iterdir():
        path.write_bytes(damage(path.read_bytes()))
    reader = NuScenesReader(mini_copy)
    with pytest.raises(DataError, match=message) as error:
        reader.snapshot(reader.samples()[0], SPEC)
    assert file in str(error.value)


def test_damaged_table_is_named(mini_copy):
    (mini_copy / "v1.0-test-rig" / "sample.json").write_text("[{")
    with pytest.raises(DataError, match=r"sample\.json"):
        NuScenesReader(mini_copy).samples()
    with pytest.raises(DataError, match=r"v1\.0-test-rig"):
        NuScenesReader(mini_copy, "v1.0-trainval")


def test_scene_without_motion_sensors_has_none(mini_copy):
    for path in (mini_copy / "can_bus").iterdir():
        path.unlink()
    reader = NuScenesReader(mini_copy)
    token = reader.samples()[0]
    assert not {"IMU", "GNSS"} & set(reader.rig(token).sensors)
    assert reader.snapshot(token, SPEC).present == ("lidar", "camera", "radar")


def test_without_lidar_the_nearest_sensor_sets_the_time(mini_copy):
    tables = mini_copy / "v1.0-test-rig"
    rows = json.loads((tables / "sample_data.json").read_text())
    (tables / "sample_data.json").write_text(json.dumps([r for r in rows if "LIDAR_TOP" not in r["filename"]]))
    reader = NuScenesReader(mini_copy)
    snapshot = reader.snapshot(reader.samples()[0], SPEC)
    assert snapshot.reference == "RADAR_BACK_LEFT"
    assert not snapshot.has("lidar")


def test_real_keyframe(real_keyframe):
    reader = NuScenesReader(real_keyframe)
    (token,) = reader.samples()
    snapshot, rig = reader.snapshot(token, SPEC), reader.rig(token)
    points = snapshot.lidar["LIDAR_TOP"][0].points
    assert points.shape == (34_688, 5)
    assert (points[:, 4].min(), points[:, 4].max()) == (0, 31)
    assert len(snapshot.cameras) == 6
    assert len(snapshot.radars["RADAR_FRONT"][0].points) == 74
    assert snapshot.present == ("lidar", "camera", "radar", "imu")
    truth = reader.truth(token, keep_unseen=True)
    counts = {a["instance_token"]: a["num_lidar_pts"] for a in reader.tables.rows("sample_annotation")}
    expected = np.array([counts[name] for name in truth.ids])
    base_points = rig["LIDAR_TOP"].base_SE3_sensor.transform(points[:, :3].astype(np.float64))
    inside = truth.contain(base_points).sum(axis=1)
    # Boxes in base_link are upright there; the annotator's are upright on the map, and the vehicle tilts a little.
    assert (inside == expected).sum() >= 62
    assert np.abs(inside - expected).sum() <= 30
    global_SE3_base = reader.global_SE3_base(token)
    upright = truth.transform(global_SE3_base)
    exact = Boxes3D.make(upright.centers_m, upright.sizes_m, _map_yaws(reader, truth), upright.labels)
    assert (exact.contain(global_SE3_base.transform(base_points)).sum(axis=1) == expected).sum() == 68


def _map_yaws(reader, truth):
    rotations = {a["instance_token"]: a["rotation"] for a in reader.tables.rows("sample_annotation")}
    return np.array([2 * np.arctan2(rotations[name][3], rotations[name][0]) for name in truth.ids])
