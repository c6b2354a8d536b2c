# SPDX-License-Identifier: Apache-2.0
"""Boxes as the bytes of a vision_msgs/Detection3DArray; their velocities in a cloud of the same header and order.

Written as bytes: that is much faster than building and packing messages.
"""

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, Final

import numpy as np

from peft_dml_ros.conversions.cdr import LITTLE_ENDIAN, NS_PER_S, aligned
from peft_dml_ros.conversions.factory import MessageFactory, header
from peft_dml_ros.conversions.pointcloud import DATATYPES
from peft_dml_ros.core.boxes import Boxes3D

#: Points of the parallel cloud: centre in m, velocity in m/s (NaN: unknown), index into `ATTRIBUTES` (-1: none)
VELOCITY_DTYPE: Final = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("vx", "<f4"), ("vy", "<f4"), ("attribute", "i1")]
)


def boxes_to_cdr(boxes: Boxes3D, stamp_ns: int, frame_id: str, classes: Sequence[str]) -> bytes:
    """Return the message of `boxes_to_msg`, serialised."""
    seconds, nanoseconds = divmod(stamp_ns, NS_PER_S)
    frame = frame_id.encode() + b"\0"
    names = [name.encode() + b"\0" for name in classes]
    begin = _begin(len(frame))
    parts = [LITTLE_ENDIAN, begin.pack(seconds, nanoseconds, len(frame), frame, len(boxes))]
    at = begin.size
    rows = zip(
        upright_poses(boxes),
        (boxes.sigmas**2).tolist(),
        boxes.sizes_m.tolist(),
        boxes.scores.tolist(),
        boxes.labels.tolist(),
        boxes.ids or [""] * len(boxes),
        strict=True,
    )
    for pose, (x, y, z, yaw), size, score, label, identity in rows:
        name, ident = names[label], identity.encode() + b"\0"
        layout = _detection(at % 8, len(frame), len(name), len(ident))
        head = (seconds, nanoseconds, len(frame), frame, 1, len(name), name, score)
        parts.append(layout.pack(*head, *pose, x, y, z, yaw, *pose, *size, len(ident), ident))
        at += layout.size
    return b"".join(parts)


def upright_poses(boxes: Boxes3D) -> list[list[float]]:
    """Return x, y, z and the quaternion x, y, z, w of each box."""
    half, none = boxes.yaws_rad / 2, np.zeros(len(boxes))
    turns = np.stack([none, none, np.sin(half), np.cos(half)], axis=1)
    poses: list[list[float]] = np.concatenate([boxes.centers_m, turns], axis=1).tolist()
    return poses


@lru_cache
def _begin(frame: int) -> Struct:
    """Return the layout of the header and the number of detections."""
    return aligned(0, "iII", f"{frame}s", "I")


@lru_cache(maxsize=1024)
def _detection(at: int, frame: int, name: int, ident: int) -> Struct:
    """Return the layout of a detection that begins at `at` beyond a multiple of eight, with strings of these lengths.

    Of the 6 x 6 covariance only the variances of x, y, z and yaw are not zero: places 0, 7, 14 and 35.
    """
    covariance = "d48x" * 2 + "d160xd"
    return aligned(at, "iII", f"{frame}s", "II", f"{name}s", f"d7d{covariance}7d3d", "I", f"{ident}s")


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
