# SPDX-License-Identifier: Apache-2.0
"""Boxes that people made with their own tools, for the frames of a nuScenes folder.

Two formats are read. One JSON file a frame, in `base_link`, metres and radians:

    {"frame": "<sample token, stamp in ns, or a file's name>", "frame_id": "base_link",
     "boxes": [{"class": "car", "center": [x, y, z], "size": [length, width, height], "yaw": 0.1}]}

`frame_id` may be a sensor, e.g. LIDAR_TOP; a box may have "velocity": [vx, vy]. Or CVAT's export "Datumaro 3D" of
cuboids: one JSON file with `categories` and `items`, in the frame of the LiDAR.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.errors import DataError, nearest
from peft_dml_ros.core.geometry import SE3
from peft_dml_tools.datasets.nuscenes import NuScenesReader

LARGEST_M: Final = 40.0
FARTHEST_M: Final = 200.0
MOST_PROBLEMS: Final = 8
LIDAR: Final = "LIDAR_TOP"
BASE: Final = "base_link"


class LabelledBox(NamedTuple):
    """One box as a file has it, in the frame that the file names."""

    name: str
    center: tuple[float, ...]
    size: tuple[float, ...]
    yaw: float
    velocity: tuple[float, ...]


class LabelledFrame(NamedTuple):
    """The boxes of one frame.

    Attributes:
        source: File and place, for messages.
        frame: Token, stamp or file name.
        frame_id: Coordinate frame.
        boxes: Its boxes.
    """

    source: str
    frame: str
    frame_id: str
    boxes: list[LabelledBox]


class LabelledReader(NuScenesReader):
    """A nuScenes folder whose truth is what labels say; frames without labels are not its keyframes.

    Args:
        root: nuScenes folder.
        labels: Folder of JSON files, or one file.
        names: Class by the label's name, for names that are not the project's.

    Raises:
        DataError: files that cannot be read, unknown classes or frames, boxes that cannot be; all are named.
    """

    def __init__(self, root: Path, labels: Path, names: Mapping[str, str] | None = None) -> None:
        super().__init__(root)
        self._boxes = _by_token(self, labels, names or {})

    def samples(self, split_or_scene: Any = None) -> list[str]:
        """Return tokens of labelled keyframes."""
        return [token for token in super().samples(split_or_scene) if token in self._boxes]

    def truth(self, sample_token: str, *, keep_unseen: bool = False) -> Boxes3D:  # noqa: ARG002
        """Return the labelled boxes in `base_link`."""
        return self._boxes[sample_token]


def _by_token(reader: NuScenesReader, labels: Path, names: Mapping[str, str]) -> dict[str, Boxes3D]:
    tokens, problems, found = _tokens(reader), [], dict[str, Boxes3D]()
    for entry in read_labels(labels):
        token = tokens.get(entry.frame)
        if token is None:
            problems.append(f"{entry.source}: frame '{entry.frame}' is not in {reader.root}; {_choices(entry, tokens)}")
            continue
        if token in found:
            problems.append(f"{entry.source}: frame '{entry.frame}' is labelled twice")
        problems += [f"{entry.source}: {p}" for p in _box_problems(entry, names)]
        if not problems:
            found[token] = _boxes(entry, reader, token, names)
    if problems:
        more = f"; and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
        raise DataError(f"labels refused: {'; '.join(problems[:MOST_PROBLEMS])}{more}")
    if not found:
        raise DataError(f"{labels} holds no labelled frame; see peft_dml_train.few_shot.labels for the formats")
    return found


def read_labels(path: Path) -> Iterator[LabelledFrame]:
    """Yield the frames of a folder of JSON files, or of one file.

    Raises:
        DataError: a file cannot be read or is of neither format.
    """
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            yield from _datumaro(file, content) if "items" in content else [_plain(file, content)]
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:  # noqa: PERF203
            msg = f"{file} holds no labels: {type(error).__name__}: {error}; expected 'boxes' or Datumaro's 'items'"
            raise DataError(msg) from error


def _plain(file: Path, content: Mapping[str, Any]) -> LabelledFrame:
    boxes = [
        LabelledBox(
            str(box["class"]), tuple(map(float, box["center"])), tuple(map(float, box["size"])), float(box["yaw"]),
            tuple(map(float, box.get("velocity", (np.nan, np.nan)))),
        )
        for box in content["boxes"]
    ]  # fmt: skip
    return LabelledFrame(file.name, str(content.get("frame", file.stem)), str(content.get("frame_id", BASE)), boxes)


def _datumaro(file: Path, content: Mapping[str, Any]) -> Iterator[LabelledFrame]:
    """Yield cuboids of CVAT: position is the centre, scale the size along the box's axes, rotation in rad by axis."""
    names = [label["name"] for label in content["categories"]["label"]["labels"]]
    for number, item in enumerate(content["items"]):
        boxes = [
            LabelledBox(
                names[box["label_id"]], tuple(map(float, box["position"])), tuple(map(float, box["scale"])),
                float(box["rotation"][2]), (np.nan, np.nan),
            )
            for box in item["annotations"]
            if box["type"] == "cuboid_3d"
        ]  # fmt: skip
        yield LabelledFrame(f"{file.name}, item {number}", str(item["id"]), LIDAR, boxes)


