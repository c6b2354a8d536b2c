# SPDX-License-Identifier: Apache-2.0
"""Boxes that people made with their own tools, for the frames of a nuScenes folder; formats: `label_files`."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.errors import DataError, nearest
from peft_dml_ros.core.geometry import SE3
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.few_shot.label_files import BASE, LabelledFrame, read_labels

LARGEST_M: Final = 40.0
FARTHEST_M: Final = 200.0
MOST_PROBLEMS: Final = 8


class RelabelledReader(NuScenesReader):
    """A nuScenes folder whose truth is `boxes`, by token in `base_link`; other frames are not its keyframes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.boxes: dict[str, Boxes3D] = {}

    def samples(self, split_or_scene: Any = None) -> list[str]:
        """Return tokens of labelled keyframes."""
        return [token for token in super().samples(split_or_scene) if token in self.boxes]

    def truth(self, sample_token: str, *, keep_unseen: bool = False) -> Boxes3D:  # noqa: ARG002
        """Return the boxes of a labelled keyframe."""
        return self.boxes[sample_token]


class LabelledReader(RelabelledReader):
    """A nuScenes folder whose truth is what labels say.

    Args:
        root: nuScenes folder.
        labels: Folder of JSON files, or one file.
        names: Class by the label's name, for names that are not the project's.

    Raises:
        DataError: files that cannot be read, unknown classes or frames, boxes that cannot be; all are named.
    """

    def __init__(self, root: Path, labels: Path, names: Mapping[str, str] | None = None) -> None:
        super().__init__(root)
        self.boxes = _by_token(self, labels, names or {})


def _by_token(reader: NuScenesReader, labels: Path, names: Mapping[str, str]) -> dict[str, Boxes3D]:
    tokens, problems, found = _tokens(reader), [], dict[str, Boxes3D]()
    for entry in read_labels(labels):
        token = tokens.get(entry.frame)
        if token is None:
            like = next(iter(get_close_matches(entry.frame, tokens, 1) or tokens), "none")
            problems.append(f"{entry.source}: frame '{entry.frame}' is not in {reader.root}, which has e.g. '{like}'")
            continue
        if token in found:
            problems.append(f"{entry.source}: frame '{entry.frame}' is labelled twice")
        problems += [f"{entry.source}: {p}" for p in _box_problems(entry, names)]
        if not problems:
            found[token] = _boxes(entry, reader, token, names)
    if problems:
        more = f"; and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
        raise DataError(f"labels refused: {'; '.join(problems[:MOST_PROBLEMS])}{more}; fix: correct these")
    if not found:
        raise DataError(f"{labels} holds no labelled frame; fix: see docs/cookbook.md for the formats")
    return found


def _tokens(reader: NuScenesReader) -> dict[str, str]:
    """Sample token by everything that a label may call the frame."""
    found: dict[str, str] = {}
    for token in NuScenesReader.samples(reader):  # all, labelled or not
        stamp_ns = reader.stamp_ns(token)
        files = [Path(record["filename"]) for record in reader.keyframes(token).values()]
        cuts = [(file, file.name.split(".")[0]) for file in files]
        stems = [name for file, cut in cuts for name in (file.name, file.stem, cut, f"{cut}.pcd")]
        found |= dict.fromkeys([token, str(stamp_ns), str(stamp_ns // 1000), *stems], token)
    return found


def _box_problems(entry: LabelledFrame, names: Mapping[str, str]) -> Iterator[str]:
    for number, box in enumerate(entry.boxes):
        name = names.get(box.name, box.name)
        if name not in CLASSES:
            yield f"box {number} is '{box.name}'; {nearest(name, CLASSES)}; map it: --class {box.name}=car"
        values = np.array([*box.center, *box.size, box.yaw])
        if [*map(len, (box.center, box.size, box.velocity))] != [3, 3, 2] or not np.isfinite(values).all():
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
