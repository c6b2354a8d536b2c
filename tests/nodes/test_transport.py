# SPDX-License-Identifier: Apache-2.0
"""The shipped Fast DDS profile (tests/conftest.py): large clouds arrive, and processes find each other soon."""

import subprocess
import sys

import pytest
from sensor_msgs.msg import PointCloud2

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
    processes = [
        subprocess.Popen([sys.executable, "-c", TALK, role, str(SWEEPS)], stdout=subprocess.PIPE, text=True)
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


SECONDS = """
import time, rclpy
rclpy.init()
node = rclpy.create_node("later")
begin = time.monotonic()
while not node.count_publishers("/early") and time.monotonic() - begin < 5.0:
    time.sleep(0.02)
print(time.monotonic() - begin)
"""


def test_a_process_that_starts_later_finds_a_topic_soon(ros_node):
    """Without the profile every second process needs 2.5 to 3 s: findings/fastdds_second_process_is_found_late.sh."""
    ros_node.create_publisher(PointCloud2, "/early", 1)
    run = [sys.executable, "-c", SECONDS]
    waits = [float(subprocess.run(run, capture_output=True, timeout=60, check=True).stdout) for _ in range(6)]
    assert max(waits) < 2.0, waits
