# SPDX-License-Identifier: Apache-2.0
"""Objects of other frames pasted in: rare classes are seen more often.

A pasted object keeps its distance from the vehicle and the side it shows to it; only its bearing changes. LiDAR and
radar get its points. A picture of it from another bearing does not exist, so such a sample has no camera at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES, MODALITIES
from peft_dml_ros.core.geometry import wrap_angle
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import AnyArray, BoolArray, Float32Array
from peft_dml_train.data.frame import Frame
from peft_dml_train.data.points import lidar_points, radar_points, to_lidar, to_radar

LEAST_POINTS = 5
PER_CLASS = 150
MARGIN_M = 0.3
CAMERA = MODALITIES.index("camera")


@dataclass(frozen=True, slots=True)
class PastedObject:
    """An object with its points where it stood, in `base_link` of its frame."""

    box: Boxes3D
    lidar: Float32Array
    radar: Float32Array


def inside(points: AnyArray, boxes: Boxes3D, i: int, margin_m: float = 0.0) -> BoolArray:
    """Return which points lie within a box seen from above."""
    c, s = np.cos(boxes.yaws_rad[i]), np.sin(boxes.yaws_rad[i])
    x, y = (points[:, :2] - boxes.centers_m[i, :2]).T
    length, width = boxes.sizes_m[i, :2] / 2 + margin_m
    found: BoolArray = (np.abs(x * c + y * s) < length) & (np.abs(y * c - x * s) < width)
    return found


def collect_objects(frames: Sequence[Frame]) -> list[list[PastedObject]]:
    """Return objects by class, at most `PER_CLASS` each, of frames that hold LiDAR and radar."""
    found: list[list[PastedObject]] = [[] for _ in CLASSES]
    for frame in frames:
        boxes = frame.boxes
        wanted = [i for i in range(len(boxes)) if len(found[int(boxes.labels[i])]) < PER_CLASS]
        if not wanted or not {"lidar", "radar"} <= set(frame.pillars):
            continue
        lidar, radar = lidar_points(frame.pillars["lidar"]), radar_points(frame.pillars["radar"])
        for i in wanted:
            mine = lidar[inside(lidar, boxes, i)]
            base = boxes.centers_m[i, 2] - boxes.sizes_m[i, 2] / 2
            mine = mine[mine[:, 2] > base + 0.1]
            if len(mine) >= LEAST_POINTS:
                seen = radar[inside(radar, boxes, i, MARGIN_M)]
                found[int(boxes.labels[i])].append(PastedObject(boxes[np.array([i])], mine, seen))
    return found


def _swung(thing: PastedObject, angle_rad: float) -> PastedObject:
    """Return the object at another bearing from the vehicle."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    turned = np.array([[c, -s], [s, c]]).T
    lidar, radar, b = thing.lidar.copy(), thing.radar.copy(), thing.box
    lidar[:, :2] = lidar[:, :2] @ turned
    radar[:, :2], radar[:, 3:5] = radar[:, :2] @ turned, radar[:, 3:5] @ turned
    centers = np.concatenate([b.centers_m[:, :2] @ turned, b.centers_m[:, 2:]], axis=1)
    box = replace(
        b, centers_m=centers, yaws_rad=wrap_angle(b.yaws_rad + angle_rad), velocities_mps=b.velocities_mps @ turned
    )
    return PastedObject(box, lidar, radar)


def _joined(a: Boxes3D, b: Boxes3D) -> Boxes3D:
    names = ("centers_m", "sizes_m", "yaws_rad", "velocities_mps", "labels", "scores", "attributes", "sigmas")
    ids = (*a.ids, *(f"{i}+" for i in b.ids)) if a.ids and b.ids else ()
    return Boxes3D(**{n: np.concatenate([getattr(a, n), getattr(b, n)]) for n in names}, ids=ids)


def paste(
    frame: Frame, store: list[list[PastedObject]], count: int, spec: ModelSpec, draw: np.random.Generator
) -> Frame:
    """Return a frame with up to so many objects more, and without its camera."""
    kinds = [label for label, objects in enumerate(store) if objects]
    if not kinds or not {"lidar", "radar"} <= set(frame.pillars):
        return frame
    boxes = frame.boxes
    lidar, radar = lidar_points(frame.pillars["lidar"]), radar_points(frame.pillars["radar"])
    for label in draw.choice(kinds, count):
        objects = store[label]
        thing = _swung(objects[draw.integers(len(objects))], draw.uniform(-np.pi, np.pi))
        reach = np.hypot(*thing.box.sizes_m[0, :2]) / 2 + np.hypot(*boxes.sizes_m[:, :2].T) / 2
        if (np.linalg.norm(boxes.centers_m[:, :2] - thing.box.centers_m[:, :2], axis=1) < reach).any():
            continue
        lidar = np.concatenate([lidar[~inside(lidar, thing.box, 0)], thing.lidar])
        radar = np.concatenate([radar[~inside(radar, thing.box, 0, MARGIN_M)], thing.radar])
        boxes = _joined(boxes, thing.box)
    if len(boxes) == len(frame.boxes):
        return frame
    kept = np.ones(len(MODALITIES), dtype=np.float32)
    kept[CAMERA] = 0
    return replace(
        frame,
        pillars={"lidar": to_lidar(lidar, spec), "radar": to_radar(radar, spec)},
        camera=None,
        mask=frame.mask * kept,
        age_s=frame.age_s * kept,
        completeness=frame.completeness * kept,
        boxes=boxes,
    )
