# SPDX-License-Identifier: Apache-2.0
"""Writes chosen keyframes of nuScenes folders, with their sweeps and annotations, as a nuScenes folder of their own."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.datasets.nuscenes_tables import read_json
from peft_dml_tools.datasets.nuscenes_writer_files import write_table

Row = dict[str, Any]
SHARED: Final = ("category", "attribute", "visibility", "sensor")  #: Tables that do not depend on the scenes
TABLES: Final = (
    *SHARED, "calibrated_sensor", "ego_pose", "instance", "log", "map", "sample", "sample_annotation", "sample_data",
    "scene",
)  # fmt: skip


#: Tables whose records are linked: what a chain shares, and the column that gives its order (a stamp or a sample)
CHAINS: Final = {
    "sample": ("scene_token", "timestamp"),
    "sample_data": ("calibrated_sensor_token", "timestamp"),
    "sample_annotation": ("instance_token", "sample_token"),
}


class SubsetWriter:
    """Collects keyframes of one or several folders."""

    def __init__(self, out: Path, version: str) -> None:
        self._out, self._version = out, version
        self._tables: dict[str, dict[str, Row]] = {name: {} for name in TABLES}
        self._scenes: list[str] = []

    def add(self, root: Path, version: str, samples: Iterable[str]) -> None:
        """Take keyframes of a folder: records, and files by hard link or copy. Raises DataError: it lacks one."""
        tables = {name: read_json(root / version / f"{name}.json") for name in TABLES}
        wanted = set(samples)
        if unknown := wanted - {row["token"] for row in tables["sample"]}:
            raise DataError(f"{root}: no keyframe {min(unknown)}; fix: name tokens of its table sample")
        kept = {name: list(rows) for name, rows in tables.items()}
        kept["sample"] = [row for row in tables["sample"] if row["token"] in wanted]
        for name in ("sample_data", "sample_annotation"):
            kept[name] = [row for row in tables[name] if row["sample_token"] in wanted]
        kept["scene"] = _scenes_of(kept["sample"], tables["scene"])
        kept["instance"] = _instances_of(kept["sample_annotation"], tables["instance"])
        for name, key in (("ego_pose", "ego_pose_token"), ("calibrated_sensor", "calibrated_sensor_token")):
            used = {row[key] for row in kept["sample_data"]}
            kept[name] = [row for row in tables[name] if row["token"] in used]
        logs = {row["log_token"] for row in kept["scene"]}
        kept["log"] = [row for row in tables["log"] if row["token"] in logs]
        kept["map"] = [
            {**row, "log_tokens": [t for t in row["log_tokens"] if t in logs]}
            for row in tables["map"]
            if logs & set(row["log_tokens"])
        ]
        stamps = {row["token"]: int(row["timestamp"]) for row in kept["sample"]}
        for name, (group, stamp) in CHAINS.items():
            times = {row["token"]: stamps.get(row[stamp]) or int(row[stamp]) for row in kept[name]}
            kept[name] = _relinked(kept[name], group, times)
        for name, rows in kept.items():
            self._tables[name].update({row["token"]: row for row in rows})
        self._copy_files(root, kept)

    def finish(self, split: str) -> Path:
        """Write the tables; return the folder."""
        folder = self._out / self._version
        write_table(folder / "splits.json", {split: sorted(self._scenes)})
        for name in sorted(self._tables, key=lambda table: table == "scene"):
            write_table(folder / f"{name}.json", list(self._tables[name].values()))
        return self._out

    def _copy_files(self, root: Path, kept: Mapping[str, list[Row]]) -> None:
        scenes = [row["name"] for row in kept["scene"]]
        self._scenes += [name for name in scenes if name not in self._scenes]
        names = [row["filename"] for row in (*kept["sample_data"], *kept["map"])]
        for scene in scenes:
            names += [str(p.relative_to(root)) for p in (root / "can_bus").glob(f"{scene}_*.json")]
        for name in names:
            target = self._out / name
            if target.exists() or not (root / name).is_file():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(root / name, target)
            except OSError:
                shutil.copyfile(root / name, target)


def _relinked(rows: list[Row], group: str, times: Mapping[str, int]) -> list[Row]:
    """Return rows with `prev` and `next` set to their neighbours in time within a group."""
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: times[row["token"]]):
        groups.setdefault(row[group], []).append(dict(row))
    for chain in groups.values():
        for row, before, after in zip(chain, [None, *chain], [*chain[1:], None], strict=False):
            row["prev"], row["next"] = before["token"] if before else "", after["token"] if after else ""
    return [row for chain in groups.values() for row in chain]


def _scenes_of(samples: list[Row], scenes: list[Row]) -> list[Row]:
    found = []
    for scene in scenes:
        own = sorted((s for s in samples if s["scene_token"] == scene["token"]), key=lambda s: int(s["timestamp"]))
        if own:
            ends = {"first_sample_token": own[0]["token"], "last_sample_token": own[-1]["token"]}
            found.append({**scene, **ends, "nbr_samples": len(own)})
    return found


def _instances_of(annotations: list[Row], instances: list[Row]) -> list[Row]:
    seen: dict[str, list[str]] = {}
    for row in annotations:
        seen.setdefault(row["instance_token"], []).append(row["token"])
    return [
        {
            **row,
            "nbr_annotations": len(seen[row["token"]]),
            "first_annotation_token": seen[row["token"]][0],
            "last_annotation_token": seen[row["token"]][-1],
        }
        for row in instances
        if row["token"] in seen
    ]
