# SPDX-License-Identifier: Apache-2.0
"""Boxes and vision_msgs/Detection3DArray, with their velocities in a parallel cloud of the same header and order."""

from typing import Any, Final

import numpy as np

from peft_dml_ros.conversions.factory import MessageFactory, header
from peft_dml_ros.conversions.pointcloud import DATATYPES
from peft_dml_ros.core.boxes import Boxes3D

VARIANCES: Final = (0, 7, 14, 35)  #: Places of the variances of x, y, z and yaw in a 6 x 6 pose covariance

#: Points of the parallel cloud: centre in m, velocity in m/s (NaN: unknown), index into `ATTRIBUTES` (-1: none)
VELOCITY_DTYPE: Final = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("vx", "<f4"), ("vy", "<f4"), ("attribute", "i1")]
)


def velocities_to_msg(boxes: Boxes3D, stamp_ns: int, frame_id: str, make: MessageFactory) -> Any:
    """Return a PointCloud2 of `VELOCITY_DTYPE`, in the order of the boxes."""
    points = np.empty(len(boxes), dtype=VELOCITY_DTYPE)
    points["x"], points["y"], points["z"] = boxes.centers_m.T
    points["vx"], points["vy"] = boxes.velocities_mps.T
    points["attribute"] = boxes.attributes
    return cloud_to_msg(points, stamp_ns, frame_id, make)


def cloud_to_msg(points: Any, stamp_ns: int, frame_id: str, make: MessageFactory) -> Any:
    """Return a sensor_msgs/PointCloud2 of a structured array (N,), one field per column."""
    layout = points.dtype
    fields = [
        make(
            "sensor_msgs/msg/PointField",
            name=name,
            offset=int(layout.fields[name][1]),
            datatype=DATATYPES[layout.fields[name][0].str[1:]],
            count=1,
        )
        for name in layout.names
    ]
    return make(
        "sensor_msgs/msg/PointCloud2",
        header=header(stamp_ns, frame_id, make),
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=False,
        point_step=layout.itemsize,
        row_step=layout.itemsize * len(points),
        data=make.bytes(points),
        is_dense=True,
    )
