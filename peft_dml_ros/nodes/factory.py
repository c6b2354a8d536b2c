# SPDX-License-Identifier: Apache-2.0
"""Messages of rclpy for the encoders of `datasets.encode`."""

from __future__ import annotations

from array import array
from typing import Any

from peft_dml_ros.core.typing import AnyArray
from peft_dml_ros.nodes.matched_subscription import message_class


class RclpyFactory:
    """Builds rclpy messages with arrays as `array.array`: numpy's are checked one by one, a thousand times slower."""

    def __call__(self, msgtype: str, /, **fields: Any) -> Any:
        """Return a message, e.g. of `sensor_msgs/msg/Imu`."""
        return message_class(msgtype)(**fields)

    def bytes(self, data: AnyArray | bytes) -> array[int]:
        """Return the container of a uint8[] field, copied from this memory."""
        container = array("B")
        container.frombytes(data if isinstance(data, bytes) else data.tobytes())
        return container

    def floats(self, values: AnyArray) -> array[float]:
        """Return the container of a float64[] or float64[N] field."""
        return array("d", values.astype("f8").tobytes())
