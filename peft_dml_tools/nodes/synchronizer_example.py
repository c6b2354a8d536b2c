# SPDX-License-Identifier: Apache-2.0
"""Example of a node on `TolerantSynchronizer`: says which of a LiDAR and a camera are there, set by set.

    python -m peft_dml_tools.nodes.synchronizer_example --ros-args -r points:=/lidar_top/points

Unplug either sensor, or play a bag in a loop: the node goes on with what is there.
"""

import threading
from collections.abc import Sequence

from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, PointCloud2

from peft_dml_ros.nodes.runtime import ros_main, spin
from peft_dml_tools.nodes.tolerant_synchronizer import Subscriber, TolerantSynchronizer


class SynchronizerExample(Node):
    """Logs one line a set."""

    def __init__(self) -> None:
        super().__init__("synchronizer_example")
        filters = [
            Subscriber(self, PointCloud2, "points", qos_profile_sensor_data),
            Subscriber(self, CompressedImage, "image/compressed", qos_profile_sensor_data),
        ]
        self._synchronizer = TolerantSynchronizer(filters, queue_size=10, slop=0.05)
        self._synchronizer.registerCallback(self._on_set)

    def _on_set(self, cloud: PointCloud2 | None, image: CompressedImage | None) -> None:
        points = "no points" if cloud is None else f"{cloud.width * cloud.height} points"
        self.get_logger().info(f"{points}, {'no image' if image is None else f'image of {len(image.data)} bytes'}")


def run(stop: threading.Event) -> None:
    """Spin the node until `stop` is set."""
    spin(SynchronizerExample(), stop)


def main(args: Sequence[str] | None = None) -> None:
    """Run as a process; `args` as on the command line, including `--ros-args`."""
    ros_main(run, args)


if __name__ == "__main__":
    main()
