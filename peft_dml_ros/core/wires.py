# SPDX-License-Identifier: Apache-2.0
"""Boxes as wires in an image: the one projection that live overlays and drawn pictures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import cv2
import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import Sensor
from peft_dml_ros.core.typing import FloatArray, UInt8Array

Colour: TypeAlias = tuple[int, int, int]

EDGES: Final = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
"""Pairs of `Boxes3D.corners_m` that are joined."""
NEAR_M: Final = 0.3
"""What lies nearer to the image plane than this is cut off."""


def pixels_from_boxes(sensor: Sensor, then_SE3_frame: SE3, width_px: int) -> FloatArray | None:
    """(3, 4) matrix from `base_link` at the boxes' time to homogeneous pixels of an image taken at another time.

    Args:
        sensor: The camera.
        then_SE3_frame: Maps `base_link` at the boxes' time to `base_link` at the time of the exposure.
        width_px: Width of the image as it is drawn; the calibration is scaled to it.

    Returns:
        None for a camera without calibration.
    """
    if sensor.camera is None:
        return None
    camera_SE3_frame = sensor.base_SE3_sensor.inverse() @ then_SE3_frame
    scale = np.diag([width_px / sensor.camera.width_px] * 2 + [1.0])
    extrinsics = np.concatenate([camera_SE3_frame.rotation, camera_SE3_frame.translation[:, None]], axis=1)
    matrix: FloatArray = scale @ sensor.camera.intrinsics @ extrinsics
    return matrix


def draw_wires(
    pixels: UInt8Array, boxes: Boxes3D, matrix: FloatArray, colours: Sequence[Colour], thickness_px: int = 1
) -> None:
    """Draw the edges of boxes into an image, cut off where they pass behind the camera.

    Args:
        pixels: (H, W, 3), drawn into.
        boxes: In the frame that `matrix` starts from.
        matrix: (3, 4) to homogeneous pixels.
        colours: One per box, in the channel order of `pixels`.
        thickness_px: Of the lines.
    """
    corners = boxes.corners_m()
    homogeneous = np.concatenate([corners, np.ones((*corners.shape[:2], 1))], axis=2) @ matrix.T
    for projected, colour in zip(homogeneous, colours, strict=True):
        for a, b in EDGES:
            ends = _clip(projected[a], projected[b])
            if ends is not None:
                cv2.line(pixels, _pixel(ends[0]), _pixel(ends[1]), colour, thickness_px, cv2.LINE_AA)


def _clip(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """The part of a segment in front of the camera; None when there is none."""
    if max(a[2], b[2]) < NEAR_M:
        return None
    if a[2] < NEAR_M:
        a = a + (b - a) * (NEAR_M - a[2]) / (b[2] - a[2])
    if b[2] < NEAR_M:
        b = b + (a - b) * (NEAR_M - b[2]) / (a[2] - b[2])
    return a, b


def _pixel(point: FloatArray) -> tuple[int, int]:
    x, y = np.clip(point[:2] / point[2], -1e4, 1e4)
    return round(float(x)), round(float(y))
