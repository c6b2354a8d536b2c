# SPDX-License-Identifier: Apache-2.0
"""Still pictures from above: points, detected boxes filled, true boxes as white outlines; driving direction up."""

from typing import Final

import cv2
import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASS_COLOURS, CLASSES
from peft_dml_ros.core.typing import Float32Array, FloatArray, Int32Array, UInt8Array
from peft_dml_tools.evaluation.alignment import Alignment
from peft_dml_tools.evaluation.recording import RecordedFrame, Recording
from peft_dml_tools.evaluation.scene import lidar_points_m, radar_points

SHOWN_SCORE: Final = 0.3  #: Boxes below this score are not drawn
BACKGROUND: Final = (10, 15, 21)
TRUTH: Final = (235, 242, 250)
RADAR: Final = (47, 191, 113)
FONT: Final = cv2.FONT_HERSHEY_DUPLEX
_SUBPIXEL: Final = 4


class BirdsEye:
    """A square canvas of `size_px` pixels a side over ±`range_m` around the vehicle."""

    def __init__(self, size_px: int, range_m: float = 50.0) -> None:
        self.pixels: UInt8Array = np.full((size_px, size_px, 3), BACKGROUND, np.uint8)
        self._scale = size_px / (2 * range_m)
        self._half = size_px / 2
        self._range_m = range_m

    def _at(self, xy_m: FloatArray) -> Int32Array:
        """Return pixels (N, 2) in fixed point of points (N, 2) in m."""
        pixels = np.stack([self._half - xy_m[:, 1] * self._scale, self._half - xy_m[:, 0] * self._scale], axis=1)
        fixed: Int32Array = np.round(pixels * 2**_SUBPIXEL).astype(np.int32)
        return fixed

    def rings(self) -> None:
        """Draw circles every 10 m."""
        for radius_m in range(10, int(self._range_m) + 1, 10):
            centre = (round(self._half), round(self._half))
            cv2.circle(self.pixels, centre, round(radius_m * self._scale), (38, 47, 58), 1, cv2.LINE_AA)
            spot = (centre[0] + 4, round(self._half - radius_m * self._scale) + 14)
            cv2.putText(self.pixels, f"{radius_m} m", spot, FONT, 0.4, (110, 125, 142), 1, cv2.LINE_AA)

    def lidar(self, points: Float32Array) -> None:
        """Draw points (N, 3), brighter the higher they are."""
        points = points[np.argsort(points[:, 2])]
        at = self._at(points[:, :2].astype(np.float64)) >> _SUBPIXEL
        inside = ((at >= 0) & (at < len(self.pixels) - 1)).all(axis=1)
        level = np.clip((points[:, 2] + 0.3) / 3.0, 0.0, 1.0)[:, None]
        ground, low, high = np.array([64, 82, 106]), np.array([47, 135, 215]), np.array([200, 240, 255])
        colours = np.where(points[:, 2:] < 0.25, ground, low * (1 - level) + high * level).astype(np.uint8)
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)) if len(self.pixels) > 900 else ((0, 0),):
            self.pixels[at[inside, 1] + dy, at[inside, 0] + dx] = colours[inside]

    def radar(self, points: Float32Array) -> None:
        """Draw points (N, 4) with a line along the velocity of those that move."""
        start = self._at(points[:, :2].astype(np.float64))
        end = self._at((points[:, :2] + points[:, 2:]).astype(np.float64))
        for a, b, speed in zip(start, end, np.hypot(points[:, 2], points[:, 3]), strict=True):
            cv2.circle(self.pixels, _pair(a), 3 << _SUBPIXEL, RADAR, -1, cv2.LINE_AA, _SUBPIXEL)
            if speed > 0.5:
                cv2.line(self.pixels, _pair(a), _pair(b), RADAR, 1, cv2.LINE_AA, _SUBPIXEL)

    def boxes(self, boxes: Boxes3D) -> None:
        """Draw detected boxes: filled, with a line to the front and one for the velocity."""
        fill = self.pixels.copy()
        for i in np.argsort(boxes.scores):
            one = boxes[np.array([i])]
            colour = CLASS_COLOURS[CLASSES[one.labels[0]]]
            floor = self._at(one.corners_m()[0, :4, :2])
            cv2.fillPoly(fill, [floor], colour, cv2.LINE_AA, _SUBPIXEL)
        self.pixels[:] = cv2.addWeighted(self.pixels, 0.55, fill, 0.45, 0)
        for i in range(len(boxes)):
            corners, colour = boxes[np.array([i])].corners_m()[0, :4, :2], CLASS_COLOURS[CLASSES[boxes.labels[i]]]
            cv2.polylines(self.pixels, [self._at(corners)], True, colour, 2, cv2.LINE_AA, _SUBPIXEL)
            centre = boxes.centers_m[i, :2]
            self._line(centre, corners[:2].mean(axis=0), colour)
            if np.hypot(*boxes.velocities_mps[i]) > 0.5:
                self._line(centre, centre + boxes.velocities_mps[i], (255, 255, 255))

    def truth(self, boxes: Boxes3D) -> None:
        """Draw true boxes: thin outlines."""
        for i in range(len(boxes)):
            corners = boxes[np.array([i])].corners_m()[0, :4, :2]
            cv2.polylines(self.pixels, [self._at(corners)], True, TRUTH, 1, cv2.LINE_AA, _SUBPIXEL)

    def vehicle(self) -> None:
        """Draw the vehicle itself."""
        corners = np.array([[3.4, 0.9], [3.4, -0.9], [-1.0, -0.9], [-1.0, 0.9]])
        cv2.fillPoly(self.pixels, [self._at(corners)], TRUTH, cv2.LINE_AA, _SUBPIXEL)

    def _line(self, start_m: FloatArray, end_m: FloatArray, colour: tuple[int, int, int]) -> None:
        a, b = self._at(np.stack([start_m, end_m]))
        cv2.line(self.pixels, _pair(a), _pair(b), colour, 2, cv2.LINE_AA, _SUBPIXEL)


def draw_from_above(
    recording: Recording, alignment: Alignment, frame: RecordedFrame, size_px: int = 1100, range_m: float = 50.0
) -> UInt8Array:
    """Return (size, size, 3) RGB picture of one frame."""
    view = BirdsEye(size_px, range_m)
    view.rings()
    view.lidar(lidar_points_m(recording, alignment, frame.stamp_ns))
    view.radar(radar_points(recording, alignment, frame.stamp_ns))
    view.vehicle()
    view.boxes(frame.boxes[frame.boxes.scores >= SHOWN_SCORE])
    if frame.truth is not None:
        view.truth(frame.truth)
    return view.pixels


def label(pixels: UInt8Array, text: str, *, corner: tuple[int, int] = (16, 34), scale: float = 0.75) -> None:
    """Write a line of text with a dark edge, so that it reads on anything."""
    cv2.putText(pixels, text, corner, FONT, scale, BACKGROUND, 5, cv2.LINE_AA)
    cv2.putText(pixels, text, corner, FONT, scale, TRUTH, 1, cv2.LINE_AA)


def _pair(point: Int32Array) -> tuple[int, int]:
    return int(point[0]), int(point[1])
