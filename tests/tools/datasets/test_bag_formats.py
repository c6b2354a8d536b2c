# SPDX-License-Identifier: Apache-2.0
"""Bags that no ROS 2 recorder wrote, and bags that the node's parameter file has to explain."""

import shutil
import struct

import numpy as np
import pytest
import yaml
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer

from peft_dml_ros.conversions import topics
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import ImuSample, LidarSweep
from peft_dml_ros.core.rig import Rig, Sensor
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_tools.datasets.bag_options import BagOptions
from peft_dml_tools.datasets.bag_storage import BagStorage
from peft_dml_tools.datasets.bag_types import RosbagsFactory, typestore
from peft_dml_tools.datasets.bags import BagFile, BagSource, write_bag
from peft_dml_tools.datasets.encode import imu_to_msg, lidar_to_msg, tf_static_to_msg
from peft_dml_tools.datasets.mcap_repair import copy_whole_records
from peft_dml_tools.datasets.source import open_source
from tests.support.made_source import MadeSource, pose, sweep

MAKE = RosbagsFactory()


@pytest.fixture
def bag(tmp_path):
    stamps = [16 * 10**17 + i * 10**8 for i in range(5)]
    return write_bag(MadeSource([*map(sweep, stamps), *(pose(s, 0.0) for s in stamps)]), tmp_path / "drive.mcap")


def with_profile(bag, profile):
    """Return the file with another profile in its header."""
    data = bag.read_bytes()
    (length,) = struct.unpack_from("<Q", data, 9)
    library = b"made"
    body = struct.pack("<I", len(profile)) + profile + struct.pack("<I", len(library)) + library
    # What follows moves, so that the index no longer fits: a writer without profile has none either.
    end = data.rindex(b"\x0f" + struct.pack("<Q", 4))
    path = bag.with_name("other.mcap")
    path.write_bytes(data[:8] + b"\x01" + struct.pack("<Q", len(body)) + body + data[17 + length : end])
    return path


def test_an_mcap_without_profile_is_read(bag):
    source = BagSource(with_profile(bag, b""))
    assert [m.stamp_ns for _, m in source.measurements()] == [m.stamp_ns for _, m in BagSource(bag).measurements()]
    assert source.damage == ""


def test_an_mcap_of_ros_1_and_an_empty_one_are_named(bag, tmp_path):
    with pytest.raises(DataError, match=r"ROS 1 messages \(profile 'ros1'\); fix: give the \.bag"):
        BagSource(with_profile(bag, b"ros1"))
    (tmp_path / "nothing.mcap").write_bytes(b"")
    with pytest.raises(DataError, match=r"is empty \(0 bytes\).*record it again"):
        BagSource(tmp_path / "nothing.mcap")


