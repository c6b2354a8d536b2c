# SPDX-License-Identifier: Apache-2.0
"""Malformed messages of every input: damaged in their bytes, or well formed and absurd in what they say."""

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointField

Rng = np.random.Generator
SIZES: Final = (0, 1, 2, 3, 255, 65_536, 2**31 - 1, 2**31, 2**32 - 1)
FLOATS: Final = (float("nan"), float("inf"), float("-inf"), 1e300, -1e300, 1e38, 1e-320, 0.0, -0.0)
TEXTS: Final = ("", "/", "ünïcödé", "日本", "a" * 70_000, "\x01\x02", "base_link", "../../etc", "%s%n", "lidar_top ")
ENCODINGS: Final = ("", "rgb8", "bgra8", "mono8", "32FC1", "bayer_rggb8", "yuv422", "ÿ", "rgb8; compressed")
JPEG_SIZE: Final = b"\xff\xd8\xff\xc0\x00\x11\x08%b\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xd9"
PNG: Final = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR%b\x08\x02\x00\x00\x00"


def _pick(rng: Rng, choices: tuple[Any, ...]) -> Any:
    return choices[int(rng.integers(len(choices)))]


def cut(cdr: bytes, rng: Rng) -> bytes:
    """Return the end is missing."""
    return cdr[: int(rng.integers(len(cdr)))]


def noise(cdr: bytes, rng: Rng) -> bytes:
    """Return random bytes, half of the time after a sound beginning."""
    return cdr[:4] * int(rng.integers(2)) + rng.bytes(int(rng.integers(600)))


def flipped(cdr: bytes, rng: Rng) -> bytes:
    """Give some bytes other values, mostly near the beginning, where the sizes stand."""
    out = np.frombuffer(cdr, np.uint8).copy()
    reach = len(out) if rng.random() < 0.3 else min(len(out), 200)
    at = rng.integers(0, reach, int(rng.integers(1, 30)))
    out[at] = rng.integers(0, 256, len(at))
    return out.tobytes()


