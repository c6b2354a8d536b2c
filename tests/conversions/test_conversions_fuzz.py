# SPDX-License-Identifier: Apache-2.0
"""Messages whose fields contradict each other in any way: decoded, or refused with this package's error."""

import contextlib
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_dml_ros import conversions as conv
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import RADAR_DTYPE, CameraImage
from peft_dml_tools.datasets.bag_types import RosbagsFactory

MAKE = RosbagsFactory()
SMALL = st.integers(-2, 40) | st.sampled_from([2**16, 2**31, 2**32 - 1])


@settings(max_examples=300, deadline=None)
@given(
    height=SMALL,
    width=SMALL,
    point_step=SMALL,
    row_step=SMALL,
    data=st.binary(max_size=200),
    bigendian=st.booleans(),
    fields=st.lists(
        st.tuples(
            st.sampled_from([*RADAR_DTYPE.names, "intensity", "ring", ""]), SMALL, st.integers(0, 9), st.integers(0, 2)
        ),
        max_size=8,
    ),
)
def test_any_cloud_is_read_or_refused(height, width, point_step, row_step, data, bigendian, fields):
    message = replace(
        conv.boxes.cloud_to_msg(np.zeros(0, dtype=[("x", "<f4")]), 1, "lidar_top", MAKE),
        height=height,
        width=width,
        point_step=point_step,
        row_step=row_step,
        is_bigendian=bigendian,
        data=np.frombuffer(data, np.uint8),
        fields=[MAKE("sensor_msgs/msg/PointField", name=n, offset=o, datatype=d, count=c) for n, o, d, c in fields],
    )
    for decode in (conv.lidar_from_msg, conv.radar_from_msg):
        try:
            sweep = decode(message)
        except DataError:
            continue
        assert len(sweep.points) <= height * width


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(*[st.floats(width=32)] * 5), max_size=40))
def test_any_radar_scan_is_read_and_its_points_are_finite(rows):
    fields = ("range", "azimuth", "elevation", "doppler_velocity", "amplitude")
    returns = [MAKE("radar_msgs/msg/RadarReturn", **dict(zip(fields, row, strict=True))) for row in rows]
    message = MAKE("radar_msgs/msg/RadarScan", header=conv.header(1, "radar_front", MAKE), returns=returns)
    sweep = conv.radar_from_msg(message)
    assert conv.points_dropped(message, sweep) >= 0
    assert all(
        np.isfinite(sweep.points[name]).all() for name in ("x", "y", "z", "rcs", "vx", "vy", "vx_comp", "vy_comp")
    )


@settings(max_examples=150, deadline=None)
@given(
    height=SMALL,
    width=SMALL,
    step=SMALL,
    data=st.binary(max_size=200),
    encoding=st.sampled_from(["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", ""]),
)
def test_any_image_is_read_or_refused(height, width, step, data, encoding):
    message = conv.image_to_msg(CameraImage(1, pixels=np.zeros((1, 1, 3), np.uint8)), "cam", MAKE)
    data = np.frombuffer(data, np.uint8)
    message = replace(message, height=height, width=width, step=step, data=data, encoding=encoding)
    with contextlib.suppress(DataError):
        assert conv.image_from_msg(message).pixels.shape == (height, width, 3)
