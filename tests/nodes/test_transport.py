# SPDX-License-Identifier: Apache-2.0
"""The shipped Fast DDS profile carries LiDAR sweeps of nuScenes size, best effort, between two processes."""

import os
import subprocess
import sys

import pytest

from tests.support.ros_processes import PROFILE

pytestmark = [pytest.mark.ros, pytest.mark.slow]

SWEEPS = 40
TALK = """
import array, sys, time, rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
rclpy.init()
node = rclpy.create_node(sys.argv[1])
count = int(sys.argv[2])
if sys.argv[1] == "talker":
    publisher = node.create_publisher(PointCloud2, "big/points", qos)
    cloud = PointCloud2(data=array.array("B", bytes(694_400)))
    while publisher.get_subscription_count() < 1:
        time.sleep(0.05)
    time.sleep(0.5)
    for _ in range(count):
        publisher.publish(cloud)
        time.sleep(0.1)
else:
    heard = []
    node.create_subscription(PointCloud2, "big/points", heard.append, qos)
    last = time.monotonic() + 15.0
    while len(heard) < count and time.monotonic() < last:
        rclpy.spin_once(node, timeout_sec=0.1)
        last = min(last, time.monotonic() + 2.0) if len(heard) > count // 2 else last
    print(len(heard))
node.destroy_node()
rclpy.shutdown()
"""


def test_large_best_effort_clouds_arrive():
    profile = {name: str(PROFILE) for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TALK, role, str(SWEEPS)], env=os.environ | profile, stdout=subprocess.PIPE, text=True
        )
        for role in ("listener", "talker")
    ]
    try:
        heard = int(processes[0].communicate(timeout=60)[0])
        assert processes[1].wait(10) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait(10)
    assert heard >= 0.9 * SWEEPS