def lengthened(cdr: bytes, rng: Rng) -> bytes:
    """Return a word, perhaps the length of something, is huge."""
    at = 4 + 4 * int(rng.integers(max(1, (min(len(cdr), 400) - 8) // 4)))
    return cdr[:at] + struct.pack("<I", _pick(rng, SIZES)) + cdr[at + 4 :]


def padded(cdr: bytes, rng: Rng) -> bytes:
    """Return more bytes than there should be."""
    return cdr + rng.bytes(int(rng.integers(1, 64)))


def turned(cdr: bytes, _: Rng) -> bytes:
    """Return the byte order that it claims is the other one."""
    return bytes([cdr[0], cdr[1] ^ 1]) + cdr[2:]


BYTE_LEVEL: Final[dict[str, Callable[[bytes, Rng], bytes]]] = {
    "cut": cut,
    "noise": noise,
    "flipped": flipped,
    "lengthened": lengthened,
    "padded": padded,
    "turned": turned,
}


def absurd_header(header: Any, rng: Rng) -> None:
    """Set a stamp before all time or after it, or a frame that is none."""
    if rng.random() < 0.5:
        header.frame_id = _pick(rng, TEXTS)
    else:
        header.stamp.sec = int(_pick(rng, (-(2**31), -1, 0, 2**31 - 1)))
        header.stamp.nanosec = int(_pick(rng, (0, 999_999_999, 2**32 - 1)))


def absurd_cloud(msg: Any, rng: Rng) -> None:
    """Set sizes that contradict each other, fields that lie outside, points that are no numbers."""
    what = int(rng.integers(5))
    if what == 0:
        setattr(msg, _pick(rng, ("height", "width", "point_step", "row_step")), _pick(rng, SIZES))
    elif what == 1:
        msg.height, msg.width, msg.point_step, msg.row_step = (_pick(rng, SIZES) for _ in range(4))
    elif what == 2:
        field = _pick(rng, tuple(msg.fields))
        field.datatype, field.count = int(rng.integers(0, 256)), _pick(rng, SIZES)
        field.offset = _pick(rng, SIZES)
    elif what == 3:
        names = ("x", "y", "z", "x", "intensity", "vx_comp", "日本", "")
        msg.fields = [PointField(name=_pick(rng, names), offset=4 * i, datatype=7, count=1) for i in range(6)]
    else:
        data = np.frombuffer(bytes(msg.data), np.uint8).copy()
        usable = len(data) // 4 * 4
        struck = rng.random(usable // 4) < rng.random()
        data[:usable].view(np.float32)[struck] = np.float32(_pick(rng, (*FLOATS[:3], 1e38, -1e38)))
        msg.data = data.tobytes()
        msg.is_bigendian = bool(rng.integers(2))


def absurd_image(msg: Any, rng: Rng) -> None:
    """Set sizes that the bytes do not have, encodings that nobody knows."""
    if rng.random() < 0.3:
        msg.encoding = _pick(rng, ENCODINGS)
    elif rng.random() < 0.5:
        msg.height, msg.width, msg.step = (_pick(rng, SIZES) for _ in range(3))
    else:
        setattr(msg, _pick(rng, ("height", "width", "step")), _pick(rng, SIZES))


def absurd_compressed(msg: Any, rng: Rng) -> None:
    """Set pictures that claim to be huge, that end early or are damaged inside."""
    data, what = bytes(msg.data), int(rng.integers(4))
    if what == 0:
        size = struct.pack(">HH", *(int(_pick(rng, (0, 1, 352, 65_535))) for _ in range(2)))
        msg.data = JPEG_SIZE % size
    elif what == 1:
        msg.data = PNG % struct.pack(">II", _pick(rng, SIZES), _pick(rng, SIZES)) + rng.bytes(60)
    elif what == 2:
        msg.data = data[: int(rng.integers(len(data)))] + b"\xff\xd9" * int(rng.integers(2))
    else:
        msg.data = data[:2] + flipped(data[2:-2], rng) + data[-2:]
    msg.format = _pick(rng, ("jpeg", *TEXTS[:4]))


def absurd_numbers(msg: Any, rng: Rng) -> None:
    """Set numbers that are none, or beyond all measure, anywhere in the message."""
    holder, fields = msg, msg.get_fields_and_field_types()
    while True:
        name = _pick(rng, tuple(fields))
        value = getattr(holder, name)
        if hasattr(value, "get_fields_and_field_types"):
            holder, fields = value, value.get_fields_and_field_types()
        elif isinstance(value, list) and value and hasattr(value[0], "get_fields_and_field_types"):
            holder = value[int(rng.integers(len(value)))]
            fields = holder.get_fields_and_field_types()
        else:
            break
    if isinstance(value, float):
        number = float(_pick(rng, FLOATS))
        # A field of 32 bits refuses what it cannot hold, but for what is infinite.
        with np.errstate(over="ignore"):
            setattr(holder, name, float(np.float32(number)) if fields[name] == "float" else number)
    elif isinstance(value, str):
        setattr(holder, name, _pick(rng, TEXTS))
    elif isinstance(value, int) and not isinstance(value, bool):
        kind = fields[name]
        bits = int("".join(c for c in kind if c.isdigit()) or 8)
        low, high = (0, 2**bits - 1) if kind.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        setattr(holder, name, _pick(rng, (low, high, 0, 1)))
    elif isinstance(value, np.ndarray) and value.dtype == np.float64:
        value[int(rng.integers(len(value)))] = _pick(rng, (*FLOATS, -1.0))


FIELD_LEVEL: Final[dict[str, Callable[[Any, Rng], None]]] = {
    "PointCloud2": absurd_cloud,
    "Image": absurd_image,
    "CompressedImage": absurd_compressed,
}


class MalformedMessages:
    """Endless malformed messages, drawn from a seed and a sound serialised message, with its class, for each input."""

    def __init__(self, samples: Mapping[str, tuple[bytes, type[Any]]], seed: int) -> None:
        self._samples, self._keys = samples, tuple(samples)
        self._rng = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield (input, what is wrong, bytes); each input as often as any other."""
        while True:
            for key in self._keys:
                what, cdr = self._one(*self._samples[key])
                yield key, what, cdr

    def _one(self, cdr: bytes, kind: type[Any]) -> tuple[str, bytes]:
        rng = self._rng
        if rng.random() < 0.5:
            what = _pick(rng, tuple(BYTE_LEVEL))
            return what, BYTE_LEVEL[what](cdr, rng)
        if rng.random() < 0.1:
            return "other type", self._samples[_pick(rng, self._keys)][0]
        message = deserialize_message(cdr, kind)
        change: Callable[[Any, Rng], None]
        what, change = "numbers", absurd_numbers
        if rng.random() < 0.2 and hasattr(message, "header"):
            what, change = "header", lambda m, r: absurd_header(m.header, r)
        elif kind.__name__ in FIELD_LEVEL and rng.random() < 0.8:
            what, change = "fields", FIELD_LEVEL[kind.__name__]
        change(message, rng)
        return what, bytes(serialize_message(message))
