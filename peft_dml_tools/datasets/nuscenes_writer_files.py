# SPDX-License-Identifier: Apache-2.0
"""Sensor files in nuScenes' own layout: LiDAR .pcd.bin, radar .pcd, JPEG and CAN bus messages."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import RADAR_DTYPE, CameraImage, LidarSweep, Measurement, RadarSweep
from peft_dml_ros.core.typing import AnyArray
from peft_dml_tools.atomic_files import write_whole

PCD_PAGE: Final = 4096
_KINDS: Final = {"f": "F", "i": "I", "u": "U"}


def radar_pcd_bytes(points: AnyArray) -> bytes:
    """Return a radar sweep in the official binary .pcd layout: text header, then 43 bytes a point."""
    # Official files are 4096 + 43 N bytes long, and the devkit's reader insists on bytes after the last point.
    return _pcd_bytes(np.ascontiguousarray(points, RADAR_DTYPE)).ljust(PCD_PAGE + 43 * len(points), b"\0")


def lidar_pcd_bytes(sweep: LidarSweep) -> bytes:
    """Return a LiDAR sweep as a binary .pcd file of x, y, z in m (sensor frame) and intensity, for other programs."""
    columns = np.ascontiguousarray(sweep.points[:, :4], "<f4")
    return _pcd_bytes(columns.view([(name, "<f4") for name in ("x", "y", "z", "intensity")])[:, 0])


def _pcd_bytes(points: AnyArray) -> bytes:
    names = points.dtype.names or ()
    types = [points.dtype[name] for name in names]
    header = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        f"FIELDS {' '.join(names)}",
        f"SIZE {' '.join(str(t.itemsize) for t in types)}",
        f"TYPE {' '.join(_KINDS[t.kind] for t in types)}",
        f"COUNT {' '.join('1' for _ in types)}",
        f"WIDTH {len(points)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(points)}",
        "DATA binary",
        "",
    ]
    return "\n".join(header).encode("ascii") + points.tobytes()


def file_of(measurement: Measurement) -> tuple[bytes, str, str]:
    """Return bytes, extension and `fileformat` of a measurement. Raises DataError: nuScenes keeps none of its kind."""
    if isinstance(measurement, LidarSweep):
        return np.ascontiguousarray(measurement.points, "<f4").tobytes(), ".pcd.bin", "pcd"
    if isinstance(measurement, RadarSweep):
        return radar_pcd_bytes(measurement.points), ".pcd", "pcd"
    if isinstance(measurement, CameraImage) and measurement.jpeg is not None:
        kind = "png" if measurement.jpeg.startswith(b"\x89PNG") else "jpg"
        return measurement.jpeg, f".{kind}", kind
    msg = f"nuScenes keeps no file for a {type(measurement).__name__}; fix: write LiDAR, radar or JPEG measurements"
    raise DataError(msg)


def depth_file(filename: str) -> str:
    """Return the depth image that belongs to a picture `samples/CHANNEL/NAME.jpg`: `depth/CHANNEL/NAME.png`."""
    path = Path(filename)
    return f"depth/{path.parent.name}/{path.stem}.png"


def write_table(path: Path, content: Any) -> None:
    """Write JSON in one line, as nuScenes has it, see `write_file`."""
    write_file(path, json.dumps(content, separators=(",", ":")))


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file of a data set, see `write_whole`."""
    hint = "what was written before is whole. fix: make room there, then run the same command again"
    write_whole(path, content, f"{hint}; it completes the data set")
