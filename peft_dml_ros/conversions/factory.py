# SPDX-License-Identifier: Apache-2.0
"""Build messages through one protocol that rosbags types and rclpy types meet; parts that many messages share."""

from typing import Any, Final, Protocol

import numpy as np

from peft_dml_ros.conversions.cdr import NS_PER_S
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.typing import AnyArray, FloatArray

POINT: Final = "geometry_msgs/msg/Point"
VECTOR: Final = "geometry_msgs/msg/Vector3"


class MessageFactory(Protocol):
    """Builds messages of one library."""

    def __call__(self, msgtype: str, /, **fields: Any) -> Any:
        """Return a message, e.g. of "sensor_msgs/msg/Imu"; every field is given, with plain Python numbers."""

    def bytes(self, data: AnyArray | bytes) -> Any:
        """Return the container of a uint8[] field, over or copied from this memory."""

    def floats(self, values: AnyArray) -> Any:
        """Return the container of a float64[] or float64[N] field."""


def stamp(stamp_ns: int, make: MessageFactory) -> Any:
    """Return a builtin_interfaces/Time, exact to the nanosecond."""
    seconds, nanoseconds = divmod(int(stamp_ns), NS_PER_S)
    return make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)


def header(stamp_ns: int, frame_id: str, make: MessageFactory) -> Any:
    """Return a std_msgs/Header."""
    return make("std_msgs/msg/Header", stamp=stamp(stamp_ns, make), frame_id=frame_id)


def triple(msgtype: str, values: FloatArray, make: MessageFactory) -> Any:
    """Return a Point or Vector3 of three numbers."""
    x, y, z = (float(value) for value in values)
    return make(msgtype, x=x, y=y, z=z)


def upright_pose(center_m: FloatArray, yaw_rad: float, make: MessageFactory) -> Any:
    """Return a geometry_msgs/Pose turned about z alone."""
    turn = {"z": float(np.sin(yaw_rad / 2)), "w": float(np.cos(yaw_rad / 2))}
    orientation = make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, **turn)
    return make("geometry_msgs/msg/Pose", position=triple(POINT, center_m, make), orientation=orientation)


def image_to_msg(image: CameraImage, frame_id: str, make: MessageFactory) -> Any:
    """Return a CompressedImage of bytes, an Image (rgb8) of pixels. Raises DataError: it has neither."""
    head = header(image.stamp_ns, frame_id, make)
    if image.jpeg is not None:
        kind = "png" if image.jpeg.startswith(b"\x89PNG") else "jpeg"
        kind = f"bayer_{image.mosaic}8; jpeg compressed" if image.mosaic else kind
        return make("sensor_msgs/msg/CompressedImage", header=head, format=kind, data=make.bytes(image.jpeg))
    if image.pixels is None:
        raise DataError(f"image of {image.stamp_ns} ns in frame '{frame_id}' is empty; fix: give bytes or pixels")
    height, width, _ = image.pixels.shape
    return make(
        "sensor_msgs/msg/Image",
        header=head,
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=make.bytes(np.ascontiguousarray(image.pixels)),
    )
