#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# rosidl_generator_py 0.22.2 (Jazzy, rclpy 7.1.6): numbers that are no Python float in float32 and float64 fields.
#
# Guess before the run: Point.x takes numpy.float32(1.5) and int 1 as they are, or refuses them with an AssertionError, as
#   earlier releases did.
# Seen: both are taken and the message holds another number, without an error: 1 becomes 5e-324, numpy.float32(1.5) some number
#   next to 0: the object's bytes are read as if they were a float's. numpy.float64 is right, as it is a float; so are arrays and
#   lists of float32. Integer fields refuse numpy.int64. ROS_PYTHON_CHECK_FIELDS=1 brings the AssertionError back.
# Matters here: box.center.position.x = points[0, 0] of a float32 cloud puts the box at the sensor. The tests of the nodes
#   pass with ROS_PYTHON_CHECK_FIELDS=1; own nodes should be tested with it as well.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check ros-jazzy-rclpy==7.1.6 ros-jazzy-rmw-fastrtps-cpp==8.4.3 \
    ros-geometry-msgs==5.3.6 ros-sensor-msgs==5.3.6 ros-rosidl-generator-py==0.22.2 ros-fastrtps==2.14.5 numpy==1.26.4
cat > "$folder/fields.py" <<'PYTHON'
import numpy as np
from geometry_msgs.msg import Point
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import LaserScan


def through(message):
    return deserialize_message(serialize_message(message), type(message))


def seen(value):
    try:
        return through(Point(x=value)).x
    except AssertionError:
        return "refused"


found = [seen(value) for value in (1.5, np.float64(1.5), np.float32(1.5), 1)]
ranges = list(through(LaserScan(ranges=np.float32([1.5]))).ranges)
print("float, float64, float32, int:", found, "array of float32:", ranges)
assert ranges == [1.5] and found[:2] == [1.5, 1.5]
wrong = [value == "refused" or abs(value) < 1e-300 for value in found[2:]]
assert all(wrong) and ("refused" in found) == bool(__import__("os").environ.get("ROS_PYTHON_CHECK_FIELDS")), "the behaviour has changed"
PYTHON
env -u ROS_PYTHON_CHECK_FIELDS "$folder/venv/bin/python" "$folder/fields.py"
ROS_PYTHON_CHECK_FIELDS=1 "$folder/venv/bin/python" "$folder/fields.py"
