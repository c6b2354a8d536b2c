# SPDX-License-Identifier: Apache-2.0
"""Time stamps inside serialised messages: moved without unpacking a cloud or an image."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from rclpy.serialization import deserialize_message, serialize_message

from peft_dml_ros.conversions.cdr import NS_PER_S, shift_leading
from peft_dml_ros.nodes.subscribing import message_class

Shift = Callable[[bytes, int], bytes]


def shifter(message_type: str) -> Shift:
    """A function `(cdr, offset_ns) -> cdr` that moves all header stamps of one message type.

    Only a leading header is patched in place; types with headers further inside (boxes, markers, transforms) are small
    and take the way through a message.

    Raises:
        ConfigError: the message type is not installed.
    """
    cls = message_class(message_type)
    fields: dict[str, str] = cls.get_fields_and_field_types()
    nested = any(_holds_header(kind) for name, kind in fields.items() if name != "header")
    if nested:
        return lambda cdr, offset_ns: _shift_message(cdr, offset_ns, cls)
    if next(iter(fields.items()), None) == ("header", "std_msgs/Header"):
        return shift_leading
    return lambda cdr, _: cdr


@cache
def _holds_header(kind: str) -> bool:
    """True when a field of that type text (`std_msgs/Header`, `sequence<geometry_msgs/Pose, 3>`) holds a header."""
    element = kind.removeprefix("sequence<").split(">")[0].split(",")[0].split("[")[0]
    if "/" not in element:
        return False
    if element == "std_msgs/Header":
        return True
    return any(_holds_header(inner) for inner in message_class(element).get_fields_and_field_types().values())


def _shift_message(cdr: bytes, offset_ns: int, cls: type[Any]) -> bytes:
    message = deserialize_message(cdr, cls)
    _shift_headers(message, offset_ns)
    shifted: bytes = serialize_message(message)
    return shifted


def _shift_headers(message: Any, offset_ns: int) -> None:
    for name, kind in message.get_fields_and_field_types().items():
        if not _holds_header(kind):
            continue
        value = getattr(message, name)
        if kind == "std_msgs/Header":
            stamp = value.stamp
            stamp.sec, stamp.nanosec = divmod(stamp.sec * NS_PER_S + stamp.nanosec + offset_ns, NS_PER_S)
        else:
            for item in value if "<" in kind or "[" in kind else (value,):
                _shift_headers(item, offset_ns)
