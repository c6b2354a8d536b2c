# SPDX-License-Identifier: Apache-2.0
"""Tracks and Autoware's objects of a real node over DDS, fed by a bag."""

import time

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("autoware_perception_msgs", reason="run python interfaces/build.py")

from autoware_perception_msgs.msg import DetectedObjects, PredictedObjects, TrackedObjects
from rclpy.executors import SingleThreadedExecutor
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from tests.support.drive_bag import make_drive_bag
from tests.support.random_bundle import make_random_bundle
from tests.support.ros_processes import ros_process

pytestmark = pytest.mark.ros
KINDS = {
    "tracks": Detection3DArray,
    "track_markers": MarkerArray,
    "objects": DetectedObjects,
    "tracked_objects": TrackedObjects,
    "predicted_objects": PredictedObjects,
}


def test_every_kind_of_object_is_published(ros_node, tmp_path):
    bundle, bag = make_random_bundle(tmp_path / "bundle"), make_drive_bag(tmp_path / "drive.mcap", 4000)
    got = {name: [] for name in KINDS}
    for name, kind in KINDS.items():
        ros_node.create_subscription(kind, f"/perception/{name}", got[name].append, 10)
    executor = SingleThreadedExecutor(context=ros_node.context)
    executor.add_node(ros_node)
    given = {"bundle": bundle, "autoware": "true", "detection.score_threshold": 0.0, "tracking.publish": 0.0}
    given |= {"tracking.birth_score": 0.0}
    values = [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
    perception = ("peft_dml_ros.nodes.perception", "--ros-args", *values)
    with ros_process(*perception, log=tmp_path / "node.log") as node:
        node.wait_for("perception active", 60.0)
        replay = ("peft_dml_tools.nodes.replay", bag, "--loop")
        with ros_process(*replay, log=tmp_path / "replay.log"):
            deadline = time.monotonic() + 60.0
            while not all(len(found) > 3 for found in got.values()) and time.monotonic() < deadline:
                executor.spin_once(timeout_sec=0.1)
        assert all(len(found) > 3 for found in got.values()), (node.text, {k: len(v) for k, v in got.items()})
    stamps = {
        name: {(m.header.stamp.sec, m.header.stamp.nanosec) for m in got[name]} for name in KINDS if "mark" not in name
    }
    assert set.intersection(*stamps.values()), "one frame gives all of them, with one stamp"
    last = got["tracks"][-1]
    assert last.header.frame_id == "base_link"
    assert all(detection.id.isdecimal() for detection in last.detections)
    assert len({detection.id for detection in last.detections}) == len(last.detections)


def test_autoware_is_off_by_default(ros_node, tmp_path):
    with ros_process("peft_dml_ros.nodes.perception", log=tmp_path / "node.log") as node:
        node.wait_for("perception active", 60.0)
        deadline = time.monotonic() + 10.0
        topics = []
        while "/perception/tracks" not in topics and time.monotonic() < deadline:
            topics = [name for name, _ in ros_node.get_topic_names_and_types()]
            time.sleep(0.1)
    assert "/perception/tracks" in topics
    assert "/perception/objects" not in topics
