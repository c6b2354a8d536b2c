# SPDX-License-Identifier: Apache-2.0
"""Check that points and annotations of a nuScenes folder fit: count points in every box, compare with the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import LidarSweep
from peft_dml_ros.core.typing import IntArray

if TYPE_CHECKING:
    from peft_dml_tools.datasets.nuscenes import NuScenesReader

CHECKED: Final = 20  #: Keyframes whose reading is checked


@dataclass(frozen=True, slots=True)
class ReadingCheck:
    """How well points and annotations fit."""

    equal: int  #: Boxes that hold exactly as many LiDAR points as annotated
    total: int  #: Boxes compared
    off_by: int  #: Sum of the differences over the others


def check_reading(reader: NuScenesReader, tokens: Sequence[str]) -> ReadingCheck | None:
    """Compare points with annotations in the first keyframes; None when nothing is annotated."""
    equal = total = off_by = 0
    for token in tokens[:CHECKED]:
        counted, annotated = count_points(reader, token)
        difference = np.abs(counted - annotated)
        equal, total = equal + int((difference == 0).sum()), total + len(annotated)
        off_by += int(difference.sum())
    return ReadingCheck(equal, total, off_by) if total else None


def count_points(reader: NuScenesReader, token: str) -> tuple[IntArray, IntArray]:
    """Count the LiDAR points inside each annotation of a keyframe; boxes and points in the map frame, as annotated.

    The boxes of `NuScenesReader.truth` have a yaw only: in a `base_link` that is tilted they would miss some points.
    The result is two (N,) int64 arrays, counted and annotated; empty without LiDAR.
    """
    annotations, records = reader.tables.annotations_of_sample.get(token, []), reader.keyframes(token)
    clouds = []
    for name in (name for name in records if name.startswith("LIDAR")):
        sweep = reader.load(records[name])
        if isinstance(sweep, LidarSweep):
            map_SE3_sensor = reader.pose(records[name]) @ reader.rig(token)[name].base_SE3_sensor
            clouds.append(map_SE3_sensor.transform(sweep.points[:, :3].astype(np.float64)))
    if not clouds:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    points, counts = np.concatenate(clouds), []
    for annotation in annotations:
        map_SE3_box = SE3.from_quaternion_wxyz(annotation["rotation"], annotation["translation"])
        width, length, height = annotation["size"]
        near = points[np.abs(points - map_SE3_box.translation).max(axis=1) <= max(width, length, height)]
        inside = np.abs(map_SE3_box.inverse().transform(near)) <= np.array([length, width, height]) / 2
        counts.append(int(inside.all(axis=1).sum()))
    return np.array(counts, dtype=np.int64), np.array([a["num_lidar_pts"] for a in annotations], dtype=np.int64)