def _tokens(reader: NuScenesReader) -> dict[str, str]:
    """Sample token by everything that a label may call the frame."""
    found: dict[str, str] = {}
    for token in NuScenesReader.samples(reader):  # all, labelled or not
        stamp_ns = reader.stamp_ns(token)
        files = [Path(record["filename"]) for record in reader.keyframes(token).values()]
        stems = [name for file in files for name in (file.name, file.stem, file.name.split(".")[0])]
        found |= dict.fromkeys([token, str(stamp_ns), str(stamp_ns // 1000), *stems], token)
    return found


def _choices(entry: LabelledFrame, tokens: Mapping[str, str]) -> str:
    return nearest(entry.frame, tokens) if tokens else "it has no keyframes"


def _box_problems(entry: LabelledFrame, names: Mapping[str, str]) -> Iterator[str]:
    for number, box in enumerate(entry.boxes):
        name = names.get(box.name, box.name)
        if name not in CLASSES:
            yield f"box {number} is '{box.name}'; {nearest(name, CLASSES)}; map it: --class {box.name}=car"
        values = np.array([*box.center, *box.size, box.yaw])
        if values.shape != (7,) or len(box.velocity) != 2 or not np.isfinite(values).all():
            yield f"box {number}: centre, size and yaw must be 3, 3 and 1 finite numbers, velocity 2"
        elif not (min(box.size) > 0 and max(box.size) < LARGEST_M and np.abs(box.center).max() < FARTHEST_M):
            yield f"box {number}: size {box.size} m at {box.center} m cannot be; units are metres"


def _boxes(entry: LabelledFrame, reader: NuScenesReader, token: str, names: Mapping[str, str]) -> Boxes3D:
    if not entry.boxes:
        return Boxes3D.empty()
    columns = [np.array(column) for column in zip(*((b.center, b.size, b.velocity) for b in entry.boxes), strict=True)]
    labels = np.array([CLASSES.index(names.get(b.name, b.name)) for b in entry.boxes])
    boxes = Boxes3D.make(
        columns[0], columns[1], np.array([b.yaw for b in entry.boxes]), labels, velocities_mps=columns[2]
    )
    return boxes if entry.frame_id == BASE else boxes.transform(_mounting(reader, token, entry))


def _mounting(reader: NuScenesReader, token: str, entry: LabelledFrame) -> SE3:
    rig = reader.rig(token)
    if entry.frame_id not in rig.sensors:
        raise DataError(f"{entry.source}: frame_id '{entry.frame_id}'; {nearest(entry.frame_id, [BASE, *rig.sensors])}")
    return rig.sensors[entry.frame_id].base_SE3_sensor
