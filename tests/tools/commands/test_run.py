# SPDX-License-Identifier: Apache-2.0
import csv
import errno
import json
import os
import re
from dataclasses import replace
from io import StringIO
from itertools import pairwise

import cv2
import numpy as np
import pytest
from rich.console import Console
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from peft_dml_ros.conversions.factory import image_to_msg
from peft_dml_ros.conversions.topics import COMPRESSED_IMAGE
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage, ImuSample
from peft_dml_ros.core.rig import Rig, Sensor
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_tools.atomic_files import claim_folder
from peft_dml_tools.commands.run import _show_wiring
from peft_dml_tools.datasets.bag_options import BagOptions
from peft_dml_tools.datasets.bag_types import RosbagsFactory, typestore
from peft_dml_tools.datasets.bags import NOT_FINITE, write_bag
from peft_dml_tools.datasets.encode import imu_to_msg
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.source import open_source
from peft_dml_tools.evaluation.metrics import lidar_out_frames
from peft_dml_tools.evaluation.recording import RecordedFrame
from peft_dml_tools.run.accuracy import accuracy_table, present_words, scores_by_present
from peft_dml_tools.run.offline import OfflineDetector
from peft_dml_tools.run.reading_check import count_points
from peft_dml_tools.run.sources import MeasurementHistory, StreamSource, open_run_source
from peft_dml_tools.sim.faults import Fault
from tests.support import scenes
from tests.support.made_source import MadeSource


