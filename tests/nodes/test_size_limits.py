# SPDX-License-Identifier: Apache-2.0
"""Messages beyond what any sensor sends are refused by their size, before anything is made of them."""

import tracemalloc

import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, PointCloud2, PointField
from tf2_msgs.msg import TFMessage

from peft_dml_ros.conversions import lidar_from_msg
from peft_dml_ros.conversions.pointcloud import MAX_POINTS
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.nodes import decoder
from peft_dml_ros.nodes.decoder import MIB, unpacked
from peft_dml_ros.nodes.factory import RclpyFactory


@pytest.mark.parametrize(("kind", "limit"), [(CameraInfo, MIB), (TFMessage, 4 * MIB), (PointCloud2, 64 * MIB)])
def test_too_large_is_refused_before_it_is_unpacked(monkeypatch, kind, limit):
    touched = []
    monkeypatch.setattr(decoder, "deserialize_message", lambda *_: touched.append(1))
    unpacked(bytes(limit), kind)
    with pytest.raises(DataError, match=f"at most {limit}"):
        unpacked(bytes(limit + 1), kind)
    assert touched == [1]


def test_a_full_turn_of_a_large_lidar_is_taken():
    cloud = PointCloud2(height=1, width=500_000, point_step=20, data=RclpyFactory().bytes(bytes(10_000_000)))
    assert unpacked(serialize_message(cloud), PointCloud2).width == 500_000


def test_overlapping_fields_cannot_make_a_small_message_large():
    fields = [PointField(name=name, offset=0, datatype=PointField.UINT8, count=1) for name in "xyz"]
    n = MAX_POINTS + 1
    cloud = PointCloud2(height=1, width=n, point_step=1, row_step=n, fields=fields, data=RclpyFactory().bytes(bytes(n)))
    tracemalloc.start()
    with pytest.raises(DataError, match=f"at most {MAX_POINTS}"):
        lidar_from_msg(cloud)
    assert tracemalloc.get_traced_memory()[1] < MIB
    tracemalloc.stop()
