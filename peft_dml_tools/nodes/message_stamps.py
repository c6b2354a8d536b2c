# SPDX-License-Identifier: Apache-2.0
"""Shift all header stamps of serialised messages in place: the bytes are walked, and no message is unpacked.

ROS 2 serialises by XCDR version 1: after 4 bytes of encapsulation each value is aligned to its own size, strings and
sequences begin with their length in 32 bits (OMG DDS-XTypes 1.3, 7.4.1).
"""

import re
import struct
from collections.abc import Callable
from functools import cache
from typing import Final

from peft_dml_ros.conversions.cdr import HEADER_END, NS_PER_S, leading_stamp_ns
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.nodes.matched_subscription import message_class

Shift = Callable[[bytes, int], bytes]
#: `(body, position, stamps) -> position behind the value`; appends the positions of header stamps
Walk = Callable[[memoryview, int, list[int]], int]

HEADER: Final = "std_msgs/Header"
ENCAPSULATION: Final = 4
_SIZES: Final = {
    **dict.fromkeys(("boolean", "octet", "byte", "char", "uint8", "int8"), 1),
    **dict.fromkeys(("int16", "uint16"), 2),
    **dict.fromkeys(("float", "int32", "uint32"), 4),
    **dict.fromkeys(("double", "int64", "uint64"), 8),
}
_FIELD: Final = re.compile(r"(sequence<)?([\w/]+)(?:<\d+>)?(?:, ?\d+)?>?(?:\[(\d+)\])?")


def shift_leading(cdr: bytes, offset_ns: int) -> bytes:
    """Return the message with its leading header stamp moved; one that is too short stays as it is."""
    if len(cdr) < HEADER_END:
        return cdr
    stamp = struct.pack(("<" if cdr[1] & 1 else ">") + "iI", *divmod(leading_stamp_ns(cdr) + offset_ns, NS_PER_S))
    return b"".join((cdr[:4], stamp, memoryview(cdr)[HEADER_END:]))


def shifter(message_type: str) -> Shift:
    """Return a function `(cdr, offset_ns) -> cdr` that moves all header stamps of one message type.

    A message that ends before its type does is returned as it is. Raises ConfigError: the message type is not
    installed, or holds a type that cannot be walked.
    """
    fields: dict[str, str] = message_class(message_type).get_fields_and_field_types()
    if any(_holds_header(_FIELD.fullmatch(kind)[2]) for name, kind in fields.items() if name != "header"):  # type: ignore[index]
        package, _, rest = message_type.partition("/")
        walk = _walk(f"{package}/{rest.rpartition('/')[2]}")
        return lambda cdr, offset_ns: _shift_all(cdr, offset_ns, walk)
    if next(iter(fields.items()), None) == ("header", HEADER):
        return shift_leading
    return lambda cdr, _: cdr


def _shift_all(cdr: bytes, offset_ns: int, walk: Walk) -> bytes:
    moved, stamps = bytearray(cdr), list[int]()
    # The walk reads lengths in this order; big-endian messages do not come from any ROS machine in use.
    if len(cdr) < ENCAPSULATION or not cdr[1] & 1:
        return cdr
    body = memoryview(moved)[ENCAPSULATION:]
    try:
        walk(body, 0, stamps)
        for at in stamps:
            seconds, nanoseconds = struct.unpack_from("<iI", body, at)
            struct.pack_into("<iI", body, at, *divmod(seconds * NS_PER_S + nanoseconds + offset_ns, NS_PER_S))
    except struct.error:
        return cdr
    return bytes(moved)


@cache
def _holds_header(element: str) -> bool:
    """Return whether values of an element type (`geometry_msgs/Pose`, `double`) hold a header."""
    if "/" not in element:
        return False
    kinds = message_class(element).get_fields_and_field_types().values()
    return element == HEADER or any(_holds_header(_FIELD.fullmatch(kind)[2]) for kind in kinds)  # type: ignore[index]


@cache
def _block(element: str) -> tuple[int, int] | None:
    """Return (alignment, size) of types made of numbers of one width alone; None for any other."""
    if element in _SIZES:
        return _SIZES[element], _SIZES[element]
    if "/" not in element or element == HEADER:
        return None
    parts = []
    for kind in message_class(element).get_fields_and_field_types().values():
        sequence, inner, count = _FIELD.fullmatch(kind).groups()  # type: ignore[union-attr]
        block = _block(inner)
        if sequence or block is None:
            return None
        parts.append((block[0], block[1] * int(count or 1)))
    widths = {width for width, _ in parts}
    return (widths.pop(), sum(size for _, size in parts)) if len(widths) == 1 else None


@cache
def _walk(element: str) -> Walk:
    """Return the walk over one value of an element type."""
    if element == "string":
        return _string
    if element == HEADER:
        return _header
    if block := _block(element):
        align, size = block
        return lambda _body, at, _stamps: -(-at // align) * align + size
    if "/" not in element:
        raise ConfigError(f"fields of type '{element}' cannot be walked over; fix: play it without shifted stamps")
    fields = [_field(kind) for kind in message_class(element).get_fields_and_field_types().values()]

    def message(body: memoryview, at: int, stamps: list[int]) -> int:
        for field in fields:
            at = field(body, at, stamps)
        return at

    return message


def _field(kind: str) -> Walk:
    """Return the walk over a field: one value, a fixed array of them, or a sequence."""
    sequence, element, fixed = _FIELD.fullmatch(kind).groups()  # type: ignore[union-attr]
    walk, block = _walk(element), _block(element)
    if not sequence and not fixed:
        return walk

    def values(body: memoryview, at: int, stamps: list[int]) -> int:
        count = int(fixed or 0)
        if sequence:
            at = -(-at // 4) * 4
            (count,) = struct.unpack_from("<I", body, at)
            at += 4
        if block and count:
            return -(-at // block[0]) * block[0] + block[1] * count
        if count > len(body):
            raise struct.error(f"{count} values in {len(body)} bytes")
        for _ in range(count):
            at = walk(body, at, stamps)
        return at

    return values


def _string(body: memoryview, at: int, _stamps: list[int]) -> int:
    at = -(-at // 4) * 4
    return at + 4 + int(struct.unpack_from("<I", body, at)[0])


def _header(body: memoryview, at: int, stamps: list[int]) -> int:
    at = -(-at // 4) * 4
    stamps.append(at)
    return _string(body, at + 8, stamps)