@pytest.mark.parametrize("sqlite3", [False, True])
def test_files_of_a_folder_that_overlap_are_read_by_time(tmp_path, sqlite3):
    """One recording a sensor, put together by `ros2 bag reindex`; with MCAP, one has no index and is out of order."""
    logged_ns = {"/a": [100, 200, 300, 400], "/b": [150, 350, 250]}
    (whole := tmp_path / "whole").mkdir()
    parts = []
    for topic, times_ns in logged_ns.items():
        with BagFile(tmp_path / topic[1:], sqlite3=sqlite3) as part:
            for time_ns in (t * 10**7 for t in times_ns):
                part.write(topic, time_ns, imu_to_msg(ImuSample(time_ns, np.zeros(3), np.zeros(3)), "imu_link", MAKE))
        parts.append(
            yaml.safe_load((tmp_path / topic[1:] / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        )
        (name,) = parts[-1]["relative_file_paths"]
        (copy_whole_records if topic == "/b" and not sqlite3 else shutil.copy)(
            tmp_path / topic[1:] / name, whole / name
        )
    for name in ("relative_file_paths", "topics_with_message_count", "files"):
        parts[0][name] += parts[1][name]
    parts[0]["message_count"] += parts[1]["message_count"]
    (whole / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": parts[0]}))
    storage = BagStorage(whole)
    assert [m.logged_ns // 10**7 for m in storage.logged({"/a", "/b"})] == [100, 150, 200, 250, 300, 350, 400]
    assert [m.logged_ns // 10**7 for m in storage.logged({"/b"}, 2 * 10**9)] == [250, 350]
    assert storage.damage is None


@pytest.mark.parametrize("folder", [False, True])
def test_an_mcap_whose_index_has_no_copies_of_the_channels_is_read(bag, tmp_path, folder):
    """The format lets writers leave them out; rosbags then finds no topic."""
    stamps = [m.stamp_ns for _, m in BagSource(bag).measurements()]
    path = write_bag(BagSource(bag), tmp_path / "folder") if folder else bag
    (file,) = path.glob("*.mcap") if folder else [bag]
    data = file.read_bytes()
    (start,) = struct.unpack_from("<Q", data, len(data) - 28)
    at, kept = start, b""
    while data[at] not in {0x02, 0x0E}:
        end = at + 9 + struct.unpack_from("<Q", data, at + 1)[0]
        kept += data[at:end] if data[at] != 0x04 else b""
        at = end
    file.write_bytes(data[:start] + kept + b"\x02" + struct.pack("<QQQI", 20, start, 0, 0) + data[-8:])
    source = BagSource(path)
    assert [m.stamp_ns for _, m in source.measurements()] == stamps
    assert source.damage == ""


def ros1(message, kind):
    return typestore().cdr_to_ros1(typestore().serialize_cdr(message, kind), kind)


@pytest.fixture
def ros1_bag(tmp_path):
    """LiDAR and IMU of ROS 1 under foreign topics, on another base frame, without /tf_static."""
    store = typestore()
    points = np.arange(20, dtype=np.float32).reshape(4, 5)
    with Ros1Writer(tmp_path / "drive.bag") as writer:
        cloud = writer.add_connection("/velodyne/points", topics.POINT_CLOUD, typestore=store)
        imu = writer.add_connection("/xsens/imu", topics.IMU, typestore=store)
        for i in range(4):
            stamp_ns = 16 * 10**17 + i * 10**8
            message = lidar_to_msg(LidarSweep(stamp_ns, points + i), "velodyne", MAKE)
            writer.write(cloud, stamp_ns, ros1(message, topics.POINT_CLOUD))
            message = imu_to_msg(ImuSample(stamp_ns, np.array([0.0, 0, 9.8]), np.zeros(3)), "imu_link", MAKE)
            writer.write(imu, stamp_ns, ros1(message, topics.IMU))
    return tmp_path / "drive.bag"


def options(tmp_path, **parameters):
    rig = tmp_path / "rig.yaml"
    rig.write_text("sensors:\n  LIDAR_TOP: {xyz: [1.0, 0.0, 1.8], rpy: [0.0, 0.0, 0.0]}\n")
    return BagOptions.of(NodeParams.model_validate({"calibration": str(rig), "base_frame": "vehicle", **parameters}))


def test_a_ros_1_bag_explained_by_the_parameter_file(ros1_bag, tmp_path):
    with pytest.raises(DataError, match=r"LIDAR_TOP: no static transform from 'base_link' to 'velodyne'.*calibration"):
        _ = BagSource(ros1_bag).rig
    named = options(tmp_path, inputs={"topics": ("LIDAR_TOP=/velodyne/points",), "intensity_scale": ("LIDAR_TOP=2",)})
    source = open_source(ros1_bag, options=named)
    rows = list(source.measurements())
    assert [n for n, _ in rows] == ["LIDAR_TOP"] * 4
    np.testing.assert_array_equal(rows[1][1].points[:, 3], (np.arange(20).reshape(4, 5)[:, 3] + 1) * 2)
    assert source.rig["LIDAR_TOP"].base_SE3_sensor.translation.tolist() == [1.0, 0.0, 1.8]
    assert source.where("LIDAR_TOP") == "/velodyne/points"
    reason = "no static transform from 'vehicle' to 'imu_link'; give it in a calibration file"
    assert source.left_out == {"IMU": reason}
    with pytest.raises(ConfigError, match=r"no topic '/velodine/points'.*did you mean '/velodyne/points'"):
        BagSource(ros1_bag, options=options(tmp_path, inputs={"topics": ("LIDAR_TOP=/velodine/points",)}))


def test_a_base_frame_on_another_branch(tmp_path):
    """The node finds the way over a common ancestor (base_footprint below base_link, as REP-120 has it): so do bags."""
    kind, topic = topics.POINT_CLOUD, "/lidar_top/points"
    link_SE3_footprint, link_SE3_lidar = SE3.from_yaw(0.0, (0.0, 0.0, -0.3)), SE3.from_yaw(0.5, (1.0, 0.0, 1.5))
    tree = Rig(
        {"IMU": Sensor("IMU", "imu", link_SE3_footprint), "LIDAR_TOP": Sensor("LIDAR_TOP", "lidar", link_SE3_lidar)}
    )
    static = tf_static_to_msg(tree, MAKE)
    for transform in static.transforms:
        transform.child_frame_id = transform.child_frame_id.replace("imu", "base_footprint")
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        cloud = writer.add_connection(topic, kind, typestore=typestore())
        tf = writer.add_connection("/tf_static", topics.TRANSFORMS, typestore=typestore())
        writer.write(tf, 1, typestore().serialize_cdr(static, topics.TRANSFORMS))
        # A frame that is left empty is the sensor's own, live and offline.
        writer.write(cloud, 2, typestore().serialize_cdr(lidar_to_msg(sweep(10**18)[1], "", MAKE), kind))
    source = BagSource(tmp_path / "bag", options=BagOptions(base_frame="base_footprint"))
    place = source.rig["LIDAR_TOP"].base_SE3_sensor
    np.testing.assert_allclose(place.translation, [1.0, 0.0, 1.8])
    assert place.yaw_rad == pytest.approx(0.5)


def test_a_tree_on_another_base_frame(tmp_path):
    store, source = typestore(), MadeSource([sweep(10**9)])
    static = tf_static_to_msg(source.rig, MAKE)
    for transform in static.transforms:
        transform.header.frame_id = "vehicle"
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        tf = writer.add_connection(topics.TF_STATIC, topics.TRANSFORMS, typestore=store)
        cloud = writer.add_connection("/lidar_top/points", topics.POINT_CLOUD, typestore=store)
        writer.write(tf, 1, store.serialize_cdr(static, topics.TRANSFORMS))
        message = lidar_to_msg(sweep(10**9)[1], "lidar_top", MAKE)
        writer.write(cloud, 10**9, store.serialize_cdr(message, topics.POINT_CLOUD))
    with pytest.raises(DataError, match=r"`base_frame`; the transforms here start at vehicle"):
        _ = BagSource(tmp_path / "bag").rig
    assert "LIDAR_TOP" in BagSource(tmp_path / "bag", options=BagOptions(base_frame="vehicle")).rig.sensors
