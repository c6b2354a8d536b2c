#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# rclpy 7.1.6 (Jazzy, rmw_fastrtps_cpp 8.4.3, Fast DDS 2.14.5): deadline of a subscription whose publisher is silent.
#
# Guess before the run: both sides agree on a deadline of .2 s and have found each other; the publisher sends nothing: the
#   subscription's deadline event fires after .2 s, and every .2 s from then on. Without a publisher it does not fire.
# Seen: it never fires, on either side, before a first message. After one message it fires every .2 s; and it goes on when the
#   publisher is destroyed and nobody is left to be late.
# Matters here: as a watchdog it misses the sensor that was silent from the start, the commonest failure, and cries for one that
#   was switched off. The node looks at ages of messages by its own timer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check ros-jazzy-rclpy==7.1.6 ros-jazzy-rmw-fastrtps-cpp==8.4.3 \
    ros-std-msgs==5.3.6 ros-fastrtps==2.14.5
cat > "$folder/watch.py" <<'PYTHON'
import time

import rclpy
from rclpy.duration import Duration
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.qos import QoSProfile
from std_msgs.msg import Empty

rclpy.init()
node = rclpy.create_node("watch")
qos, seen = QoSProfile(depth=1, deadline=Duration(seconds=0.2)), []
late = SubscriptionEventCallbacks(deadline=lambda _: seen.append("late"), matched=lambda e: seen.append(f"publishers: {e.current_count}"))
node.create_subscription(Empty, "/sensor", lambda _: seen.append("message"), qos, event_callbacks=late)
publisher = node.create_publisher(Empty, "/sensor", qos, event_callbacks=PublisherEventCallbacks(deadline=lambda _: seen.append("late to send")))


def during(seconds):
    seen.clear()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.05)
    return list(seen)


silent = during(2)
publisher.publish(Empty())
after = during(2)
node.destroy_publisher(publisher)
gone = during(2)
print("silent:", silent, "after one:", after, "gone:", gone, sep="\n  ")
assert silent == ["publishers: 1"] and "publishers: 0" in gone, "the behaviour has changed"
assert min(after.count("late"), after.count("late to send"), gone.count("late")) >= 3, "the behaviour has changed"
PYTHON
ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_DOMAIN_ID=81 "$folder/venv/bin/python" "$folder/watch.py"
