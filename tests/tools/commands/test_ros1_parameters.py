# SPDX-License-Identifier: Apache-2.0
"""A ROS 1 bag of foreign topics and frames that only the node's parameter file explains, by each command."""

import json
import os

import numpy as np
import pytest
import yaml
from rosbags.rosbag1 import Writer
from typer.testing import CliRunner

from peft_dml_ros import conversions
from peft_dml_ros.cli.main import app
from peft_dml_ros.conversions import topics
from peft_dml_ros.core.measurements import CameraImage, ImuSample, LidarSweep
from peft_dml_ros.core.rig import CameraModel
from peft_dml_tools.datasets import encode
from peft_dml_tools.datasets.bag_types import RosbagsFactory, typestore
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.source import NuScenesSource

MAKE = RosbagsFactory()
START_NS, FRAMES = 16 * 10**17, 25
PLACES = {"LIDAR_TOP": [1.0, 0.0, 1.8], "CAM_FRONT": [1.7, 0.0, 1.5], "IMU": [0.0, 0.0, 0.4]}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The bag and the parameter file; images name an optical frame of REP 103, which nothing is said of."""
    folder, rng = tmp_path_factory.mktemp("ros1"), np.random.default_rng(0)
    pixels = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    camera = CameraModel(np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), 64, 48)
    points = np.column_stack([rng.uniform(-30, 30, (900, 2)), np.full(900, -1.8), np.full(900, 24.0), np.zeros(900)])
    kinds = {
        "/velodyne/points": topics.POINT_CLOUD,
        "/eye/image_color": topics.IMAGE,
        "/eye/info": topics.CAMERA_INFO,
        "/xsens/imu": topics.IMU,
    }
    with Writer(folder / "drive.bag") as writer:
        opened = {t: writer.add_connection(t, kind, typestore=typestore()) for t, kind in kinds.items()}
        for ns in range(START_NS, START_NS + FRAMES * 10**8, 10**8):
            sweep = LidarSweep(ns, (points + rng.normal(0, 0.01, points.shape) * [1, 1, 1, 0, 0]).astype(np.float32))
            messages = (
                encode.lidar_to_msg(sweep, "velodyne", MAKE),
                conversions.image_to_msg(
                    CameraImage(ns, pixels=np.roll(pixels, ns // 10**8, 0)), "eye_optical_frame", MAKE
                ),
                encode.camera_info_to_msg(camera, ns, "eye_optical_frame", MAKE),
                encode.imu_to_msg(ImuSample(ns, np.array([0.0, 0.0, 9.81]), np.zeros(3)), "xsens", MAKE),
            )
            for (topic, kind), message in zip(kinds.items(), messages, strict=True):
                cdr = typestore().serialize_cdr(message, kind)
                writer.write(opened[topic], ns, typestore().cdr_to_ros1(cdr, kind))
    optical = {"CAM_FRONT": [-1.5708, 0.0, -1.5708]}
    rig = {"sensors": {n: {"xyz": xyz, "rpy": optical.get(n, [0.0, 0.0, 0.0])} for n, xyz in PLACES.items()}}
    (folder / "rig.yaml").write_text(yaml.safe_dump(rig))
    inputs = {
        "topics": ["LIDAR_TOP=/velodyne/points", "CAM_FRONT=/eye/image_color", "IMU=/xsens/imu"],
        "infos": ["CAM_FRONT=/eye/info"],
        "intensity_scale": ["LIDAR_TOP=0.5"],
    }
    parameters = {"calibration": str(folder / "rig.yaml"), "base_frame": "vehicle", "inputs": inputs}
    (folder / "p.yaml").write_text(yaml.safe_dump({"perception": {"ros__parameters": parameters}}))
    return folder / "drive.bag", folder / "p.yaml"


def invoke(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_run(recorded, bundle, tmp_path):
    bag, config = recorded
    invoke("run", bag, "--config", config, "--bundle", bundle, "--out", tmp_path)
    summary = json.loads((tmp_path / "run.json").read_text())
    assert summary["sensors"].keys() == PLACES.keys()
    assert min(sensor["received"] for sensor in summary["sensors"].values()) >= FRAMES - 1
    assert summary["hints"] == []
    refused = CliRunner().invoke(app, ["run", str(bag), "--bundle", str(bundle), "--out", str(tmp_path / "bare")])
    assert refused.exit_code == 2
    assert "no static transform from 'base_link' to 'eye_optical_frame'" in refused.output
    assert "parameter `calibration`, with --config" in refused.output


def test_bag_import(recorded, tmp_path):
    bag, config = recorded
    text = invoke(
        "bag", "import", bag, "--config", config, "--out", tmp_path, "--assume-still", "--scene", "scene-0009"
    )
    assert "scene-0009, 5 keyframes" in text
    scene = NuScenesSource(NuScenesReader(tmp_path), "scene-0009")
    for name, xyz in PLACES.items():
        if name != "IMU":
            assert scene.rig[name].base_SE3_sensor.translation.tolist() == pytest.approx(xyz)
    # The optical frame looks ahead.
    np.testing.assert_allclose(scene.rig["CAM_FRONT"].base_SE3_sensor.rotation[:, 2], [1, 0, 0], atol=1e-4)
    sweep = next(measurement for _, measurement in scene.measurements() if isinstance(measurement, LidarSweep))
    assert set(sweep.points[:, 3]) == {12.0}


@pytest.mark.ros
@pytest.mark.alone
def test_demo(recorded, bundle, tmp_path):
    bag, config = recorded
    options = (
        "--source",
        bag,
        "--config",
        config,
        "--bundle",
        bundle,
        "--out",
        tmp_path,
        "--seconds",
        2,
        "--no-faults",
    )
    invoke("demo", *options, "--domain-id", os.environ["ROS_DOMAIN_ID"])
    sensors = json.loads((tmp_path / "metrics.json").read_text())["sensors"]
    for name in PLACES:
        assert sensors[name]["received"] >= 10, name
