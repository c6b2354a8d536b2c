# SPDX-License-Identifier: Apache-2.0
"""Draws docs/images/view.webp: what RViz or Foxglove shows of a frame of the demo's drive, without a screen.

python docs/make_view_picture.py [seed]

The pictures on top are the node's own overlays, at the size in which it publishes them; below is the scene from above.
"""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from peft_dml_ros.core.measurements import CameraImage, Measurement
from peft_dml_ros.core.params import DetectionParams, PerceptionParams
from peft_dml_ros.nodes.overlays import overlay
from peft_dml_tools.drawing.birds_eye import BACKGROUND, draw_from_above, label
from peft_dml_tools.evaluation.alignment import Alignment
from peft_dml_tools.evaluation.recording import RecordedFrame, Recording
from peft_dml_tools.run.offline import OfflineDetector
from peft_dml_tools.sim.drive import Drive

OUT = Path(__file__).with_name("images") / "view.webp"
SECONDS = 3.0
CAMERAS = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT")
WIDTH_PX = 480
SCORE = 0.3
RANGE_M = 40.0


def drive_through(seed: int) -> tuple[Recording, list[str]]:
    """Yield the frames of a drive, and the names of their classes."""
    drive = Drive(seed, SECONDS)
    params = PerceptionParams(detection=DetectionParams(score_threshold=SCORE))
    offline = OfflineDetector(params, drive.rig, tuple(drive.rig.sensors))
    kept: dict[str, list[Measurement]] = {name: [] for name in drive.rig.sensors}

    def watched() -> object:
        for name, measurement in drive.measurements():
            kept[name].append(measurement)
            yield name, measurement

    frames = tuple(offline.stream(watched()))
    return Recording(f"drive {seed}", drive.rig, frames, kept), list(offline.bundle.spec.classes)


def camera(
    recording: Recording, alignment: Alignment, frame: RecordedFrame, name: str, classes: list[str]
) -> np.ndarray:
    """Return the overlay of one camera, as the node makes it."""
    image = recording.nearest(name, frame.stamp_ns, 120_000_000)
    assert isinstance(image, CameraImage)  # noqa: S101  the drive has one at any time
    motion = alignment.now_SE3_then(image.stamp_ns, frame.stamp_ns)
    picture = overlay(image, recording.rig[name], motion, frame.boxes, classes)
    height = round(picture.shape[0] * WIDTH_PX / picture.shape[1])
    small = cv2.resize(picture, (WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    label(small, name, corner=(8, 22), scale=0.5)
    return small


def main(seed: int) -> None:
    """Draw the frame with the most boxes."""
    recording, classes = drive_through(seed)
    alignment = Alignment(recording.odometry)
    frame = max(recording.frames[len(recording.frames) // 3 :], key=lambda f: len(f.boxes))
    frame = replace(frame, truth=None)
    top = np.concatenate([camera(recording, alignment, frame, name, classes) for name in CAMERAS], axis=1)
    side = top.shape[1]
    above = draw_from_above(recording, alignment, frame, side, RANGE_M)
    # The upper half and a little more: what lies ahead.
    ahead = above[side // 10 : round(side * 0.62)]
    gap = np.full((6, side, 3), BACKGROUND, np.uint8)
    whole = np.concatenate([top, gap, ahead])
    cv2.imwrite(str(OUT), whole[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 70])
    print(f"{OUT}: {whole.shape[1]} x {whole.shape[0]}, {len(frame.boxes)} boxes")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
