#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# rclpy 7.1.6 (Jazzy, rmw_fastrtps_cpp 8.4.3, Fast DDS 2.14.5): lifespan of a publisher, for a subscription that is busy.
#
# Guess before the run: a message with a lifespan of .2 s that waits for .8 s, because the node computes, is dropped: in DDS lifespan is the
#   writer's policy, and the message carries when it was sent.
# Seen: it is delivered, .8 s old. Only a subscription whose own profile has a lifespan drops it, and such a one does so even where the
#   publisher has none. Nothing tells of the difference; both are compatible with either.
# Matters here: a driver that publishes with a lifespan does not protect a slow node from stale sweeps. The node looks at the stamps of its
#   messages itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check ros-jazzy-rclpy==7.1.6 ros-jazzy-rmw-fastrtps-cpp==8.4.3 \
    ros-std-msgs==5.3.6 ros-fastrtps==2.14.5
cat > "$folder/late.py" <<'PYTHON'
import time

import rclpy
from rclpy.duration import Duration
from rclpy.qos import QoSProfile
from std_msgs.msg import Int32

rclpy.init()
node, other = rclpy.create_node("busy"), rclpy.create_node("sensor")
short, plain, seen = QoSProfile(depth=10, lifespan=Duration(seconds=0.2)), QoSProfile(depth=10), {}


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.05)


senders = {"publisher short": other.create_publisher(Int32, "/short", short), "publisher plain": other.create_publisher(Int32, "/plain", plain)}
for sender, publisher in senders.items():
    for receiver, qos in (("subscription short", short), ("subscription plain", plain)):
        heard = seen[sender, receiver] = []
        node.create_subscription(Int32, publisher.topic_name, lambda message, heard=heard: heard.append(message.data), qos)
spin(3)
for number, wait in ((1, 0.0), (2, 0.8)):
    for publisher in senders.values():
        publisher.publish(Int32(data=number))
    time.sleep(wait)
    spin(1)
print(seen)
assert seen["publisher short", "subscription short"][-1:] != [2] and seen["publisher plain", "subscription plain"] == [1, 2]
assert seen["publisher short", "subscription plain"][-1] == 2, "the behaviour has changed"
assert 2 not in seen["publisher plain", "subscription short"], "the behaviour has changed"
PYTHON
ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_DOMAIN_ID=81 "$folder/venv/bin/python" "$folder/late.py"
