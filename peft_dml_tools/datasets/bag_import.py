# SPDX-License-Identifier: Apache-2.0
"""A ROS 2 bag as a nuScenes scene: keyframes at 2 Hz, poses from the odometry, annotations where the bag has truth.

Arrays and compressed images are kept bit for bit; stamps lose what is below a microsecond, which nuScenes cannot hold.
Categories, visibility and point counts are derived from the ten classes and the points.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import Rig, Sensor, modality_of_channel
from peft_dml_tools.datasets.bag_recording import BagRecording
from peft_dml_tools.datasets.bags import BagSource
from peft_dml_tools.datasets.nuscenes_tables import NS_PER_US, read_json
from peft_dml_tools.datasets.nuscenes_writer import Origin, write_scene
from peft_dml_tools.datasets.nuscenes_writer_tables import finish, scene_file

SPLIT: Final = "bag"  #: Split of imported scenes in `splits.json`
_SCENE_NAME: Final = re.compile(r"scene-\d{4}")


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What became of a bag."""

    scene: str  #: Name of the scene
    keyframes: int  #: Number of samples
    files: int  #: Number of sensor files
    annotations: int  #: Number of annotations
    #: Number of messages by reason for which they are not in the scene
    left_out: dict[str, int] = field(default_factory=dict)
    damage: str = ""  #: What is wrong with the bag, or empty


def import_bag(
    source: BagSource,
    root: Path,
    *,
    scene: str | None = None,
    version: str = "v1.0-bag",
    location: str = "unknown",
    allow_damaged: bool = False,
    assume_still: bool = False,
) -> ImportSummary:
    """Write a bag as a scene of a nuScenes folder; scenes that were imported into it before stay.

    Raises DataError: the bag is damaged or lacks what is needed, or a file cannot be written: the same call completes
    it; ConfigError: the scene's name is malformed or taken, or the version is not one of imported bags.

    Args:
        source: The bag.
        root: The data set's folder; made where it does not exist.
        scene: Name of the scene, scene-NNNN; None takes the bag's where it is such a name, else the first that is free.
        version: Name of the version folder.
        location: Name of the map.
        allow_damaged: Take what stands before the damage of a bag that was cut off.
        assume_still: Take a bag without odometry for one of a vehicle that stands.
    """
    name = _free_name(root, version, scene, source.name)
    recording = BagRecording(source, location=location, allow_damaged=allow_damaged, assume_still=assume_still)
    begin = datetime.fromtimestamp(recording.keyframes_ns[0] * 1e-9, tz=timezone.utc)
    origin = Origin("bag", "unknown", begin.date().isoformat(), f"Imported from {source.name}", annotated=True)
    if scene is None and (twin := _scene_of_same_drive(root, version, name, recording.keyframes_ns)):
        raise ConfigError(
            f"{root / version} has this drive already, as {twin}: its keyframes are the same; fix: leave it, or name "
            "the second copy with --scene if you want the drive twice"
        )
    write_scene(root, version, name, recording, recording.stamps, origin)
    _unite(root, version, name, recording.rig)
    part = read_json(scene_file(root, version, name))
    dropped = Counter({f"{sensor}: {reason}": times for (sensor, reason), times in source.dropped.items()})
    return ImportSummary(
        name,
        len(part["sample"]),
        len(part["sample_data"]),
        len(part["sample_annotation"]),
        dict(recording.left_out + dropped),
        recording.damage,
    )


def _free_name(root: Path, version: str, wanted: str | None, bag: str) -> str:
    """Return the scene's name after checking that the version folder is one of imported bags."""
    folder = root / version
    if folder.parent != root or not version.strip(". "):
        raise ConfigError(f"version '{version}'; fix: the name of a folder below --out, such as v1.0-bag")
    imported = {path.stem for path in (folder / "scenes").glob("*.json")}
    # A scene that is not in the table was left unfinished, and is done again.
    taken = {row["name"] for row in read_json(folder / "scene.json")} if (folder / "scene.json").is_file() else set()
    if foreign := sorted(taken - imported):
        msg = f"{folder} holds scenes that no import wrote ({foreign[0]}, ...); fix: choose another --version or --out"
        raise ConfigError(msg)
    if wanted is None and _SCENE_NAME.fullmatch(bag) and bag not in taken:
        wanted = bag
    if wanted is None:
        wanted = next(name for name in (f"scene-{i:04d}" for i in range(9001, 100_000)) if name not in taken)
    if not _SCENE_NAME.fullmatch(wanted):
        msg = f"scene name '{wanted}'; fix: scene- and four digits, as the devkit's CAN bus reader wants it"
        raise ConfigError(msg)
    if wanted in taken:
        raise ConfigError(f"{folder} has '{wanted}' already; fix: choose another name with --scene")
    return wanted


def _scene_of_same_drive(root: Path, version: str, name: str, keyframes_ns: tuple[int, ...]) -> str:
    """Return another finished scene with exactly these keyframes; empty when there is none."""
    wanted = [stamp // NS_PER_US for stamp in keyframes_ns]
    for path in sorted((root / version / "scenes").glob("*.json")):
        if path.stem != name and [row["timestamp"] for row in read_json(path)["sample"]] == wanted:
            return path.stem
    return ""


def _unite(root: Path, version: str, scene: str, rig: Rig) -> None:
    """Join the new scene to those that are there."""
    splits: dict[str, list[str]] = {}
    if (root / version / "splits.json").is_file():
        splits = {split: list(names) for split, names in read_json(root / version / "splits.json").items()}
    if not any(scene in names for names in splits.values()):
        splits.setdefault(SPLIT, []).append(scene)
    sensors = dict(rig.sensors)
    if (root / version / "sensor.json").is_file():
        for row in read_json(root / version / "sensor.json"):
            name = row["channel"]
            sensors.setdefault(name, Sensor(name, modality_of_channel(name), SE3.identity()))
    finish(root, version, Rig(sensors), splits)
