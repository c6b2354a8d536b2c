# SPDX-License-Identifier: Apache-2.0
"""Convert compressed and raw images of any usual encoding to RGB, and CameraInfo to a camera model."""

import re
from typing import Any, Final, NamedTuple

import cv2
import numpy as np

from peft_dml_ros.conversions.decode import stamp_ns_from_msg
from peft_dml_ros.core.camera_view import eight_bits
from peft_dml_ros.core.errors import DataError, nearest
from peft_dml_ros.core.jpeg import JPEG, PNG, picture_header
from peft_dml_ros.core.lenses import Lens
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.rig import CameraModel
from peft_dml_ros.core.typing import AnyArray, UInt8Array

BAYER: Final = re.compile("bayer_(rggb|bggr|gbrg|grbg)")


class Encoding(NamedTuple):
    """How the bytes of a pixel become RGB."""

    channels: int  #: Values a pixel; 2 where two pixels share their colour
    code: int | None  #: Colour conversion of OpenCV; None where the values are RGB
    deep: bool = False  #: Values have 16 bits
    planes: float = 1.0  #: Rows of the array a row of the image: 1.5 or 3 where the colour follows in its own plane


def _encodings() -> dict[str, Encoding]:
    colours: dict[str, tuple[int, int | None]] = {
        "rgb": (3, None),
        "bgr": (3, cv2.COLOR_BGR2RGB),
        "mono": (1, cv2.COLOR_GRAY2RGB),
        "rgba": (4, cv2.COLOR_RGBA2RGB),
        "bgra": (4, cv2.COLOR_BGRA2RGB),
        **{f"bayer_{o}": (1, getattr(cv2, f"COLOR_Bayer{o.upper()}2RGB")) for o in ("rggb", "bggr", "gbrg", "grbg")},
    }
    known = {f"{name}{bits}": Encoding(*how, deep=bits == 16) for name, how in colours.items() for bits in (8, 16)}
    known |= {"8UC1": known["mono8"], "8UC3": known["bgr8"], "8UC4": known["bgra8"]}
    known |= {"16UC1": known["mono16"], "16UC3": known["bgr16"], "16UC4": known["bgra16"]}
    known |= dict.fromkeys(("yuv422", "uyvy"), Encoding(2, cv2.COLOR_YUV2RGB_UYVY))
    known |= dict.fromkeys(("yuv422_yuy2", "yuyv"), Encoding(2, cv2.COLOR_YUV2RGB_YUYV))
    known |= {
        "nv12": Encoding(1, cv2.COLOR_YUV2RGB_NV12, planes=1.5),
        "nv21": Encoding(1, cv2.COLOR_YUV2RGB_NV21, planes=1.5),
    }
    known["nv24"] = Encoding(1, cv2.COLOR_YUV2RGB_NV12, planes=3.0)
    return known


ENCODINGS: Final = _encodings()  #: By the names of sensor_msgs/image_encodings; `8UC3` is BGR, as OpenCV makes it


def image_from_msg(msg: Any, *, thermal: bool = False) -> CameraImage:
    """Convert a CompressedImage or Image to an image. Compressed bytes stay compressed.

    `16UC1` is the encoding of depths in mm (REP 118), also compressed; where `thermal` is set, it is a picture.
    Raises DataError: depths, not JPEG or PNG, an unknown encoding, or sizes that contradict each other.
    """
    stamp_ns = stamp_ns_from_msg(msg)
    kind = str(getattr(msg, "encoding", "") or getattr(msg, "format", ""))
    if "compressedDepth" in kind or (kind.startswith("16UC1") and not thermal):
        text = (
            f"Image in frame '{msg.header.frame_id}' has encoding '{kind}': depths in mm, "
            "expected a picture; fix: name the camera's colour or mono topic (inputs.topics), or the camera in "
            "inputs.thermal, if these are grey values"
        )
        raise DataError(text)
    if hasattr(msg, "encoding"):
        return CameraImage(stamp_ns, pixels=_rgb(msg))
    data = memoryview(msg.data).tobytes()
    if not data.startswith((JPEG, PNG)):
        text = (
            f"CompressedImage in frame '{msg.header.frame_id}' of format '{msg.format}' is neither JPEG nor PNG: its "
            f"{len(data)} bytes begin with {data[:8].hex(' ') or 'nothing'}; fix: publish one of them, or raw images"
        )
        raise DataError(text)
    mosaic = BAYER.search(str(msg.format))
    # image_transport converts mosaics to colour first; drivers that compress themselves do not.
    grey = mosaic is not None and picture_header(data).components == 1
    return CameraImage(stamp_ns, jpeg=data, mosaic=mosaic[1] if mosaic and grey else "")


