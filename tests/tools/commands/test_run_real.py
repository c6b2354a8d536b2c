# SPDX-License-Identifier: Apache-2.0
"""`peft-dml run` on every folder of the real sensor data: it ends well, and says of each what is wrong with it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import StoragePlugin, Writer
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from peft_dml_ros.conversions import topics
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import Rig, Sensor
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_tools.datasets.bag_types import RosbagsFactory, typestore
from peft_dml_tools.datasets.encode import tf_static_to_msg
from peft_dml_tools.datasets.point_files import read_sweep
from peft_dml_tools.run.offline import OfflineDetector


def run(source, out, bundle, *more):
    """Results by sensor ids of hints, and the text."""
    arguments = ["run", str(source), "--out", str(out), "--bundle", str(bundle), *map(str, more)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    summary = json.loads((out / "run.json").read_text())
    return summary, {(hint["sensor"], hint["id"]) for hint in summary["hints"]}, done.output


def test_a_keyframe(real_data, bundle, tmp_path):
    summary, hints, _ = run(real_data / "nuscenes_keyframe", tmp_path, bundle)
    assert hints == set()
    assert summary["reading_check"] == {"equal": 69, "boxes": 69, "off_by": 0}


def test_four_lidars(real_data, bundle, tmp_path):
    """Hesai's files have coordinates alone; all are in their sensor's frame, whose height is unknown."""
    summary, hints, text = run(real_data / "lidar_models", tmp_path, bundle)
    assert summary["frames_published"] == 4
    assert ("LIDAR_TOP", "SEN101") in hints
    assert "no calibration file" in text
    assert "assumed" in text


@pytest.mark.parametrize("model", ["velodyne_vlp16", "hesai_40p", "hesai_xt32", "hesai_qt64"])
def test_each_lidar(real_data, bundle, tmp_path, model):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"{model}.pcd").write_bytes((real_data / "lidar_models" / f"{model}.pcd").read_bytes())
    summary, hints, _ = run(tmp_path / "in", tmp_path / "out", bundle)
    assert summary["frames_published"] == 1
    assert (("LIDAR_TOP", "SEN101") in hints) == model.startswith("hesai")


@pytest.mark.parametrize("model", ["velodyne_vlp16", "hesai_40p", "hesai_xt32", "hesai_qt64", "99 thousand points"])
def test_clouds_of_other_makes_are_not_full_of_people_and_motorcycles(real_data, repository, model):
    """Diagnosis of real sensors, 4: 36 to 60 false motorcycles, 45 to 52 pedestrians in one of 99 thousand points."""
    dense = model.startswith("99")
    file = real_data / "lidar_models" / f"{'hesai_xt32' if dense else model}.pcd"
    sweep = read_sweep(file, 10**18)
    if dense:
        again = sweep.points[:: len(sweep.points) // (99_000 - len(sweep.points)) or 1]
        shift = np.random.default_rng(0).normal(0, 0.02, again.shape).astype(np.float32) * [1, 1, 1, 0, 0]
        sweep = replace(sweep, points=np.concatenate([sweep.points, again + shift]).astype(np.float32))
        assert len(sweep.points) > 99_000
    rig = Rig({"LIDAR_TOP": Sensor("LIDAR_TOP", "lidar", SE3(np.eye(3), np.array([0.0, 0.0, 1.8])))})
    offline = OfflineDetector(NodeParams(bundle=str(repository / "models" / "demo")), rig, ("LIDAR_TOP",))
    (frame,) = offline.stream([("LIDAR_TOP", sweep)])
    small = [CLASSES.index(name) for name in ("motorcycle", "pedestrian")]
    assert np.isin(frame.boxes.labels[frame.boxes.scores > 0.2], small).sum() <= 15


def test_each_folder_has_a_test(real_data):
    run_above_or_below = {"nuscenes_keyframe", "lidar_models", "imu_gnss", "radar_ars548"}
    assert {path.name for path in real_data.iterdir() if path.is_dir()} <= run_above_or_below


def test_a_ros_1_bag_of_imu_and_gnss(real_data, bundle, tmp_path):
    """It was driven with the IMU on its side, and nothing in it sees."""
    rig, config = tmp_path / "rig.yaml", tmp_path / "p.yaml"
    rig.write_text("sensors:\n  IMU: {xyz: [0.0, 0.0, 0.2], rpy: [0.0, 0.0, 0.0]}\n")
    config.write_text(yaml.safe_dump({"perception": {"ros__parameters": {"calibration": str(rig)}}}))
    bag = real_data / "imu_gnss" / "husky.bag"
    summary, hints, text = run(bag, tmp_path / "out", bundle, "--config", config, "--seconds", 20)
    assert hints == {("IMU", "SEN303")}
    assert "/husky_velocity_controller/odom" in text
    assert "were blind" in text
    assert summary["accuracy_by_present"] == {}
    assert summary["sensors"]["IMU"]["received"] > 500


def test_a_4d_radar_in_a_bag_of_its_own_messages(real_data, bundle, tmp_path):
    tree = yaml.safe_load((real_data / "radar_ars548" / "detections.yaml").read_text())
    store, make = typestore(), RosbagsFactory()
    detections = [make("continental_msgs/msg/ContinentalArs548Detection", **row) for row in tree["detections"]]
    origin = make("geometry_msgs/msg/Point", **tree.pop("origin_pos"))
    mounted = Rig({"RADAR_FRONT": Sensor("RADAR_FRONT", "radar", SE3(np.eye(3), np.array([3.87, 0.0, 0.64])))})
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        radar = writer.add_connection("/radar_front/points", topics.ARS548, typestore=store)
        static = writer.add_connection("/tf_static", topics.TRANSFORMS, typestore=store)
        writer.write(static, 1, store.serialize_cdr(tf_static_to_msg(mounted, make), topics.TRANSFORMS))
        for i in range(20):
            stamp = make("builtin_interfaces/msg/Time", sec=1708578204, nanosec=i * 50_000_000)
            header = make("std_msgs/msg/Header", stamp=stamp, frame_id="radar_front")
            message = make(
                topics.ARS548, **{**tree, "header": header, "origin_pos": origin, "detections": detections[i:]}
            )
            writer.write(radar, 1708578204 * 10**9 + i * 50_000_000, store.serialize_cdr(message, topics.ARS548))
    summary, hints, _ = run(tmp_path / "bag", tmp_path / "out", bundle)
    assert ("RADAR_FRONT", "SEN401") in hints
    assert summary["sensors"]["RADAR_FRONT"]["received"] == 20
    assert summary["frames_published"] >= 1
