# SPDX-License-Identifier: Apache-2.0
"""What a measurement says of its sensor: the same payload again, hardly any point, a dark or blank picture."""

from __future__ import annotations

import zlib
from typing import Final

import cv2
import numpy as np

from peft_dml_ros.core.camera_view import MAX_PIXELS
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.jpeg import decode_sound, picture_header
from peft_dml_ros.core.measurements import CameraImage, LidarSweep, Measurement, RadarSweep
from peft_dml_ros.core.params import HealthParams
from peft_dml_ros.core.typing import UInt8Array

NEAR_M: Final = 1.0
"""Points nearer than this are firings without return, or the vehicle itself."""


def fingerprint(measurement: Measurement) -> int | None:
    """Return a checksum that differs between any two honest payloads; `None` where equality proves nothing."""
    if isinstance(measurement, LidarSweep | RadarSweep):
        return zlib.crc32(np.ascontiguousarray(measurement.points).data.cast("B")) if len(measurement.points) else None
    if isinstance(measurement, CameraImage):
        if measurement.jpeg is not None:
            return zlib.crc32(measurement.jpeg)
        return None if measurement.pixels is None else zlib.crc32(np.ascontiguousarray(measurement.pixels).data)
    return None


def poor_points(measurement: Measurement, invalid_share: float, limits: HealthParams) -> str | None:
    """Return why the points of a sweep say little; `None` when they do not, or it is no sweep.

    Args:
        measurement: Any measurement.
        invalid_share: Share of its points that were not finite and are left out already.
        limits: When points are too few or too often invalid.
    """
    if isinstance(measurement, LidarSweep | RadarSweep) and invalid_share > limits.max_invalid_share:
        return "too many points not finite"
    if isinstance(measurement, LidarSweep):
        # A blocked LiDAR may send all of its firings, each of them at no distance.
        xyz = measurement.points[:, :3]
        far = np.count_nonzero(np.einsum("ij,ij->i", xyz, xyz) > NEAR_M**2)
        return "too few points" if far < limits.min_lidar_points else None
    return None


def poor_picture(image: CameraImage, limits: HealthParams) -> str | None:
    """Return why a picture says nothing (damaged, dark, the same everywhere); `None` when it is none of these."""
    try:
        grey = _thumbnail(image)
    except DataError:
        return "damaged image"
    if grey is None:
        return None
    if float(grey.mean()) < limits.min_image_brightness:
        return "dark image"
    return "blank image" if float(grey.std()) < limits.min_image_contrast else None


def _thumbnail(image: CameraImage) -> UInt8Array | None:
    """Return the picture in grey at an eighth of its size; None for what is no picture.

    Raises:
        DataError: it is damaged inside, or cannot be decoded at all.
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
    try:
        flags = cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION
        grey = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error:
        grey = None
    if grey is None:
        raise DataError("it cannot be decoded")
    return np.asarray(grey, dtype=np.uint8)
