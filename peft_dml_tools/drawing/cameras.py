# SPDX-License-Identifier: Apache-2.0
"""Still pictures of the cameras with detected boxes as coloured wireframes, true ones thin and white."""

from typing import Final

import cv2
import numpy as np

from peft_dml_ros.core import box_wireframes
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASS_COLOURS, CLASSES
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.rig import Rig, Sensor
from peft_dml_ros.core.typing import FloatArray, UInt8Array
from peft_dml_tools.drawing.birds_eye import BACKGROUND, SHOWN_SCORE, TRUTH, label
from peft_dml_tools.evaluation.alignment import Alignment
from peft_dml_tools.evaluation.recording import RecordedFrame, Recording
from peft_dml_tools.evaluation.scene import FRESH_NS, decode_rgb

COLUMNS: Final = 3
#: Places of the nuScenes cameras in two rows of three
ROWS: Final = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")


def in_rows(rig: Rig) -> list[Sensor]:
    """Return cameras of a rig in the order in which pictures show them."""
    return sorted(rig.of("camera"), key=lambda s: ROWS.index(s.name) if s.name in ROWS else len(ROWS))


def draw_cameras(recording: Recording, alignment: Alignment, frame: RecordedFrame) -> UInt8Array | None:
    """Return RGB mosaic of all cameras at one frame; None for a rig without cameras."""
    cameras = in_rows(recording.rig)
    tiles = [draw_camera(recording, alignment, frame, sensor) for sensor in cameras]
    if not tiles:
        return None
    height = max(tile.shape[0] for tile in tiles)
    tiles = [cv2.copyMakeBorder(t, 0, height - t.shape[0], 0, 0, cv2.BORDER_CONSTANT).astype(np.uint8) for t in tiles]
    blank = np.full((height, tiles[0].shape[1], 3), BACKGROUND, np.uint8)
    tiles += [blank] * (-len(tiles) % COLUMNS)
    rows = [np.concatenate(tiles[i : i + COLUMNS], axis=1) for i in range(0, len(tiles), COLUMNS)]
    return np.concatenate(rows)


def draw_camera(
    recording: Recording, alignment: Alignment, frame: RecordedFrame, sensor: Sensor, width_px: int = 800
) -> UInt8Array:
    """Return RGB picture of one camera; dark with the reason when it was not used."""
    reading = frame.sensors.get(sensor.name)
    image = recording.nearest(sensor.name, frame.stamp_ns, FRESH_NS)
    pixels = decode_rgb(image, sensor) if isinstance(image, CameraImage) else None
    if image is None or pixels is None or (reading is not None and not reading.alive):
        dark: UInt8Array = np.full((width_px * 9 // 16, width_px, 3), BACKGROUND, np.uint8)
        label(dark, f"{sensor.name}: {reading.reason if reading and reading.reason else 'no image'}")
        return dark
    height = round(width_px * pixels.shape[0] / pixels.shape[1])
    drawn: UInt8Array = cv2.resize(pixels, (width_px, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    matrix = box_wireframes.pixels_from_boxes(sensor, alignment.now_SE3_then(image.stamp_ns, frame.stamp_ns), width_px)
    if matrix is not None:
        if frame.truth is not None:
            draw_wireframes(drawn, frame.truth, matrix, truth=True)
        draw_wireframes(drawn, frame.boxes[frame.boxes.scores >= SHOWN_SCORE], matrix)
    label(drawn, sensor.name, scale=width_px / 1100)
    return drawn


def draw_wireframes(pixels: UInt8Array, boxes: Boxes3D, matrix: FloatArray, *, truth: bool = False) -> None:
    """Draw the edges of boxes into RGB pixels by a (3, 4) matrix, true ones as thin white lines."""
    colours = [TRUTH if truth else CLASS_COLOURS[CLASSES[i]] for i in boxes.labels]
    box_wireframes.draw_wireframes(pixels, boxes, matrix, colours, 1 if truth else max(1, round(pixels.shape[1] / 400)))