def _rgb(msg: Any) -> UInt8Array:
    """Return (H, W, 3) RGB of a raw image."""
    encoding = ENCODINGS.get(msg.encoding)
    if encoding is None:
        known = nearest(msg.encoding, ENCODINGS)
        where = f"Image in frame '{msg.header.frame_id}'"
        raise DataError(f"{where} has encoding '{msg.encoding}', which is no picture; {known}; or let it convert")
    height, width, step, size = int(msg.height), int(msg.width), int(msg.step), len(msg.data)
    depth = 2 if encoding.deep else 1
    needed, rows = width * encoding.channels * depth, int(height * encoding.planes)
    if step < needed or step * rows != size:
        step = needed  # a step of 0, or of another encoding: the data decide
    even = encoding.planes == 1.0 or not (height % 2 or width % 2)  # two by two pixels share their colour
    even &= encoding.channels != 2 or not width % 2
    if height <= 0 or width <= 0 or step * rows != size or not even:
        text = (
            f"malformed Image in frame '{msg.header.frame_id}': {width} x {height} {msg.encoding} with step {msg.step} "
            f"does not agree with {size} bytes; expected step {needed} and {needed * rows} bytes; fix: in the driver"
        )
        raise DataError(text)
    raw = np.frombuffer(msg.data, dtype=np.uint8).reshape(rows, step)
    values = raw[:, :needed]
    if encoding.planes == 3.0:  # OpenCV reads no colour of full size: every second one of every second row is kept
        colour = raw[height:].reshape(height, 2 * step)[::2, : 2 * width].reshape(height // 2, width, 2)[:, ::2]
        values, rows = np.concatenate([values[:height], colour.reshape(height // 2, width)]), height * 3 // 2
    if encoding.deep:
        values = eight_bits(np.ascontiguousarray(values).view(">u2" if msg.is_bigendian else "<u2"))
    pixels = values.reshape(rows, width, encoding.channels)
    if encoding.code is None:
        return pixels
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), encoding.code), dtype=np.uint8)


def camera_model_from_msg(msg: Any, *, rectified: bool = False) -> CameraModel:
    """Convert a CameraInfo to the model of the rectified image, with binning and region of interest applied.

    The rectified projection is the left part of P, or K where P is empty, or the images are raw and have no distortion.
    A camera with distortion gets its lens, so that its raw images can be undistorted. Raises DataError: the camera is
    uncalibrated (K[0] = 0), the size is not positive, or the lens model is unknown.
    """
    raw = np.array(msg.k, dtype=np.float64).reshape(3, 3)
    projection = np.array(msg.p, dtype=np.float64).reshape(3, 4)[:, :3]
    distorted = any(value != 0 for value in msg.d)
    projected = (distorted and rectified) or ((distorted or rectified) and projection[0, 0] > 0)
    matrix, name = (projection, "P") if projected else (raw, "K")
    width, height = int(msg.roi.width) or int(msg.width), int(msg.roi.height) or int(msg.height)
    if not np.isfinite(matrix).all() or min(matrix[0, 0], matrix[1, 1], width, height) <= 0:
        text = (
            f"camera '{msg.header.frame_id}' is not calibrated: {name} is {matrix.tolist()} for {width} x {height} px"
        )
        raise DataError(f"{text}; fix: calibrate it and let its driver publish the result, focal lengths in pixels")
    lens = None
    if distorted and not rectified:
        lens = Lens.make(str(msg.distortion_model), _binned(raw, msg), msg.d, f"camera '{msg.header.frame_id}'")
    binned = (max(int(msg.binning_x), 1), max(int(msg.binning_y), 1))
    return CameraModel(_binned(matrix, msg), width // binned[0], height // binned[1], lens)


def _binned(matrix: AnyArray, msg: Any) -> AnyArray:
    """Return intrinsics of the image as it is sent: a region, then each n pixels put together."""
    intrinsics = matrix.copy()
    intrinsics[0, 2] -= int(msg.roi.x_offset)
    intrinsics[1, 2] -= int(msg.roi.y_offset)
    for row, binning in enumerate((max(int(msg.binning_x), 1), max(int(msg.binning_y), 1))):
        intrinsics[row] /= binning
    return intrinsics
