# SPDX-License-Identifier: Apache-2.0
"""FMT: sensor and CAN bus files are there, whole, and of the size their format asks for."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.jpeg import picture_header
from peft_dml_tools.datasets.checks.folder import CheckedFolder
from peft_dml_tools.datasets.checks.model import Violation, rule
from peft_dml_tools.datasets.checks.severity import Severity
from peft_dml_tools.datasets.nuscenes_files import read_radar
from peft_dml_tools.datasets.nuscenes_images import read_image
from peft_dml_tools.datasets.nuscenes_tables import read_json

_POINT_BYTES: Final = 20
_SMALL_SHARE: Final = 0.25
_FOLDERS: Final = {True: "samples", False: "sweeps"}


@rule(
    "FMT001",
    Severity.ERROR,
    "every file that the tables name is there",
    "copy the missing files, or read with --allow-missing",
)
def files_present(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per missing file."""
    for file in folder.files:
        if file.size < 0:
            yield Violation(file.record["filename"], f"is missing (sample_data {file.record['token']})")


@rule(
    "FMT002",
    Severity.ERROR,
    "LiDAR files hold whole points of 20 bytes",
    "the file was cut off: copy or write it again",
)
def lidar_whole(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per LiDAR file that is empty or ends within a point."""
    for file in folder.present("lidar"):
        points, rest = divmod(file.size, _POINT_BYTES)
        if rest:
            what = f"has {file.size} bytes; the last whole point ends at byte {points * _POINT_BYTES}"
            yield Violation(file.record["filename"], what)
        elif not points:
            yield Violation(file.record["filename"], "is empty")


@rule(
    "FMT003",
    Severity.WARNING,
    "files are about as large as others of their sensor",
    "the file may be cut off at a whole point, or the sensor was covered: look at it",
)
def sizes_alike(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per LiDAR or camera file below a quarter of its channel's median size."""
    by_channel: dict[str, list[int]] = defaultdict(list)
    for modality in ("lidar", "camera"):
        for file in folder.present(modality):
            by_channel[file.channel].append(file.size)
    medians = {channel: float(np.median(sizes)) for channel, sizes in by_channel.items()}
    for modality in ("lidar", "camera"):
        for file in folder.present(modality):
            if file.size < _SMALL_SHARE * medians[file.channel]:
                what = f"has {file.size} bytes, {file.channel} usually {medians[file.channel]:.0f}"
                yield Violation(file.record["filename"], what)


@rule(
    "FMT004",
    Severity.ERROR,
    "radar files hold what their header promises",
    "the file was cut off or is of another layout: copy or write it again",
)
def radar_whole(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per radar file that the reader refuses."""
    for file in folder.present("radar"):
        if refusal := _refusal(file.path):
            yield Violation(file.record["filename"], refusal)


@rule(
    "FMT005",
    Severity.ERROR,
    "images are whole JPEG or PNG files of the size that the tables name",
    "copy or write the image again; set width and height in sample_data",
)
def images_whole(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per image that is none, is cut off, or has another size."""
    for file in folder.present("camera"):
        try:
            size_px = picture_header(read_image(file.path))[:2]
        except DataError as error:
            yield Violation(file.record["filename"], _without_path(error, file.path))
            continue
        expected = (file.record["width"], file.record["height"])
        if size_px != expected:
            what = f"is {size_px[0]} x {size_px[1]} px, sample_data says {expected[0]} x {expected[1]}"
            yield Violation(file.record["filename"], what)


@rule(
    "FMT006",
    Severity.WARNING,
    "files lie in samples/CHANNEL or sweeps/CHANNEL as they are keyframes or not",
    "move the file, or correct filename and is_key_frame",
)
def files_placed(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per file in another folder."""
    if not any(file.record["filename"].startswith(tuple(_FOLDERS.values())) for file in folder.files):
        return  # a layout of its own, T4's for example
    for file in folder.files:
        expected = f"{_FOLDERS[file.record['is_key_frame']]}/{file.channel}/"
        if file.channel and not file.record["filename"].startswith(expected):
            yield Violation(file.record["filename"], f"is expected in {expected}")


@rule(
    "FMT007",
    Severity.ERROR,
    "CAN bus files are JSON lists of messages with utime",
    "copy the CAN bus expansion again, or write the scene again",
)
def can_readable(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per CAN bus file that cannot be read, and per message without time."""
    for path, content in _can_files(folder):
        if isinstance(content, str):
            yield Violation(folder.where(path), content)
            continue
        for i, message in enumerate(content):
            if not isinstance(message, dict) or not isinstance(message.get("utime"), int):
                yield Violation(folder.where(path), f"message {i} has no utime in µs")
                break


@rule(
    "FMT008",
    Severity.WARNING,
    "CAN bus messages are in the order of time",
    "sort them by utime; readers of this package do so themselves",
)
def can_ordered(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per CAN bus file with a message that is earlier than the one before."""
    for path, content in _can_files(folder):
        if isinstance(content, str):
            continue
        times = [m["utime"] for m in content if isinstance(m, dict) and isinstance(m.get("utime"), int)]
        back = np.flatnonzero(np.diff(np.array(times, dtype=np.int64)) < 0)
        if len(back):
            yield Violation(folder.where(path), f"message {int(back[0]) + 1} is earlier than the one before")


@rule("FMT009", Severity.INFO, "scenes have inertial data", "copy the CAN bus expansion; the detector runs without it")
def can_present(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per scene without `ms_imu`."""
    for row in folder.rows("scene"):
        if not (folder.root / "can_bus" / f"{row['name']}_ms_imu.json").is_file():
            yield Violation(f"scene {row['name']}", "has no can_bus/*_ms_imu.json")


@rule(
    "FMT010",
    Severity.INFO,
    "no file lies about that the tables do not name",
    "a run was cut short, or another version shares the folder: run it again, or remove them",
)
def files_named(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per folder with such files."""
    named = {file.path for file in folder.files}
    for kind in _FOLDERS.values():
        for place in sorted((folder.root / kind).glob("*")):
            strays = [p for p in place.iterdir() if p not in named] if place.is_dir() else []
            if strays:
                yield Violation(f"{kind}/{place.name}", f"{len(strays)} file(s), among them {min(strays).name}")


def _can_files(folder: CheckedFolder) -> Iterator[tuple[Path, "list[Any] | str"]]:
    """Yield CAN bus files of the scenes, with their messages or why they cannot be read; one at a time."""
    for row in folder.rows("scene"):
        for path in sorted((folder.root / "can_bus").glob(f"{row['name']}_*.json")):
            if path.stem.endswith("_meta") or path.stem.endswith("_route"):
                continue  # the expansion's overview and route are no messages
            try:
                content = read_json(path)
            except DataError as error:
                yield path, _without_path(error, path)
                continue
            yield path, content if isinstance(content, list) else "holds no list of messages"


def _refusal(path: Path) -> str:
    """Return why the reader of radar files refuses a file; empty when it does not."""
    try:
        read_radar(path, 0, keep_all=True)
    except DataError as error:
        return _without_path(error, path)
    return ""


def _without_path(error: DataError, path: Path) -> str:
    return str(error).removeprefix(f"{path}").lstrip(": ")