def run(*arguments) -> str:
    done = CliRunner().invoke(app, ["run", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def real_out(real_keyframe, bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("real")
    return out, run(real_keyframe, "--out", out, "--bundle", bundle)


def test_real_keyframe_goes_all_the_way(real_out):
    out, text = real_out
    frame = json.loads((out / "boxes.jsonl").read_text())
    assert frame["reference"] == "LIDAR_TOP"
    assert frame["mask"] == {"lidar": 1.0, "camera": 1.0, "radar": 1.0, "imu": 1.0, "gnss": 0.0}
    assert frame["boxes"]
    assert "num_lidar_pts" in text
    for name in ("above_000.png", "cameras_000.png"):
        pixels = cv2.imread(str(out / name))
        assert pixels.shape[1] > 1000
        assert pixels.std() > 10


def test_real_keyframe_has_a_figure_and_a_reading_check(real_out):
    summary = json.loads((real_out[0] / "run.json").read_text())
    accuracy = summary["accuracy"]["full"]
    assert accuracy["frames"] == 1
    assert accuracy["truth"]["pedestrian"] >= 10
    assert "2 m" in accuracy["ap"]["car"]
    assert summary["reading_check"] == {"equal": 69, "boxes": 69, "off_by": 0}
    assert summary["accuracy_by_present"]["LiDAR + camera + radar"]["ap_2m"]["car"] >= 0
    assert summary["hints"] == []


def test_points_in_boxes_equal_the_annotation_for_all(real_keyframe):
    """Diagnosis of real sensors, 7: 6 of 68 differed, since boxes had a yaw only."""
    reader = NuScenesReader(real_keyframe, allow_missing=True)
    counted, annotated = count_points(reader, reader.samples()[0])
    assert counted.tolist() == annotated.tolist()


def test_sensors_can_be_chosen(real_keyframe, bundle, tmp_path):
    run(real_keyframe, "--out", tmp_path, "--bundle", bundle, "--sensors", "camera,RADAR_FRONT")
    frame = json.loads((tmp_path / "boxes.jsonl").read_text())
    assert frame["mask"] == {"lidar": 0.0, "camera": 1.0, "radar": 1.0, "imu": 0.0, "gnss": 0.0}


def test_unknown_sensor_is_refused_with_the_nearest(real_keyframe, bundle, tmp_path):
    done = CliRunner().invoke(
        app, ["run", str(real_keyframe), "--out", str(tmp_path), "--bundle", str(bundle), "--sensors", "CAM_FRNT"]
    )
    assert done.exit_code == 2
    assert "CAM_FRONT" in done.output


def test_bag_at_full_speed(bag, bundle, tmp_path):
    text = run(bag, "--out", tmp_path, "--bundle", bundle, "--seconds", 1.5)
    lines = [json.loads(line) for line in (tmp_path / "boxes.jsonl").read_text().splitlines()]
    assert 13 <= len(lines) <= 16
    assert {line["reference"] for line in lines} == {"LIDAR_TOP"}
    assert all(line["stamp_ns"] < after["stamp_ns"] for line, after in pairwise(lines))
    rows = list(csv.DictReader((tmp_path / "timing.csv").open()))
    assert len(rows) == len(lines)
    assert all(float(row["total_ms"]) > float(row["fusion_ms"]) > 0 for row in rows)
    assert "/lidar_top/points" in text
    assert (tmp_path / "report.html").stat().st_size > 100_000


def test_the_node_s_parameter_file_is_taken(bag, bundle, repository, tmp_path):
    text = (repository / "config" / "perception.yaml").read_text().replace("bundle: demo", f"bundle: {bundle}")
    config = tmp_path / "perception.yaml"
    config.write_text(re.sub(r"sensors: \[.*?\]", "sensors: [LIDAR_TOP]", text, flags=re.DOTALL))
    run(bag, "--out", tmp_path / "out", "--seconds", 0.5, "--config", config)
    line = json.loads((tmp_path / "out" / "boxes.jsonl").read_text().splitlines()[-1])
    assert line["mask"] == {"lidar": 1.0, "camera": 0.0, "radar": 0.0, "imu": 0.0, "gnss": 0.0}
    assert json.loads((tmp_path / "out" / "run.json").read_text())["bundle"]["name"] == "random"


def test_a_bag_that_is_cut_off_counts_up_to_there(bag, bundle, tmp_path):
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(bag.read_bytes()[: int(bag.stat().st_size * 0.7)])
    done = CliRunner().invoke(app, ["run", str(cut), "--out", str(tmp_path / "out"), "--bundle", str(bundle)])
    assert done.exit_code == 2
    assert "mcap recover" in done.output
    assert json.loads((tmp_path / "out" / "run.json").read_text())["frames_published"] >= 3
    assert (tmp_path / "out" / "report.html").is_file()


def test_what_a_bag_holds_of_broken_messages_is_counted(bag, bundle, tmp_path):
    source = open_source(bag)
    dropped = {("LIDAR_TOP", NOT_FINITE): 7, ("CAM_BACK", "3 bytes"): 1, ("CAM_BACK", "4 bytes"): 1}
    source.dropped.update(dropped)
    assert StreamSource(source).drops == {"LIDAR_TOP: points not finite": 7, "CAM_BACK: malformed": 2}


def test_weather_and_faults_are_suffered_in_a_run(bag, bundle, tmp_path):
    script = tmp_path / "faults.yaml"
    script.write_text(
        "- {sensor: LIDAR_TOP, fault: silence, from_s: 0.9}\n- {sensor: camera, fault: delay, delay_s: 0.1}"
    )
    out = tmp_path / "out"
    text = run(bag, "--out", out, "--bundle", bundle, "--faults", script, "--weather", "fog=40")
    lines = [json.loads(line) for line in (out / "boxes.jsonl").read_text().splitlines()]
    assert lines[2]["reference"] == "LIDAR_TOP"
    assert lines[-1]["mask"] == {"lidar": 0.0, "camera": 1.0, "radar": 1.0, "imu": 1.0, "gnss": 1.0}
    assert "fog=40" in json.loads((out / "run.json").read_text())["source"]
    assert "silent" in text


def test_a_keyframe_in_fog_shows_less(real_keyframe, bundle, tmp_path):
    source = open_run_source(real_keyframe, None, weather="fog=50")
    kept = MeasurementHistory(30.0)
    offline = OfflineDetector(NodeParams(bundle=str(bundle)), source.rig, tuple(source.rig.sensors))
    (frame,) = source.frames(offline, kept, 0)
    assert frame.reference == "LIDAR_TOP"
    ranges = np.linalg.norm(kept.measurements["LIDAR_TOP"][0].points[:, :3], axis=1)
    assert ((ranges > 4) & (ranges < 5)).mean() > 0.1
    assert not (ranges > 36).any()
    assert source.check() is None
    with pytest.raises(ConfigError, match="one keyframe"):
        open_run_source(real_keyframe, None, faults=[Fault(sensor="camera", fault="drop")])


def test_what_is_kept_for_the_report_does_not_hold_raw_pictures():
    kept = MeasurementHistory(1.0)
    for stamp_s in (0, 1, 2):
        kept.add("CAM_FRONT", CameraImage(stamp_s * 10**9, pixels=np.full((90, 160, 3), 99, np.uint8)))
        kept.add("ODOM", scenes.odometry(stamp_s * 10**9))
    assert [m.pixels for m in kept.measurements["CAM_FRONT"]] == [None, None]
    assert len(kept.measurements["ODOM"]) == 3


def frame_with(names, truth=None):
    mask = np.array([m in names for m in MODALITIES], dtype=np.float64)
    return RecordedFrame(
        0, "LIDAR_TOP" if "lidar" in names else "", Boxes3D.empty(), mask, mask, 1.0, {}, {}, truth=truth
    )


def test_columns_name_what_was_there_and_blind_frames_are_not_without_lidar():
    """Diagnosis of real sensors, 5: one column "no LiDAR" for frames with LiDAR and for blind ones."""
    truth = Boxes3D.make(np.array([[9.0, 0, 1]]), np.array([[4.0, 2, 1.5]]), np.zeros(1), np.zeros(1, dtype=np.int64))
    sets = (["lidar", "camera"], ["lidar", "camera"], ["camera"], ["radar", "imu"], ["imu"], [])
    frames = [frame_with(names, truth) for names in sets]
    assert [present_words(f) for f in frames[1:]] == ["LiDAR + camera", "camera alone", "radar alone", "blind", "blind"]
    scores = scores_by_present(frames)
    assert {name: score.frames for name, score in scores.items()} == {
        "LiDAR + camera": 2, "blind": 2, "camera alone": 1, "radar alone": 1
    }  # fmt: skip
    assert "2 of 6 frames were blind" in accuracy_table(scores, frames).caption
    assert [present_words(f) for f in lidar_out_frames(frames)] == ["camera alone", "radar alone"]
    assert accuracy_table({}, frames[:1]) == "No truth in this source, so no accuracy."
    assert accuracy_table({}, frames[:1], annotated=True) == "No frame is near annotated ones, so no accuracy."


def test_a_full_disk_ends_in_one_line(bag, bundle, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("peft_dml_tools.run.files.write_pictures", full)
    done = CliRunner().invoke(app, ["run", str(bag), "--out", str(tmp_path), "--bundle", str(bundle), "--seconds", "1"])
    assert done.exit_code == 2
    assert "No space left on device; fix: make room" in " ".join(done.output.split())
    assert not (tmp_path / "report.html").exists()


def test_unknown_bundle_is_refused(bag, tmp_path):
    done = CliRunner().invoke(app, ["run", str(bag), "--out", str(tmp_path), "--bundle", "no-such-bundle"])
    assert done.exit_code == 2
    assert "no-such-bundle" in done.output


def test_a_lidar_that_dies_is_named_and_the_other_goes_on(bundle):
    stamps = [16 * 10**17 + i * 10**8 for i in range(40)]
    rows = [("LIDAR_TOP", scenes.lidar(stamp)) for stamp in stamps]
    rows += [("LIDAR_LEFT", replace(scenes.lidar(stamp + 1), stamp_ns=stamp + 10**7)) for stamp in stamps[:15]]
    source = MadeSource(rows)
    offline = OfflineDetector(NodeParams(bundle=str(bundle)), source.rig, tuple(source.rig.sensors))
    frames = list(offline.stream(source.measurements()))
    assert offline.silent() == {"LIDAR_LEFT": "sent nothing in the last 2.5 s"}
    assert frames[-1].mask[0] == 1.0
    assert frames[-1].sensors["LIDAR_LEFT"].state == "STALE"
    # Both are in the cloud while both are there, each as old as it is.
    both = next(frame for frame in frames if frame.sensors["LIDAR_LEFT"].alive and frame.stamp_ns > stamps[5])
    assert 0.0 <= both.age_s[0] < 0.1


def test_images_of_another_shape_than_their_calibration_are_refused_as_by_the_node(bundle):
    stamps = [16 * 10**17 + i * 10**8 for i in range(4)]
    square = [("CAM_FRONT", CameraImage(s, pixels=np.full((48, 48, 3), 99, np.uint8))) for s in stamps]
    source = MadeSource([*(("LIDAR_TOP", scenes.lidar(s)) for s in stamps), *square])
    offline = OfflineDetector(NodeParams(bundle=str(bundle)), source.rig, tuple(source.rig.sensors))
    frames = list(offline.stream(source.measurements()))
    assert offline.unfit == {"CAM_FRONT": "its images are 48 x 48, its calibration is for 64 x 48"}
    assert offline.drops["CAM_FRONT: uncalibrated"] == 4
    assert not any(frame.mask[MODALITIES.index("camera")] for frame in frames)


def test_a_bag_of_a_driver_s_own_messages_names_their_type(tmp_path, bundle):
    """Livox drivers send CustomMsg by default: only its IMU is a message that others know."""
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("std_msgs/Header header\nuint32 point_num\n", "livox_ros_driver2/msg/CustomMsg"))
    imu = imu_to_msg(ImuSample(10**18, np.array([0, 0, 9.81]), np.zeros(3)), "livox_frame", RosbagsFactory())
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection("/livox/lidar", "livox_ros_driver2/msg/CustomMsg", typestore=store)
        topic = writer.add_connection("/livox/imu", "sensor_msgs/msg/Imu", typestore=store)
        writer.write(topic, 10**18, store.serialize_cdr(imu, "sensor_msgs/msg/Imu"))
    arguments = ["run", str(tmp_path / "bag"), "--out", str(tmp_path / "out"), "--bundle", str(bundle)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    text = " ".join(done.output.split())
    assert "not read: /livox/lidar (livox_ros_driver2/msg/CustomMsg)" in text


def test_topics_that_no_sensor_is_read_from_are_shown(tmp_path):
    """Two cameras of unknown places: one is taken for the front, and the other must not vanish without a word."""
    store, make = typestore(), RosbagsFactory()
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for name in ("a", "b"):
            topic = writer.add_connection(f"/{name}/image/compressed", COMPRESSED_IMAGE, typestore=store)
            image = CameraImage(10**18, jpeg=b"\xff\xd8\xff\xd9")
            writer.write(topic, 10**18, store.serialize_cdr(image_to_msg(image, name, make), COMPRESSED_IMAGE))
    mounted = Rig({"CAM_FRONT": Sensor("CAM_FRONT", "camera", SE3.identity())})
    source = open_run_source(tmp_path / "bag", None, options=BagOptions(calibration=mounted))
    assert source.unread() == {"/b/image/compressed": COMPRESSED_IMAGE}
    console = Console(file=StringIO(), width=200)
    _show_wiring(console, source, ("CAM_FRONT",))
    assert "Not read: /b/image/compressed: which sensors? inputs.topics: [SENSOR=TOPIC]" in console.file.getvalue()


def test_what_was_refused_is_said_when_nothing_came(tmp_path, bundle):
    source = MadeSource([("LIDAR_TOP", scenes.lidar(16 * 10**17 + i * 10**8)) for i in range(3)])
    bag = write_bag(source, tmp_path / "drive.mcap")
    config = tmp_path / "p.yaml"
    config.write_text("perception: {ros__parameters: {inputs: {intensity_field: [LIDAR_TOP=shine]}}}")
    arguments = ["run", str(bag), "--out", str(tmp_path / "out"), "--bundle", str(bundle), "--config", str(config)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    text = " ".join(done.output.split())
    assert "received: nothing" in text
    where = "refused: 3 of LIDAR_TOP (/lidar_top/points): PointCloud2 in frame 'lidar_top'"
    assert f"{where} has no field 'shine' (intensity_field)" in text


def test_the_table_names_topics_and_folders_that_exist(bag, miniature):
    of_bag, of_folder = open_run_source(bag, None), open_run_source(miniature, None)
    with Reader(bag) as reader:
        topics = {connection.topic for connection in reader.connections}
    assert {of_bag.where(sensor) for sensor in of_bag.rig.sensors.values()} <= topics
    for sensor in of_folder.rig.sensors.values():
        where = of_folder.where(sensor)
        assert (miniature / where).is_dir() or list(miniature.glob(f"v*/{where}.json")), (sensor.name, where)


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="cannot be written to; fix: "):
        claim_folder(tmp_path)


def test_files_of_others_stay_and_those_of_an_earlier_run_do_not(real_keyframe, bundle, tmp_path):
    for source, out in ((real_keyframe, tmp_path), (tmp_path, tmp_path)):
        (tmp_path / "thesis.txt").write_text("mine")
        done = CliRunner().invoke(app, ["run", str(source), "--out", str(out), "--bundle", str(bundle)])
        assert done.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    done = CliRunner().invoke(app, ["run", str(real_keyframe), "--out", str(tmp_path), "--bundle", str(bundle)])
    assert f"{tmp_path} holds files of something else; fix: choose a new or an empty folder" in done.output
    out = tmp_path / "out"
    for _ in range(2):
        run(real_keyframe, "--out", out, "--bundle", bundle)
        assert not (out / "above_001.png").exists(), "of the run before"
        (out / "above_001.png").write_bytes(b"of an earlier, longer run")
