# SPDX-License-Identifier: Apache-2.0
"""Read and shift the leading header of serialised (CDR) messages without unpacking them."""

import struct
from typing import Final

NS_PER_S: Final = 1_000_000_000
LITTLE_ENDIAN: Final = b"\x00\x01\x00\x00"  #: Encapsulation of plain CDR, little-endian
HEADER_END: Final = 12  #: 4 bytes of encapsulation, then `header.stamp`: int32 seconds, uint32 nanoseconds
_WIDTHS: Final = {"d": 8, "f": 4, "i": 4, "I": 4}  #: Alignment of a type; those that are not named need none


def aligned(at: int, *fields: str) -> struct.Struct:
    """Return a little-endian layout in which padding goes before each field, as CDR wants it.

    Args:
        at: Where the first field begins, counted from the end of the encapsulation.
        fields: Formats of `struct`, each of types of one alignment; the last letter tells which.
    """
    layout, end = "<", at
    for field in fields:
        padding, size = -end % _WIDTHS.get(field[-1], 1), struct.calcsize(f"<{field}")
        layout += f"{padding}x{field}"
        end += padding + size
    return struct.Struct(layout)


def leading_stamp_ns(cdr: bytes | memoryview) -> int:
    """Return the stamp of a message that begins with a header. Raises struct.error: less than `HEADER_END` bytes."""
    seconds, nanoseconds = struct.unpack_from(_order(cdr) + "iI", cdr, 4)
    return int(seconds) * NS_PER_S + int(nanoseconds)


def leading_frame_id(cdr: bytes | memoryview) -> str:
    """Return `header.frame_id` without its leading slash; empty when the bytes end before it."""
    if len(cdr) < HEADER_END + 4:
        return ""
    (length,) = struct.unpack_from(_order(cdr) + "I", cdr, HEADER_END)
    text = bytes(cdr[HEADER_END + 4 : HEADER_END + 4 + length])
    return text.rstrip(b"\0").decode("utf-8", errors="replace").removeprefix("/")


def _order(cdr: bytes | memoryview) -> str:
    return "<" if cdr[1] & 1 else ">"
