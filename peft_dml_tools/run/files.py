# SPDX-License-Identifier: Apache-2.0
"""Files of `peft-dml run`: boxes, timing, a summary and pictures."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import ATTRIBUTES, CLASSES, MODALITIES
from peft_dml_ros.core.typing import FloatArray, UInt8Array
from peft_dml_tools.drawing.birds_eye import draw_from_above, label
from peft_dml_tools.drawing.cameras import draw_cameras
from peft_dml_tools.evaluation.alignment import Alignment
from peft_dml_tools.evaluation.metrics import in_order
from peft_dml_tools.evaluation.recording import RecordedFrame, Recording

PICTURES: Final = 6  #: Frames of a run that are drawn, spread evenly


def frame_line(frame: RecordedFrame) -> str:
    """Return one frame as a JSON line: boxes in `base_link` at `stamp_ns`; m, rad, m/s."""
    tree = {
        "stamp_ns": frame.stamp_ns,
        "reference": frame.reference,
        "mask": _by_modality(frame.mask),
        "gate": _by_modality(frame.gate),
        "boxes": box_trees(frame.boxes),
    }
    return json.dumps(tree, separators=(",", ":")) + "\n"


def box_trees(boxes: Boxes3D) -> list[dict[str, Any]]:
    """Return boxes as JSON objects."""
    return [
        {
            "class": CLASSES[boxes.labels[i]],
            "score": round(float(boxes.scores[i]), 4),
            "center_m": _rounded(boxes.centers_m[i]),
            "size_lwh_m": _rounded(boxes.sizes_m[i]),
            "yaw_rad": round(float(boxes.yaws_rad[i]), 4),
            "velocity_mps": _rounded(np.nan_to_num(boxes.velocities_mps[i])),
            "attribute": ATTRIBUTES[boxes.attributes[i]] if boxes.attributes[i] >= 0 else "",
        }
        for i in range(len(boxes))
    ]


def write_timing(path: Path, frames: Sequence[RecordedFrame]) -> None:
    """Write stage times in ms, one row per frame; an empty cell is a stage that did not run."""
    stages = in_order({name for frame in frames for name in frame.stages_ms})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["stamp_ns", "total_ms", *(f"{name}_ms" for name in stages)])
        for frame in frames:
            cells = [f"{frame.stages_ms[name]:.3f}" if name in frame.stages_ms else "" for name in stages]
            writer.writerow([frame.stamp_ns, f"{frame.latency_ms:.3f}", *cells])


def write_pictures(recording: Recording, folder: Path) -> list[Path]:
    """Draw a few frames from above and in all cameras, those with truth first; return the files."""
    alignment = Alignment(recording.odometry)
    frames = [frame for frame in recording.frames if frame.truth is not None] or list(recording.frames)
    picked = sorted({round(i) for i in np.linspace(0, len(frames) - 1, min(PICTURES, len(frames)))})
    paths = []
    for number, frame in enumerate(frames[i] for i in picked):
        above = draw_from_above(recording, alignment, frame)
        truth = "" if frame.truth is None else " white: truth;"
        label(above, f"{len(frame.boxes)} boxes;{truth} up: driving direction")
        paths.append(_write(folder / f"above_{number:03d}.png", above))
        cameras = draw_cameras(recording, alignment, frame)
        if cameras is not None:
            paths.append(_write(folder / f"cameras_{number:03d}.png", cameras))
    return paths


def _write(path: Path, rgb: UInt8Array) -> Path:
    # imwrite swallows what the file system says.
    path.write_bytes(cv2.imencode(path.suffix, rgb[..., ::-1])[1].tobytes())
    return path


def _by_modality(values: FloatArray) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(MODALITIES, values, strict=True)}


def _rounded(values: FloatArray) -> list[float]:
    return [round(float(value), 4) for value in values]
