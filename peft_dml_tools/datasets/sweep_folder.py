# SPDX-License-Identifier: Apache-2.0
"""A folder of LiDAR sweeps (.pcd, .ply, .bin, .pcd.bin), or with a folder of them for each LiDAR, as a source."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from peft_dml_ros.conversions import topics
from peft_dml_ros.conversions.decoders import intensity_of
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import Rig, Sensor
from peft_dml_tools.datasets.bag_options import BagOptions
from peft_dml_tools.datasets.file_source import Entry, FileSource
from peft_dml_tools.datasets.point_files import SUFFIXES, read_sweep

PERIOD_NS: Final = 100_000_000  #: From one sweep to the next, where the names of files are no times
_EARLIEST_S, _LATEST_S = 0.9e9, 4.2e9  #: Seconds since 1970 that a name may stand for
#: A name that ends with a time, a fraction of a second behind a point (pcl_ros)
_TIME: Final = re.compile(r"(?<!\d)(\d{9,19})(?:\.(\d{1,9}))?$")


def sweep_files(folder: Path) -> list[Path]:
    """Return the sweeps in a folder, or the one that a file is, in order of the numbers in their names."""
    paths = folder.iterdir() if folder.is_dir() else [folder]
    found = (path for path in paths if path.is_file() and path.name.lower().endswith(SUFFIXES))
    return sorted(found, key=lambda p: [int(n) if i % 2 else n for i, n in enumerate(re.split(r"(\d+)", p.name))])


def lidar_folders(path: Path) -> dict[str, Path]:
    """Return the folder of each LiDAR: those below it that are called LIDAR_..., else the folder or file itself."""
    below = sorted(path.iterdir()) if path.is_dir() else []
    named = {p.name.upper(): p for p in below if p.is_dir() and p.name.upper().startswith("LIDAR")}
    named = {name: folder for name, folder in named.items() if sweep_files(folder)}
    return named or ({"LIDAR_TOP": path} if sweep_files(path) else {})


def open_sweep_folder(path: Path, options: BagOptions) -> FileSource:
    """Open a folder of sweeps. Raises DataError: there is no sweep in it.

    Args:
        path: The folder, or a single file.
        options: Intensity and mounting; LiDARs without a mounting sit at the origin of `base_link`, unturned.
    """
    folders = lidar_folders(path)
    if not folders:
        msg = f"{path} holds no sweep; fix: put in {', '.join(SUFFIXES)}, or folders LIDAR_TOP, LIDAR_LEFT, ... of such"
        raise DataError(msg)
    files = {name: sweep_files(folder) for name, folder in folders.items()}
    stamps = {name: stamps_of_names(found) for name, found in files.items()}
    timed = all(all(times) and len(set(times)) == len(times) for times in stamps.values())
    entries = []
    for name, found in files.items():
        chosen = intensity_of(name, options.inputs)
        for number, file in enumerate(found):
            at = stamps[name][number] if timed else (1 + number) * PERIOD_NS  # health refuses a stamp of 0
            entries.append(Entry(at, name, partial(read_sweep, file, at, intensity=chosen)))
    given = options.calibration.sensors
    mounted = {n: given[n].base_SE3_sensor if n in given else SE3.identity() for n in folders}
    names = "" if timed else "; names are no times: 10 Hz"
    places = {n: f"{f.name}{f.is_dir() * f'/*{files[n][0].suffix}'}{names}" for n, f in folders.items()}
    rig = Rig({n: Sensor(n, "lidar", pose) for n, pose in mounted.items()})
    source = FileSource(path.name, rig, entries, places=places, assumed=frozenset(folders.keys() - given.keys()))
    for name in source.assumed:
        source.places[name] += f"; taken for {topics.BASE_FRAME}: no calibration file (--config, `calibration`)"
    return source


def stamps_of_names(files: Sequence[Path]) -> list[int]:
    """Return the times in ns that files are named after (s, ms, µs or ns since 1970); 0 for other names.

    A fraction behind a point is a number of nanoseconds where the longest has nine digits: ROS 2's pcl_ros does not pad
    it with zeros. Others are decimals of a second.
    """
    stems = [next((file.name[: -len(s)] for s in SUFFIXES if file.name.lower().endswith(s)), "") for file in files]
    found = [_TIME.search(stem) for stem in stems]
    whole = max((len(match[2] or "") for match in found if match), default=0) == 9
    return [_stamp_ns(int(match[1]), match[2] or "0", whole=whole) if match else 0 for match in found]


def _stamp_ns(value: int, fraction: str, *, whole: bool) -> int:
    for unit_ns in (1_000_000_000, 1_000_000, 1_000, 1):
        if _EARLIEST_S <= value * unit_ns * 1e-9 <= _LATEST_S:
            below_ns = int(fraction if whole else fraction.ljust(9, "0")) if unit_ns == 1_000_000_000 else 0
            return value * unit_ns + below_ns
    return 0
