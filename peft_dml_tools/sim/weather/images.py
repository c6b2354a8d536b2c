# SPDX-License-Identifier: Apache-2.0
"""Pixels of a camera image, compressed or not, changed and put back in the same form."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from peft_dml_ros.core.camera_view import decode as decode_bytes
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.typing import UInt8Array

JPEG_QUALITY: Final = 90
PNG_MAGIC: Final = b"\x89PNG"
WHOLE_PX: Final = 1 << 16  #: Wider than any picture: it is not shrunk while it is decoded


def decode(image: CameraImage) -> UInt8Array:
    """Return RGB pixels (H, W, 3) uint8, not to be written to. Raises DataError: no payload, or no JPEG or PNG."""
    if image.pixels is not None:
        return image.pixels
    return decode_bytes(image.jpeg or b"", WHOLE_PX, image.mosaic)


def edit(image: CameraImage, change: Callable[[UInt8Array], UInt8Array], quality: int = JPEG_QUALITY) -> CameraImage:
    """Return the image with its pixels changed. Raises DataError: the bytes are no image.

    Args:
        image: Compressed or raw.
        change: Takes and returns (H, W, 3) uint8 RGB; must not write into its argument.
        quality: Of the JPEG, where it was one; a PNG stays a PNG.
    """
    import cv2  # noqa: PLC0415

    changed = change(decode(image))
    if image.pixels is not None:
        return replace(image, pixels=changed)
    is_png = (image.jpeg or b"").startswith(PNG_MAGIC)
    options = [] if is_png else [cv2.IMWRITE_JPEG_QUALITY, quality]
    bgr = cv2.cvtColor(np.ascontiguousarray(changed), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".png" if is_png else ".jpg", bgr, options)
    return replace(image, jpeg=bytes(data), mosaic="")
