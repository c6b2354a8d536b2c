# SPDX-License-Identifier: Apache-2.0
"""nuScenes annotations as boxes in `base_link`: the one place where (w, l, h) and the global frame are turned."""

import re
from typing import Final

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import ATTRIBUTES, CLASSES
from peft_dml_ros.core.geometry import SE3, rotation_from_quaternion_wxyz, wrap_angle
from peft_dml_ros.core.typing import FloatArray
from peft_dml_tools.datasets.nuscenes_tables import Record, Tables

#: Official category -> detection class; categories that are not here are not evaluated
CLASS_OF_CATEGORY: Final = {
    "movable_object.barrier": "barrier",
    "movable_object.trafficcone": "traffic_cone",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}

_MAX_GAP_S: Final = 1.5


#: Words in the categories of other data sets -> detection class
_WORDS: Final = {
    **dict.fromkeys(("person", "adult", "child", "construction_worker", "police_officer"), "pedestrian"),
    **dict.fromkeys(("police_car",), "car"),
    **dict.fromkeys(("motorbike",), "motorcycle"),
    **dict.fromkeys(("cone", "trafficcone"), "traffic_cone"),
}


def class_of_category(name: str) -> str | None:
    """Return the detection class of a category of nuScenes or of a set in its format; None for what has none."""
    if name in CLASS_OF_CATEGORY:
        return CLASS_OF_CATEGORY[name]
    if name.startswith("human."):
        return None  # nuScenes' own, which are not evaluated
    plain = re.sub(r"\s*\(.*?\)", "", name.lower())  # "vehicle.bus (bendy & rigid)" of T4
    words = plain.replace("-", "_").replace(" ", "_").split(".")
    return next((_WORDS.get(word, word) for word in reversed(words) if _WORDS.get(word, word) in CLASSES), None)


def detection_class(tables: Tables, annotation: Record) -> str | None:
    """Return the detection class of an annotation, or None when its category is not evaluated."""
    instance = tables.get("instance", annotation["instance_token"])
    return class_of_category(tables.get("category", instance["category_token"])["name"])


def boxes_of_sample(tables: Tables, sample_token: str, global_SE3_base: SE3, *, keep_unseen: bool = False) -> Boxes3D:
    """Return annotations of a keyframe.

    Returns:
        Boxes in `base_link`, ids = instance tokens, velocity NaN where the neighbours in time do not tell it.
    """
    picked = [
        (annotation, name)
        for annotation in tables.annotations_of_sample.get(sample_token, [])
        if (name := detection_class(tables, annotation)) is not None
        and (keep_unseen or annotation["num_lidar_pts"] + annotation["num_radar_pts"] > 0)
    ]
    if not picked:
        return Boxes3D.empty()
    annotations = [annotation for annotation, _ in picked]
    base_SE3_global = global_SE3_base.inverse()
    headings = np.stack([rotation_from_quaternion_wxyz(a["rotation"])[:, 0] for a in annotations])
    velocities = np.stack([velocity_global_mps(tables, a) for a in annotations])
    turned = base_SE3_global.rotate(headings)
    width, length, height = np.array([a["size"] for a in annotations], dtype=np.float64).T
    return Boxes3D.make(
        base_SE3_global.transform(np.array([a["translation"] for a in annotations], dtype=np.float64)),
        np.stack([length, width, height], axis=1),
        wrap_angle(np.arctan2(turned[:, 1], turned[:, 0])),
        np.array([CLASSES.index(name) for _, name in picked], dtype=np.int64),
        velocities_mps=base_SE3_global.rotate(velocities)[:, :2],
        attributes=np.array([_attribute(tables, a) for a in annotations], dtype=np.int64),
        ids=tuple(a["instance_token"] for a in annotations),
    )


def velocity_global_mps(tables: Tables, annotation: Record) -> FloatArray:
    """Return (3,) velocity in the global frame by central difference over the neighbouring keyframes, m/s.

    One-sided at the ends of a track; NaN when there is no neighbour, or it is more than 1.5 s away (3 s for both).
    """
    before, after = annotation["prev"], annotation["next"]
    if not before and not after:
        return np.full(3, np.nan)
    first = tables.get("sample_annotation", before) if before else annotation
    last = tables.get("sample_annotation", after) if after else annotation
    times = [tables.get("sample", a["sample_token"])["timestamp"] for a in (first, last)]
    gap_s = 1e-6 * (times[1] - times[0])
    if not 0.0 < gap_s <= _MAX_GAP_S * (2 if before and after else 1):
        return np.full(3, np.nan)
    moved = np.array(last["translation"], dtype=np.float64) - np.array(first["translation"], dtype=np.float64)
    return np.asarray(moved / gap_s, dtype=np.float64)


def _attribute(tables: Tables, annotation: Record) -> int:
    tokens = annotation["attribute_tokens"]
    if not tokens:
        return -1
    name = tables.get("attribute", tokens[0])["name"]
    return ATTRIBUTES.index(name) if name in ATTRIBUTES else -1
