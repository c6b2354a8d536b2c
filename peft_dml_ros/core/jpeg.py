# SPDX-License-Identifier: Apache-2.0
"""JPEG with a decoder that tells of damage. Others go on after it, and give the rest of the picture in grey."""

import re
from typing import Any, Final, NamedTuple

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.typing import UInt8Array

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

JPEG: Final = b"\xff\xd8\xff"
PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_COMPONENTS: Final = {b"\0": 1, b"\2": 3, b"\3": 3, b"\4": 2, b"\6": 4}  #: By the colour type of a PNG

#: Words of makers, and kinds of picture that this decoder does not know
_HARMLESS: Final = re.compile("colou?r|JFIF revision|SOS parameters|ICC marker|JPEG process|precision")
_EXTRANEOUS: Final = re.compile(r"(\d+) extraneous bytes before marker (0x[0-9a-f]{2})")
_IN_SCAN: Final = range(0xD0, 0xDA)  #: Restart markers and the end: what stands before them is the picture
_END: Final = b"\xff\xd9"


class PictureHeader(NamedTuple):
    """Size of a compressed picture, and its number of colour components (0 where it is not known)."""

    width_px: int
    height_px: int
    components: int


def picture_header(data: bytes) -> PictureHeader:
    """Read the start-of-frame segment of a JPEG or the header of a PNG, without decoding.

    Raises DataError: neither format, or cut before the size, or a JPEG without its end marker.
    """
    if data.startswith(PNG) and len(data) >= 24:
        width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
        return PictureHeader(width, height, _PNG_COMPONENTS.get(data[25:26], 0))
    if data[:2] != JPEG[:2]:
        msg = f"{len(data)} bytes are neither JPEG nor PNG (first bytes {data[:4].hex()})"
        raise DataError(f"{msg}; fix: send JPEG or PNG")
    # Cameras that send through a buffer of fixed size pad it with zeros.
    if _END not in data.rstrip(b"\0")[-64:]:
        raise DataError(f"JPEG of {len(data)} bytes is cut short: no end marker; fix: check its transport")
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = (int.from_bytes(data[i : i + 2], "big") for i in (at + 5, at + 7))
            return PictureHeader(width, height, data[at + 9])
        at += 2 + length
    raise DataError(f"JPEG of {len(data)} bytes holds no start-of-frame segment; fix: check its encoder")


def jpeg_damage(data: bytes) -> str:
    """Return what libjpeg complains of in a JPEG; empty for sound ones, and where simplejpeg is not installed.

    At an eighth of the size the check takes 1.4 ms for 1600 x 900 pixels.
    """
    if simplejpeg is None or not data.startswith(JPEG):
        return ""
    _, complaint = _decode(data, min_height=1, min_width=1, min_factor=8)
    return "" if _harmless(data, complaint) else complaint


def decode_sound(data: bytes, size: tuple[int, int], colours: str = "RGB") -> UInt8Array | None:
    """Return pixels of a sound JPEG, the same values that OpenCV gives, in the same time.

    Raises DataError: the picture is damaged inside.

    Args:
        data: The file.
        size: (width, height) to decode to: its own size, or a half, a quarter or an eighth of it, rounded up.
        colours: `RGB` or `GRAY`.

    Returns:
        (H, W, 3 or 1) uint8; None for what is left to another decoder: no JPEG, of a kind that simplejpeg does not
        take, or simplejpeg is not installed.
    """
    if simplejpeg is None or not data.startswith(JPEG):
        return None
    width, height = size
    pixels, complaint = _decode(data, colorspace=colours, min_height=height, min_width=width)
    if not _harmless(data, complaint):
        raise DataError(f"JPEG of {len(data)} bytes is damaged inside: {complaint}; fix: check its transport")
    return pixels if pixels is not None and pixels.shape[:2] == (height, width) else None


def _decode(data: bytes, **options: Any) -> tuple[UInt8Array | None, str]:
    """Return the pixels, or None and the complaint of libjpeg."""
    try:
        return simplejpeg.decode_jpeg(data, strict=True, **options), ""
    except ValueError as error:
        return None, str(error)


def _harmless(data: bytes, complaint: str) -> bool:
    """Return whether a picture is sound, whatever libjpeg complains of."""
    if not complaint:
        return True
    extraneous = _EXTRANEOUS.search(complaint)
    if extraneous is None:
        return _HARMLESS.search(complaint) is not None
    count, marker = int(extraneous[1]), int(extraneous[2], 16)
    if marker not in _IN_SCAN:
        return True
    # Some cameras fill up before the end, with one value; after damage, what is left over there is coded picture.
    end = data.rfind(_END)
    return marker == _END[1] and len({*data[max(0, end - count) : end]}) == 1
