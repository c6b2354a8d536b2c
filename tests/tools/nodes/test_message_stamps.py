# SPDX-License-Identifier: Apache-2.0
"""Stamps move by exactly the offset, and nothing else in the message changes."""

import pytest
from geometry_msgs.msg import TransformStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Imu, PointCloud2
from std_msgs.msg import Float32, Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

from peft_dml_ros.conversions.cdr import leading_stamp_ns
from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.nodes.message_stamps import shift_leading, shifter


@settings(max_examples=50, deadline=None)
@given(
    seconds=st.integers(0, 2_000_000_000),
    nanoseconds=st.integers(0, 999_999_999),
    offset_ns=st.integers(-(10**17), 10**17),
)
def test_a_leading_header_is_patched_in_place(seconds, nanoseconds, offset_ns):
    stamp_ns = seconds * 10**9 + nanoseconds
    if not 0 <= stamp_ns + offset_ns < 2**31 * 10**9:
        return
    message = Imu(header=Header(frame_id="imu"))
    message.header.stamp.sec, message.header.stamp.nanosec = seconds, nanoseconds
    message.linear_acceleration.z = 9.81
    cdr = serialize_message(message)
    assert leading_stamp_ns(cdr) == stamp_ns
    shifted = shifter("sensor_msgs/msg/Imu")(cdr, offset_ns)
    assert leading_stamp_ns(shifted) == stamp_ns + offset_ns
    back = deserialize_message(shifted, Imu)
    back.header.stamp = message.header.stamp
    assert back == message


def test_a_cloud_keeps_its_bytes():
    cloud = PointCloud2(data=bytes(range(256)) * 100)
    cdr = serialize_message(cloud)
    shifted = shifter("sensor_msgs/msg/PointCloud2")(cdr, 5)
    assert len(shifted) == len(cdr)
    assert deserialize_message(shifted, PointCloud2).data == cloud.data


def test_headers_further_inside_move_too():
    box = Detection3D(results=[ObjectHypothesisWithPose()])
    boxes = Detection3DArray(detections=[box, Detection3D()])
    boxes.header.stamp.sec = box.header.stamp.sec = 10
    shifted = deserialize_message(
        shifter("vision_msgs/msg/Detection3DArray")(serialize_message(boxes), 1_500_000_000), Detection3DArray
    )
    stamps = [(h.stamp.sec, h.stamp.nanosec) for h in (shifted.header, shifted.detections[0].header)]
    assert stamps == [(11, 500_000_000)] * 2
    assert len(shifted.detections[0].results) == 1
    tree = TFMessage(transforms=[TransformStamped()])
    moved = deserialize_message(shifter("tf2_msgs/msg/TFMessage")(serialize_message(tree), 3 * 10**9), TFMessage)
    assert moved.transforms[0].header.stamp.sec == 3


def test_messages_without_a_header_stay_as_they_are():
    cdr = serialize_message(Float32(data=3.5))
    assert shifter("std_msgs/msg/Float32")(cdr, 10**9) == cdr


def test_an_unknown_type_is_named_with_its_package():
    with pytest.raises(ConfigError, match="install the package 'no_such_msgs'"):
        shifter("no_such_msgs/msg/Thing")


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_stamp_of_nested_messages_moves_and_nothing_else(data):
    text = st.text("ab/_", max_size=9)
    boxes = Detection3DArray()
    for _ in range(data.draw(st.integers(0, 4))):
        box = Detection3D(
            id=data.draw(text), results=[ObjectHypothesisWithPose() for _ in range(data.draw(st.integers(0, 3)))]
        )
        box.header.frame_id, box.header.stamp.sec = data.draw(text), data.draw(st.integers(0, 10**9))
        for result in box.results:
            result.hypothesis.class_id, result.pose.covariance[35] = data.draw(text), 2.5
        boxes.detections.append(box)
    moved = deserialize_message(
        shifter("vision_msgs/msg/Detection3DArray")(serialize_message(boxes), 7 * 10**9), Detection3DArray
    )
    for header in (boxes.header, *(box.header for box in boxes.detections)):
        header.stamp.sec += 7
    assert moved == boxes


def test_a_nested_message_that_is_cut_short_stays_as_it_is():
    cdr = serialize_message(Detection3DArray(detections=[Detection3D(id="a")]))
    for end in range(len(cdr) - 8):
        assert shifter("vision_msgs/msg/Detection3DArray")(cdr[:end], 10**9) in {
            cdr[:end],
            shift_leading(cdr[:end], 10**9),
        }
