# SPDX-License-Identifier: Apache-2.0
"""A live node draws for who looks, while boxes go on."""

import time

import pytest
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CompressedImage
from vision_msgs.msg import Detection3DArray

from peft_dml_ros.conversions import image_from_msg
from tests.support.drive_bag import make_drive_bag
from tests.support.random_bundle import make_random_bundle
from tests.support.ros_processes import ros_process

pytestmark = [pytest.mark.ros, pytest.mark.slow]
NODES = "peft_dml_ros.nodes"


def test_pictures_of_a_live_node(tmp_path, ros_node):
    bundle, drive = make_random_bundle(tmp_path / "bundle"), make_drive_bag(tmp_path / "drive.mcap", 3000)
    executor = SingleThreadedExecutor(context=ros_node.context)
    executor.add_node(ros_node)
    pictures, boxes = [], []
    ros_node.create_subscription(CompressedImage, "/perception/overlay/cam_front/compressed", pictures.append, 10)
    ros_node.create_subscription(Detection3DArray, "/perception/detections", boxes.append, 10)
    wait = ("--wait-for", "/lidar_top/points", "/cam_front/image/compressed")
    with (
        ros_process(f"{NODES}.perception", "--ros-args", "-p", f"bundle:={bundle}", log=tmp_path / "node") as node,
        ros_process("peft_dml_tools.nodes.replay", drive, "--loop", *wait, log=tmp_path / "replay"),
    ):
        deadline = time.monotonic() + 90
        while len(pictures) < 2 and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.02)
        assert len(pictures) >= 2, f"{len(boxes)} boxes\n{node.text}"
        assert "overlay: failed" not in node.text
        assert node.stop(timeout_s=20) == 0
        assert "Traceback" not in node.text
    assert {message.header.frame_id for message in pictures} == {"cam_front"}
    assert all(image_from_msg(message).jpeg for message in pictures)
    assert len(boxes) >= len(pictures)
