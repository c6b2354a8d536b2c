#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# rclpy 7.1.6 (Jazzy, rmw_fastrtps_cpp 8.4.3) and rosbags 0.11.9: bytes of a message that ends in empty sequences of float64.
#
# Guess before the run: serialize_message gives the bytes that go over the wire, and rosbags reads them.
# Seen: a JointState with names only has 44 bytes over the wire (raw subscription), and serialize_message gives 52: where a
#   sequence of 8-byte numbers is empty, it counts the padding before its first number, and does not cut the rest off. rosbags
#   refuses the 52 ("CDR message size mismatch") and reads the 44. Float64MultiArray without data is refused as well.
# Matters here: bags that are written with serialize_message, as rosbag2's tutorial for Python does, cannot be read
#   whole by rosbags. No sensor message that is read here ends like that (Imu, PointCloud2, CameraInfo are right).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ros-jazzy-rclpy==7.1.6 ros-jazzy-rmw-fastrtps-cpp==8.4.3 ros-sensor-msgs==5.3.6 \
    ros-fastrtps==2.14.5 rosbags==0.11.9
cat > "$folder/both.py" <<'PYTHON'
import time

import rclpy
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, Imu, JointState, PointCloud2
from std_msgs.msg import Float64MultiArray

store = get_typestore(Stores.ROS2_JAZZY)


def read(data, message):
    kind = f"{type(message).__module__.split('.')[0]}/msg/{type(message).__name__}"
    try:
        return len(store.serialize_cdr(store.deserialize_cdr(data, kind), kind))
    except SerdeError as error:
        return str(error)


joint = JointState(name=["arm"])
joint.header.frame_id = "abc"
rclpy.init()
node, wire = rclpy.create_node("both"), []
node.create_subscription(JointState, "joints", wire.append, 1, raw=True)
publisher, end = node.create_publisher(JointState, "joints", 1), time.monotonic() + 20
while not wire and time.monotonic() < end:
    publisher.publish(joint)
    rclpy.spin_once(node, timeout_sec=0.2)
made = serialize_message(joint)
print(f"JointState: serialize_message {len(made)} bytes, rosbags: {read(made, joint)}")
print(f"JointState: over the wire {len(wire[0])} bytes, rosbags: {read(wire[0], joint)}")
assert (len(made), len(wire[0])) == (52, 44) and made[:44] == wire[0], "the behaviour has changed"
assert deserialize_message(made, JointState) == joint
assert "size mismatch" in read(made, joint) and read(wire[0], joint) == 44, "the behaviour has changed"
assert "size mismatch" in read(serialize_message(Float64MultiArray()), Float64MultiArray()), "the behaviour has changed"
for message in (Imu(), PointCloud2(), CameraInfo()):
    data = serialize_message(message)
    assert read(data, message) == len(data), "the behaviour has changed"
PYTHON
export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_DOMAIN_ID=${ROS_DOMAIN_ID:-58} RMW_IMPLEMENTATION=rmw_fastrtps_cpp
PYTHONPATH= "$folder/venv/bin/python" "$folder/both.py"
