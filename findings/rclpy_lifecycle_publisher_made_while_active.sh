#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# rclpy 7.1.6 (Jazzy, rmw_fastrtps_cpp 8.4.3): create_lifecycle_publisher in a lifecycle node that is active already.
#
# Guess before the run: it publishes at once: managed publishers are silent while their node is not active, and it is.
# Seen: it drops everything, without an error or a warning, until the node has been deactivated and activated again. One
#   made before that, and one of create_publisher, are heard.
# Matters here: a node that adds an output at run time (a camera's overlay, a debug topic) has a topic that `ros2 topic list`
#   shows and on which nothing comes. The node makes all of its publishers at configure.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check ros-jazzy-rclpy==7.1.6 ros-jazzy-rmw-fastrtps-cpp==8.4.3 \
    ros-std-msgs==5.3.6 ros-fastrtps==2.14.5
cat > "$folder/late.py" <<'PYTHON'
import time

import rclpy
from rclpy.lifecycle import Node
from std_msgs.msg import Empty

rclpy.init()
node, listener, heard = Node("managed"), rclpy.create_node("listener"), []
made = {}
for name in ("before", "while active", "plain"):
    if name == "while active":
        node.trigger_configure(), node.trigger_activate()
    topic = "/" + name.replace(" ", "_")
    make = node.create_publisher if name == "plain" else node.create_lifecycle_publisher
    made[name] = make(Empty, topic, 10)
    listener.create_subscription(Empty, topic, lambda _, name=name: heard.append(name), 10)


def answers():
    end = time.monotonic() + 20
    while any(p.get_subscription_count() == 0 for p in made.values()) and time.monotonic() < end:
        time.sleep(0.05)
    heard.clear()
    for publisher in made.values():
        publisher.publish(Empty())
    for _ in range(20):
        rclpy.spin_once(listener, timeout_sec=0.1)
    return sorted(heard)


first = answers()
node.trigger_deactivate(), node.trigger_activate()
second = answers()
print("active:", first, "active for the second time:", second)
assert first == ["before", "plain"] and second == ["before", "plain", "while active"], "the behaviour has changed"
PYTHON
ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_DOMAIN_ID=81 "$folder/venv/bin/python" "$folder/late.py"
