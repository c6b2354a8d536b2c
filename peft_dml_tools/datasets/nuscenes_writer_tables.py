# SPDX-License-Identifier: Apache-2.0
"""The fixed tables of a nuScenes folder, tokens, and the union of finished scenes into the 13 tables."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from peft_dml_ros.core.classes import ATTRIBUTES
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.rig import Rig
from peft_dml_tools.datasets.nuscenes_writer_files import write_table

Tables = dict[str, list[dict[str, Any]]]

SCENE_TABLES: Final = (
    "log",
    "map",
    "scene",
    "sample",
    "sample_data",
    "ego_pose",
    "calibrated_sensor",
    "sample_annotation",
    "instance",
)
CATEGORIES: Final = (
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.wheelchair",
    "human.pedestrian.stroller",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.construction_worker",
    "animal",
    "vehicle.car",
    "vehicle.motorcycle",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.truck",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.trailer",
    "movable_object.barrier",
    "movable_object.trafficcone",
    "movable_object.pushable_pullable",
    "movable_object.debris",
    "static_object.bicycle_rack",
)
VISIBILITIES: Final = {"1": (0, 40), "2": (40, 60), "3": (60, 80), "4": (80, 100)}


def token(*parts: object) -> str:
    """Return 32 hex digits that follow from what they stand for."""
    return hashlib.md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def channels(rig: Rig) -> tuple[str, ...]:
    """Return sensors whose measurements nuScenes keeps as files."""
    return tuple(s.name for s in rig.sensors.values() if s.modality in {"lidar", "radar", "camera"})


def fixed_tables(rig: Rig) -> Tables:
    """Return tables that are the same for every scene: category, attribute, visibility, sensor."""
    return {
        "category": [
            {"token": token("category", name), "name": name, "description": name.replace(".", ", ")}
            for name in CATEGORIES
        ],
        "attribute": [
            {"token": token("attribute", name), "name": name, "description": name.replace(".", ", ")}
            for name in ATTRIBUTES
        ],
        "visibility": [
            {
                "token": key,
                "level": f"v{low}-{high}",
                "description": f"visibility of whole object is between {low} and {high}%",
            }
            for key, (low, high) in VISIBILITIES.items()
        ],
        "sensor": [
            {"token": token("sensor", name), "channel": name, "modality": rig[name].modality} for name in channels(rig)
        ],
    }


def scene_file(root: Path, version: str, scene: str) -> Path:
    """Return where a finished scene keeps its part of the tables until they are united."""
    return root / version / "scenes" / f"{scene}.json"


def finish(root: Path, version: str, rig: Rig, splits: Mapping[str, Sequence[str]]) -> None:
    """Unite finished scenes into the 13 tables and write `splits.json` for the devkit's custom splits.

    Raises DataError: a scene of a split is not finished; all such scenes are named.
    """
    names = [name for split in splits.values() for name in split]
    missing = [name for name in names if not scene_file(root, version, name).is_file()]
    if missing:
        msg = f"{root}: scenes not finished: {', '.join(missing)}; fix: run the same command again to complete them"
        raise DataError(msg)
    tables: Tables = {table: [] for table in SCENE_TABLES}
    for name in names:
        part = json.loads(scene_file(root, version, name).read_text(encoding="utf-8"))
        for table in SCENE_TABLES:
            tables[table] += part[table]
    tables |= fixed_tables(rig)
    write_table(root / version / "splits.json", {split: list(scenes) for split, scenes in splits.items()})
    # The scenes come last: a scene that is listed there is in all tables.
    for table in sorted(tables, key=lambda table: table == "scene"):
        write_table(root / version / f"{table}.json", tables[table])
