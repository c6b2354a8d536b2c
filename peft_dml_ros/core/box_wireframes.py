# SPDX-License-Identifier: Apache-2.0
"""Boxes as wireframes in an image: the one projection that live overlays and drawn pictures share."""

from collections.abc import Sequence
from typing import Final, TypeAlias

import cv2
import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import Sensor
from peft_dml_ros.core.typing import BoolArray, FloatArray, Int32Array, UInt8Array

Colour: TypeAlias = tuple[int, int, int]

#: Pairs of `Boxes3D.corners_m` that are joined
EDGES: Final = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
NEAR_M: Final = 0.3  #: What lies nearer to the image plane than this is cut off


def pixels_from_boxes(sensor: Sensor, then_SE3_frame: SE3, width_px: int) -> FloatArray | None:
    """Return the (3, 4) matrix from `base_link` at the boxes' time to homogeneous pixels of an image of another time.

    None for a camera without calibration.

    Args:
        sensor: The camera.
        then_SE3_frame: Maps `base_link` at the boxes' time to `base_link` at the time of the exposure.
        width_px: Width of the image as it is drawn; the calibration is scaled to it.
    """
    if sensor.camera is None:
        return None
    camera_SE3_frame = sensor.base_SE3_sensor.inverse() @ then_SE3_frame
    scale = np.diag([width_px / sensor.camera.width_px] * 2 + [1.0])
    extrinsics = np.concatenate([camera_SE3_frame.rotation, camera_SE3_frame.translation[:, None]], axis=1)
    matrix: FloatArray = scale @ sensor.camera.intrinsics @ extrinsics
    return matrix


def draw_wireframes(
    pixels: UInt8Array, boxes: Boxes3D, matrix: FloatArray, colours: Sequence[Colour], thickness_px: int = 1
) -> None:
    """Draw the edges of boxes into an image, cut off where they pass behind the camera.

    Args:
        pixels: (H, W, 3), drawn into.
        boxes: In the frame that `matrix` starts from.
        matrix: (3, 4) to homogeneous pixels.
        colours: One per box, in the channel order of `pixels`; boxes of one colour are drawn together.
        thickness_px: Of the lines.
    """
    # A few calls for all boxes: a live overlay must not hold the interpreter while the detector wants it.
    corners = boxes.corners_m()
    homogeneous = np.concatenate([corners, np.ones((*corners.shape[:2], 1))], axis=2) @ matrix.T
    ends = homogeneous[:, np.array(EDGES)].reshape(-1, 2, 3)
    owners = np.repeat(np.arange(len(boxes)), len(EDGES))
    segments, shown = _segments_px(ends)
    of_colour: dict[Colour, list[int]] = {}
    for i, colour in enumerate(colours):
        of_colour.setdefault(colour, []).append(i)
    for colour, members in of_colour.items():
        lines = segments[shown & np.isin(owners, members)]
        cv2.polylines(pixels, list(lines), isClosed=False, color=colour, thickness=thickness_px, lineType=cv2.LINE_AA)


def _segments_px(ends: FloatArray) -> tuple[Int32Array, BoolArray]:
    """Return pixel ends (M, 2, 2) of homogeneous segments (M, 2, 3), cut off behind, and which lie partly in front."""
    depth = ends[:, :, 2]
    shown: BoolArray = depth.max(axis=1) >= NEAR_M
    run = depth[:, ::-1] - depth
    share = np.divide(NEAR_M - depth, run, out=np.zeros_like(depth), where=(depth < NEAR_M) & (run > 0))
    cut = ends + share[:, :, None] * (ends[:, ::-1] - ends)
    pixels = np.clip(cut[:, :, :2] / np.maximum(cut[:, :, 2:], NEAR_M), -1e4, 1e4)
    return np.round(pixels).astype(np.int32), shown
