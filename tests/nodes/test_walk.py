# SPDX-License-Identifier: Apache-2.0
"""The walk of one LiDAR message that docs/concepts.md describes is the one that it really takes."""

import gc
import re
import sys
import threading
import time
from pathlib import Path

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray

from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_ros.nodes.matched_subscription import LATCHED
from peft_dml_ros.nodes.perception import PerceptionNode
from peft_dml_tools.datasets.encode import lidar_to_msg, tf_static_to_msg
from tests.support import scenes
from tests.support.random_bundle import make_random_bundle

pytestmark = [pytest.mark.ros, pytest.mark.alone]  # a frame that is late would be on the walk too
AT_MOST = 15
MAKE = RclpyFactory()


class Tracer:
    """Records, in order, the files of the vehicle in which functions are called, in every thread started since."""

    def __init__(self, root: Path) -> None:
        self.root, self.recording, self.files = root, False, []

    def __call__(self, frame, event, _):
        if self.recording and event == "call" and (name := frame.f_code.co_filename).startswith(str(self.root)):
            path = str(Path(name).relative_to(self.root))
            if path not in self.files:
                self.files.append(path)


@pytest.fixture
def traced(repository, tmp_path):
    """Files of one message in the steady state, from the callback to the boxes."""
    files = files_of_a_message(repository, tmp_path)
    # Activation froze what was there, so that the node would stay in the graph for the tests that follow.
    gc.unfreeze()
    gc.collect()
    return files


def files_of_a_message(repository, tmp_path):
    """Run a node, and trace one message through it."""
    tracer, before = Tracer(repository / "peft_dml_ros"), sys.gettrace()
    threading.settrace(tracer)
    bundle = make_random_bundle(tmp_path / "bundle")
    # Which engine is faster is measured, and the documentation names one.
    parameters = (f"bundle:={bundle}", "sensors:=[LIDAR_TOP]", "engine:=onnxruntime")
    rclpy.init(args=["--ros-args", *(word for one in parameters for word in ("-p", one)), "-r", "__ns:=/walk"])
    node, vehicle = PerceptionNode(), rclpy.create_node("vehicle", namespace="/walk")
    executor, boxes = SingleThreadedExecutor(), []
    executor.add_node(node)
    executor.add_node(vehicle)
    node.trigger_configure()
    node.trigger_activate()
    publish = node._outputs._detections.publish

    def published(message):
        publish(message)
        tracer.recording = False

    node._outputs._detections.publish = published
    cloud = vehicle.create_publisher(PointCloud2, "lidar_top/points", 5)
    vehicle.create_publisher(TFMessage, "/tf_static", LATCHED).publish(tf_static_to_msg(scenes.rig(), MAKE))
    vehicle.create_subscription(Detection3DArray, "perception/detections", boxes.append, 5)
    take = node._intake._decoder.take

    def send_until(count):
        end = time.monotonic() + 20
        while len(boxes) < count:
            assert time.monotonic() < end
            cloud.publish(lidar_to_msg(scenes.lidar(node.get_clock().now().nanoseconds), "lidar_top", MAKE))
            for _ in range(20):
                executor.spin_once(timeout_sec=0.01)

    send_until(4)
    sweep = lidar_to_msg(scenes.lidar(node.get_clock().now().nanoseconds), "lidar_top", MAKE)
    sys.settrace(tracer)
    tracer.recording = True
    from rclpy.serialization import serialize_message

    take("LIDAR_TOP", "lidar_top/points", bytes(serialize_message(sweep)), PointCloud2)
    end = time.monotonic() + 10
    while tracer.recording:
        assert time.monotonic() < end
        time.sleep(0.01)
    sys.settrace(before)
    threading.settrace(None)
    node.trigger_shutdown()
    executor.shutdown()
    for made in (node, vehicle):
        made.destroy_node()
    rclpy.try_shutdown()
    return tracer.files


def test_a_lidar_message_takes_the_walk_of_the_documentation(traced, repository):
    text = (repository / "docs" / "concepts.md").read_text(encoding="utf-8")
    walk = text.partition("## The walk of one LiDAR message")[2].partition("\n## ")[0]
    stations = re.findall(r"^\d+\. `([\w/]+\.py)`", walk, re.MULTILINE)
    assert traced == stations
    assert len(stations) <= AT_MOST
