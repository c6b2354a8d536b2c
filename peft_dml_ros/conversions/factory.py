# SPDX-License-Identifier: Apache-2.0
"""What encoding needs to build messages: one protocol, met by rosbags types and by rclpy types."""

from typing import Any, Final, Protocol

from peft_dml_ros.core.typing import AnyArray

NS_PER_S: Final = 1_000_000_000


class MessageFactory(Protocol):
    """Builds messages of one library."""

    def __call__(self, msgtype: str, /, **fields: Any) -> Any:
        """A message, e.g. of "sensor_msgs/msg/Imu"; every field is given, with plain Python numbers."""

    def bytes(self, data: AnyArray | bytes) -> Any:
        """The container of a uint8[] field, over or copied from this memory."""

    def floats(self, values: AnyArray) -> Any:
        """The container of a float64[] or float64[N] field."""


def stamp(stamp_ns: int, make: MessageFactory) -> Any:
    """builtin_interfaces/Time, exact to the nanosecond."""
    seconds, nanoseconds = divmod(int(stamp_ns), NS_PER_S)
    return make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)


def header(stamp_ns: int, frame_id: str, make: MessageFactory) -> Any:
    """std_msgs/Header."""
    return make("std_msgs/msg/Header", stamp=stamp(stamp_ns, make), frame_id=frame_id)
