# SPDX-License-Identifier: Apache-2.0
"""The message packages are the real ones: announced with upstream's type hash, exchanged over DDS."""

import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy", reason="no ROS 2 here")

DETECTION_3D_ARRAY_HASH = "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018"
WAIT_S = 10.0


@pytest.fixture
def node():
    """Return a live node in a context of its own."""
    context = rclpy.Context()
    rclpy.init(context=context)
    made = rclpy.create_node("interface_test", context=context)
    yield made
    made.destroy_node()
    rclpy.shutdown(context=context)


def detections():
    from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = "car", 0.75
    result.pose.covariance[0] = 0.25
    box = Detection3D(results=[result], id="7")
    box.bbox.center.position.x, box.bbox.size.x = 12.5, 4.6
    message = Detection3DArray(detections=[box])
    message.header.frame_id, message.header.stamp.sec = "base_link", 1_700_000_000
    return message


def transforms():
    from geometry_msgs.msg import TransformStamped
    from tf2_msgs.msg import TFMessage

    one = TransformStamped(child_frame_id="lidar")
    one.header.frame_id, one.transform.translation.z = "base_link", 1.84
    return TFMessage(transforms=[one])


def scan():
    from radar_msgs.msg import RadarReturn, RadarScan

    message = RadarScan(returns=[RadarReturn(range=12.5, azimuth=0.5, doppler_velocity=-3.25, amplitude=8.0)])
    message.header.frame_id = "radar_front"
    return message


UPSTREAM = {
    "vision_msgs/msg/Detection3DArray": DETECTION_3D_ARRAY_HASH,
    "autoware_perception_msgs/msg/DetectedObjects": (
        "RIHS01_2facd6b15786cbd1f720cdd23d22e6d60d2e7e83b8dff8fd401330e24edb187b"
    ),
    "autoware_perception_msgs/msg/TrackedObjects": (
        "RIHS01_3559bd4e62ce8a4d96e32720c02bbe656cc090bb2b3f3f91f52a7c3ab095417a"
    ),
    "autoware_perception_msgs/msg/PredictedObjects": (
        "RIHS01_b63151309c3323bb6e3f09c54b3358aa53a8e66937a1cde15c5d5ede1ef80a08"
    ),
}
"""Hashes of the upstream packages; those of Autoware are of autoware_msgs 1.12.0."""


@pytest.mark.ros
@pytest.mark.parametrize("name", UPSTREAM)
def test_messages_announce_the_upstream_type_hash(node, name) -> None:
    package, _, kind = name.split("/")
    message = getattr(importlib.import_module(f"{package}.msg"), kind)
    publisher = node.create_publisher(message, "announced", 1)
    deadline = time.monotonic() + WAIT_S
    while not (found := node.get_publishers_info_by_topic("/announced")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [str(info.topic_type_hash) for info in found] == [UPSTREAM[name]]
    assert found[0].topic_type == name
    node.destroy_publisher(publisher)


@pytest.mark.ros
@pytest.mark.parametrize("make", [detections, transforms, scan])
def test_message_travels_over_dds_unchanged(node, make) -> None:
    sent, received = make(), []
    node.create_subscription(type(sent), "travel", received.append, 1)
    publisher = node.create_publisher(type(sent), "travel", 1)
    executor = rclpy.executors.SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    deadline = time.monotonic() + WAIT_S
    while not received and time.monotonic() < deadline:
        if publisher.get_subscription_count():
            publisher.publish(sent)
        executor.spin_once(timeout_sec=0.1)
    assert received, f"nothing arrived in {WAIT_S} s"
    assert received[0] == sent


def test_every_definition_has_its_class(repository: Path) -> None:
    import radar_msgs.msg
    import tf2_msgs.msg
    import vision_msgs.msg

    for package in (radar_msgs, tf2_msgs, vision_msgs):
        defined = {path.stem for path in (repository / "interfaces" / package.__name__ / "msg").glob("*.msg")}
        assert defined <= set(dir(package.msg))


@pytest.mark.alone
def test_second_build_does_nothing(repository: Path) -> None:
    command = [sys.executable, str(repository / "interfaces" / "build.py")]
    subprocess.run(command, capture_output=True, check=True, timeout=120)
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "built" not in done.stdout
    assert done.stdout.count("up to date") + done.stdout.count("provided by ROS") == 4
    assert time.monotonic() - started < 3.0


def test_missing_compiler_is_named(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repository / "interfaces" / "build.py"), "--force"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={"PATH": str(tmp_path)})
    if "provided by ROS" in done.stdout:
        pytest.skip("ROS provides the messages; nothing is compiled")
    assert done.returncode == 1
    assert "gcc is not installed" in done.stderr
    assert "build-essential" in done.stderr
