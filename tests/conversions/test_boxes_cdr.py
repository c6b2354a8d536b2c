# SPDX-License-Identifier: Apache-2.0
"""Boxes written straight as bytes are the message that rclpy would have packed, whatever the lengths of its strings."""

from dataclasses import replace

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from vision_msgs.msg import Detection3DArray

from peft_dml_ros.conversions.boxes import boxes_to_cdr
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_tools.datasets.boxes_from_msg import boxes_from_msg
from peft_dml_tools.datasets.encode import boxes_to_msg
from tests.support.random_boxes import random_boxes

STAMP_NS = 1_735_700_000_123_456_789


def made(count, *, ids=False):
    boxes = random_boxes(count, tuple("é" * (i % 9) for i in range(count)) if ids else ())
    return replace(boxes, sigmas=np.random.default_rng(count).uniform(0.1, 2, (count, 4)))


@pytest.mark.parametrize("count", [0, 1, 2, 40])
@pytest.mark.parametrize("frame", ["m", "map", "odom", "base_link", "vehicle7/base_link"])
@pytest.mark.parametrize("ids", [False, True])
def test_bytes_are_the_message(count, frame, ids):
    boxes = made(count, ids=ids)
    message = boxes_to_msg(boxes, STAMP_NS, frame, CLASSES, RclpyFactory())
    cdr = boxes_to_cdr(boxes, STAMP_NS, frame, CLASSES)
    assert len(cdr) == len(serialize_message(message))
    assert deserialize_message(cdr, Detection3DArray) == message


def test_boxes_come_back():
    boxes = made(25)
    found = boxes_from_msg(deserialize_message(boxes_to_cdr(boxes, STAMP_NS, "base_link", CLASSES), Detection3DArray))
    np.testing.assert_array_equal(found.centers_m, boxes.centers_m)
    np.testing.assert_array_equal(found.labels, boxes.labels)
    np.testing.assert_allclose(found.yaws_rad, boxes.yaws_rad, atol=1e-12)
    np.testing.assert_allclose(found.sigmas, boxes.sigmas, rtol=1e-12)
