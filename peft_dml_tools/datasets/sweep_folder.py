# SPDX-License-Identifier: Apache-2.0
"""A folder of LiDAR sweeps (.pcd, .ply, .bin, .pcd.bin), or with a folder of them for each LiDAR, as a source."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from peft_dml_ros.conversions import topics
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import Rig, Sensor
from peft_dml_tools.datasets.file_source import Entry, FileSource
from peft_dml_tools.datasets.point_files import SUFFIXES, read_sweep

PERIOD_NS: Final = 100_000_000
"""From one sweep to the next, where the names of files are no times."""
_EARLIEST_S, _LATEST_S = 0.9e9, 4.2e9
"""Seconds since 1970 that a name may stand for."""


def sweep_files(folder: Path) -> list[Path]:
    """Return the sweeps in a folder, in order of their names."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name.lower().endswith(SUFFIXES))


def lidar_folders(path: Path) -> dict[str, Path]:
    """Return the folder of each LiDAR: those below it that are called LIDAR_..., else the folder itself."""
    named = {p.name.upper(): p for p in sorted(path.iterdir()) if p.is_dir() and p.name.upper().startswith("LIDAR")}
    named = {name: folder for name, folder in named.items() if sweep_files(folder)}
    return named or ({"LIDAR_TOP": path} if sweep_files(path) else {})


def open_sweep_folder(path: Path, calibration: Rig) -> FileSource:
    """Open a folder of sweeps.

    Args:
        path: The folder.
        calibration: Mounting by sensor; LiDARs that it does not name sit at the origin of `base_link`, unturned.

    Raises:
        DataError: there is no sweep in it.
    """
    folders = lidar_folders(path)
    if not folders:
        msg = f"{path} holds no sweep; looked for {', '.join(SUFFIXES)}, or folders LIDAR_TOP, LIDAR_LEFT, ... of such"
        raise DataError(msg)
    entries = []
    for name, folder in folders.items():
        for number, file in enumerate(sweep_files(folder)):
            stamp_ns = stamp_of_name(file) or (1 + number) * PERIOD_NS  # health refuses a stamp of 0
            entries.append(Entry(stamp_ns, name, lambda file=file, at=stamp_ns: read_sweep(file, at)))  # type: ignore[misc]
    given = calibration.sensors
    mounted = {n: given[n].base_SE3_sensor if n in given else SE3.identity() for n in folders}
    places = {name: f"{folder.name}/*{sweep_files(folder)[0].suffix}" for name, folder in folders.items()}
    rig = Rig({n: Sensor(n, "lidar", pose) for n, pose in mounted.items()})
    source = FileSource(path.name, rig, entries, places=places)
    for name in (name for name in folders if name not in given):
        source.places[name] += f"; taken for {topics.BASE_FRAME}: no calibration file (--config, `calibration`)"
    return source


def stamp_of_name(file: Path) -> int:
    """Return the time in ns that a file is named after (s, ms, µs or ns since 1970); 0 for other names."""
    digits = file.name.split(".")[0].rpartition("_")[2]
    if not digits.isdecimal():
        return 0
    value = int(digits)
    for unit_ns in (1_000_000_000, 1_000_000, 1_000, 1):
        if _EARLIEST_S <= value * unit_ns * 1e-9 <= _LATEST_S:
            return value * unit_ns
    return 0
