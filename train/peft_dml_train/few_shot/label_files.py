# SPDX-License-Identifier: Apache-2.0
"""Files of boxes that people made with their own tools.

    {"frame": "<sample token, stamp in ns, or a file's name>", "frame_id": "base_link",
     "boxes": [{"class": "car", "center": [x, y, z], "size": [length, width, height], "yaw": 0.1}]}

is one frame, in metres and radians; `frame_id` may be a sensor, e.g. LIDAR_TOP; a box may have "velocity": [vx, vy].
In the LiDAR's frame are CVAT's export "Datumaro 3D" of cuboids, a JSON file with `categories` and `items`, and the
labels of SUSTechPOINTS, a JSON list of boxes named as the cloud. A folder is searched with all below it; a .zip is read
as it is.
"""

import json
import logging
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from peft_dml_ros.core.errors import DataError

log = logging.getLogger(__name__)
LIDAR: Final = "LIDAR_TOP"
BASE: Final = "base_link"
UNKNOWN: Final = (np.nan, np.nan)


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


def read_labels(path: Path) -> Iterator[LabelledFrame]:
    """Yield the frames of a folder of JSON files, of one file, or of a .zip of them.

    Raises:
        DataError: a file cannot be read or is of no known format.
    """
    for name, read in _files(path):
        try:
            content = json.loads(read())
            if isinstance(content, list):
                yield _sustech(name, content)
            elif "items" in content:
                yield from _datumaro(name, content)
            else:
                yield _plain(name, content)
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:  # noqa: PERF203
            msg = f"{name} holds no labels: {type(error).__name__}: {error}"
            raise DataError(f"{msg}; fix: give 'boxes', Datumaro's 'items' or SUSTechPOINTS' list") from error


def _files(path: Path) -> Iterator[tuple[Path, Callable[[], bytes]]]:
    if path.suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                for name in sorted(n for n in archive.namelist() if n.endswith(".json")):
                    yield path / name, partial(archive.read, name)
        except (OSError, zipfile.BadZipFile) as error:
            msg = f"{path} cannot be read: {error}; fix: export it again, or unpack it and give its folder"
            raise DataError(msg) from error
    else:
        for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
            yield file, file.read_bytes


def _plain(file: Path, content: Mapping[str, Any]) -> LabelledFrame:
    boxes = [
        _box(box["class"], box["center"], box["size"], box["yaw"], box.get("velocity", UNKNOWN))
        for box in content["boxes"]
    ]
    return LabelledFrame(file.name, str(content.get("frame", file.stem)), str(content.get("frame_id", BASE)), boxes)


def _datumaro(file: Path, content: Mapping[str, Any]) -> Iterator[LabelledFrame]:
    """Yield cuboids of CVAT: position is the centre, scale the size along the box's axes, rotation in rad by axis."""
    names, bare = [label["name"] for label in content["categories"]["label"]["labels"]], 0
    for number, item in enumerate(content["items"]):
        boxes = [
            _box(names[box["label_id"]], box["position"], box["scale"], box["rotation"][2])
            for box in item["annotations"]
            if box["type"] == "cuboid_3d"
        ]
        if not boxes:
            bare += 1
            continue
        # CVAT keeps the folders of an uploaded archive in the name.
        yield LabelledFrame(f"{file.name}, item {number}", Path(str(item["id"])).name, LIDAR, boxes)
    if bare:
        # CVAT exports all frames of a task, and does not say which were looked at.
        log.warning("%s: %d frames without a cuboid count as not labelled; an empty one needs a JSON file", file, bare)


def _sustech(file: Path, content: Sequence[Mapping[str, Any]]) -> LabelledFrame:
    """Return boxes of SUSTechPOINTS: position, rotation in rad by axis and scale, each with x, y and z."""
    boxes = []
    for box in content:
        center, size, turn = ([float(box["psr"][k][axis]) for axis in "xyz"] for k in ("position", "scale", "rotation"))
        boxes.append(_box(box["obj_type"], center, size, turn[2]))
    return LabelledFrame(file.name, file.stem, LIDAR, boxes)


def _box(
    name: str, center: Sequence[float], size: Sequence[float], yaw: float, velocity: Sequence[float] = UNKNOWN
) -> LabelledBox:
    numbers = (tuple(map(float, values)) for values in (center, size, velocity))
    center_m, size_m, velocity_mps = numbers
    return LabelledBox(str(name), center_m, size_m, float(yaw), velocity_mps)
