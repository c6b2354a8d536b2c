# SPDX-License-Identifier: Apache-2.0
"""Image files of nuScenes, and what can be told of them without decoding."""

from pathlib import Path
from typing import Final

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.jpeg import JPEG, jpeg_damage

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_ENDS: Final = {JPEG: b"\xff\xd9", _PNG: b"IEND"}
_TAIL: Final = 4096
"""Cameras may write this much after the end of the image."""
_FRAME_MARKERS: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


def read_image(path: Path) -> bytes:
    """Bytes of a whole and sound JPEG or PNG file.

    Raises:
        DataError: it cannot be read, is no image, was cut off, or is damaged inside.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise DataError(msg) from error
    start = next((start for start in _ENDS if data.startswith(start)), None)
    if start is None:
        msg = f"{path} ({len(data)} bytes) is neither JPEG nor PNG: it begins with {data[:8].hex(' ') or 'nothing'}"
        raise DataError(msg)
    if data.rfind(_ENDS[start], max(0, len(data) - _TAIL)) < 0:
        msg = f"{path} is cut off: it stops at byte {len(data)} without the mark that ends an image; copy it again"
        raise DataError(msg)
    if damage := jpeg_damage(data):
        msg = f"{path} is damaged inside ({damage}); copy it again"
        raise DataError(msg)
    return data


def image_size_px(data: bytes) -> tuple[int, int] | None:
    """(width, height) by the header of a JPEG or PNG image; None when it has none."""
    if data.startswith(_PNG):
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker in _FRAME_MARKERS:
            return int.from_bytes(data[place + 7 : place + 9], "big"), int.from_bytes(
                data[place + 5 : place + 7], "big"
            )
        place += 1 if marker == 0xFF else 2 + length
    return None
