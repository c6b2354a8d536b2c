# SPDX-License-Identifier: Apache-2.0
"""The demo in one picture: a frame with all sensors next to one without LiDAR."""

from pathlib import Path

import cv2
import numpy as np

from peft_dml_ros.core.typing import UInt8Array
from peft_dml_tools.atomic_files import write_whole
from peft_dml_tools.drawing.birds_eye import BACKGROUND, SHOWN_SCORE, draw_from_above, label
from peft_dml_tools.drawing.cameras import draw_camera
from peft_dml_tools.evaluation.alignment import Alignment
from peft_dml_tools.evaluation.metrics import full_frames, lidar_out_frames
from peft_dml_tools.evaluation.recording import RecordedFrame, Recording

PANEL_PX = 620
GAP_PX = 12
FRONT = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT")
RANGE_M = 40.0


def write_picture(recording: Recording, path: Path) -> None:
    """Draw the best full frame and, where there is one, the best frame without LiDAR."""
    alignment = Alignment(recording.odometry)
    full = full_frames(recording) or list(recording.frames)
    blind = lidar_out_frames(recording.frames)
    panels = [_panel(recording, alignment, _telling(full), "all sensors in use")]
    if blind:
        panels.append(_panel(recording, alignment, _telling(blind), "LiDAR silent: cameras and radars carry on"))
    height = max(panel.shape[0] for panel in panels)
    gap = np.full((height, GAP_PX, 3), 255, np.uint8)
    # A camera without image is drawn at 16:9, whatever the others are.
    tall = [cv2.copyMakeBorder(p, 0, height - p.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=BACKGROUND) for p in panels]
    row = tall[0] if len(tall) == 1 else np.concatenate([tall[0], gap, tall[1]], axis=1)
    _, png = cv2.imencode(".png", row[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    write_whole(path, png.tobytes())


def _telling(frames: list[RecordedFrame]) -> RecordedFrame:
    """Return the frame in the middle of those with the most boxes that are worth drawing."""
    counts = [int((frame.boxes.scores >= SHOWN_SCORE).sum()) for frame in frames]
    best = [frame for frame, count in zip(frames, counts, strict=True) if count >= 0.9 * max(counts)]
    return best[len(best) // 2]


def _panel(recording: Recording, alignment: Alignment, frame: RecordedFrame, words: str) -> UInt8Array:
    large = draw_from_above(recording, alignment, frame, 2 * PANEL_PX, RANGE_M)
    above: UInt8Array = cv2.resize(large, (PANEL_PX, PANEL_PX), interpolation=cv2.INTER_AREA).astype(np.uint8)
    label(above, words, corner=(14, 30), scale=0.7)
    names = [name for name in FRONT if name in recording.rig.sensors]
    if not names:
        return above
    width = PANEL_PX // len(names)
    tiles = [draw_camera(recording, alignment, frame, recording.rig[name], 2 * width) for name in names]
    small = [cv2.resize(tile, (width, round(tile.shape[0] / 2)), interpolation=cv2.INTER_AREA) for tile in tiles]
    height = min(tile.shape[0] for tile in small)
    strip = np.concatenate([tile[:height] for tile in small], axis=1)
    edge = np.full((height, PANEL_PX - strip.shape[1], 3), BACKGROUND, np.uint8)
    panel: UInt8Array = np.concatenate([above, np.concatenate([strip, edge], axis=1)]).astype(np.uint8)
    return panel
