# SPDX-License-Identifier: Apache-2.0
"""Annotations of a scene: boxes in the map frame, their point counts, visibility, and the links between keyframes."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import ATTRIBUTES
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.typing import FloatArray, IntArray
from peft_dml_tools.datasets.nuscenes_writer_tables import Tables, token

ANNOTATED_M: Final = 75.0
RAY_SOLID_ANGLE: Final = 0.00579 * 0.0233  #: Azimuth step times beam spacing of the LiDAR, rad²


@dataclass(frozen=True, slots=True)
class SeenBoxes:
    """All objects at a keyframe."""

    stamp_ns: int  #: The keyframe
    sample_token: str  #: Its token
    boxes: Boxes3D  #: In `base_link`, with ids
    global_SE3_base: SE3  #: Pose of the vehicle
    lidar_points: IntArray | None  #: (N,) returns inside each box; `None` without LiDAR
    radar_points: IntArray | None  #: (N,) detections inside each box; `None` without radar

    def counts(self) -> tuple[IntArray, IntArray]:
        """Return LiDAR and radar points, zeros for what is missing."""
        none = np.zeros(len(self.boxes), np.int64)
        return (
            none if self.lidar_points is None else self.lidar_points,
            none if self.radar_points is None else self.radar_points,
        )


def count_lidar(boxes: Boxes3D, points_m: FloatArray) -> IntArray:
    """Return the (N,) number of points (M, 3) inside each box; both in one frame."""
    order = np.argsort(points_m[:, 0])
    points = points_m[order]
    reach = np.hypot(boxes.sizes_m[:, 0], boxes.sizes_m[:, 1]) / 2
    low = np.searchsorted(points[:, 0], boxes.centers_m[:, 0] - reach)
    high = np.searchsorted(points[:, 0], boxes.centers_m[:, 0] + reach, side="right")
    one = [boxes[slice(i, i + 1)].contain(points[low[i] : high[i]]).sum() for i in range(len(boxes))]
    return np.array(one, dtype=np.int64)


def count_radar(boxes: Boxes3D, points_m: FloatArray) -> IntArray:
    """Return the (N,) number of detections over each box's footprint: radar knows no height."""
    tall = replace(boxes, sizes_m=boxes.sizes_m * [1.0, 1.0, 0.0] + [0.0, 0.0, 100.0])
    return np.asarray(tall.contain(points_m).sum(axis=1), dtype=np.int64)


def annotate(
    scene: str, frames: Sequence[SeenBoxes], category_of: Callable[[str], str], *, keep_all: bool = False
) -> Tables:
    """Return sample_annotation and instance of objects near the vehicle, from their first to their last measurement.

    That is nuScenes' own rule. An object's annotations form one chain without holes, so that velocities can be had
    from it: between the first and last keyframe that met it some may hold no point at all.

    Args:
        scene: Name of the scene.
        frames: Objects at each keyframe.
        category_of: Category of an object.
        keep_all: Keep objects far away and without a single point, too: somebody annotated them.
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for number, frame in enumerate(frames):
        for i in np.flatnonzero((np.sum(frame.counts(), axis=0) > 0) | keep_all):
            first.setdefault(frame.boxes.ids[i], number)
            last[frame.boxes.ids[i]] = number
    chains: dict[str, list[dict[str, Any]]] = {}
    for number, frame in enumerate(frames):
        in_map = frame.boxes.transform(frame.global_SE3_base)
        lidar, radar = frame.counts()
        distance = np.linalg.norm(frame.boxes.centers_m[:, :2], axis=1)
        for i in np.flatnonzero((distance < ANNOTATED_M) | keep_all):
            name = frame.boxes.ids[i]
            if first.get(name, len(frames)) <= number <= last[name]:
                record = _record(scene, frame, in_map, int(i), (int(lidar[i]), int(radar[i])))
                chains.setdefault(name, []).append(record)
    tables: Tables = {"sample_annotation": [], "instance": []}
    for name, chain in chains.items():
        for earlier, later in itertools.pairwise(chain):
            earlier["next"], later["prev"] = later["token"], earlier["token"]
        tables["sample_annotation"] += chain
        tables["instance"].append(
            {
                "token": token(scene, "instance", name),
                "category_token": token("category", category_of(name)),
                "nbr_annotations": len(chain),
                "first_annotation_token": chain[0]["token"],
                "last_annotation_token": chain[-1]["token"],
            }
        )
    return tables


def _record(scene: str, frame: SeenBoxes, in_map: Boxes3D, i: int, points: tuple[int, int]) -> dict[str, Any]:
    length, width, height = in_map.sizes_m[i]
    attribute = int(in_map.attributes[i])
    half = in_map.yaws_rad[i] / 2
    return {
        "token": token(scene, in_map.ids[i], frame.stamp_ns),
        "sample_token": frame.sample_token,
        "instance_token": token(scene, "instance", in_map.ids[i]),
        "visibility_token": _visibility(frame.boxes, i, points[0]),
        "attribute_tokens": [token("attribute", ATTRIBUTES[attribute])] if attribute >= 0 else [],
        "translation": in_map.centers_m[i].tolist(),
        "size": [width, length, height],
        "rotation": [float(np.cos(half)), 0.0, 0.0, float(np.sin(half))],
        "prev": "",
        "next": "",
        "num_lidar_pts": points[0],
        "num_radar_pts": points[1],
    }


def _visibility(boxes: Boxes3D, i: int, points: int) -> str:
    """Return the visibility token by the share of the returns that the box would give if nothing stood before it."""
    x, y, _ = boxes.centers_m[i]
    length, width, height = boxes.sizes_m[i]
    aspect = boxes.yaws_rad[i] - np.arctan2(y, x)
    face = height * (length * abs(np.sin(aspect)) + width * abs(np.cos(aspect)))
    expected = 0.55 * face / (max(x * x + y * y, 4.0) * RAY_SOLID_ANGLE)
    share = points / max(expected, 1.0)
    return str(1 + int(np.digitize(share, [0.4, 0.6, 0.8])))
