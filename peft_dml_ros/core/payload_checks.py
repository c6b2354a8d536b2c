# SPDX-License-Identifier: Apache-2.0
"""Dark, blank and damaged pictures."""

import cv2
import numpy as np

from peft_dml_ros.core.camera_view import MAX_PIXELS, decode_any
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.jpeg import decode_sound, picture_header
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.params import HealthParams
from peft_dml_ros.core.typing import UInt8Array


def poor_picture(image: CameraImage, limits: HealthParams) -> str | None:
    """Return why a picture says nothing (damaged, dark, the same everywhere); `None` when it is none of these."""
    try:
        grey = thumbnail(image)
    except DataError:
        return "damaged image"
    if grey is None:
        return None
    if float(grey.mean()) < limits.min_image_brightness:
        return "dark image"
    return "blank image" if float(grey.std()) < limits.min_image_contrast else None


def thumbnail(image: CameraImage) -> UInt8Array | None:
    """Return the picture in grey at an eighth of its size; None for what is no picture.

    Raises DataError: it is damaged inside, or cannot be decoded at all.
    """
    if image.pixels is not None:
        small: UInt8Array = image.pixels[::8, ::8].mean(axis=2).astype(np.uint8)
        return small
    data = image.jpeg or b""
    try:
        width, height, _ = picture_header(data)
    except DataError:
        return None
    if width * height > MAX_PIXELS:
        return None
    sound = decode_sound(data, (-(-width // 8), -(-height // 8)), "GRAY")
    if sound is not None:
        return sound[:, :, 0]
    return decode_any(data, cv2.IMREAD_REDUCED_GRAYSCALE_8)[:, :, 0]
