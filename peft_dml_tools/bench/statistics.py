# SPDX-License-Identifier: Apache-2.0
"""What a nuScenes folder, real or simulated, measures: its objects, LiDAR sweeps and front radar."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import LidarSweep, RadarSweep
from peft_dml_ros.core.typing import FloatArray, IntArray
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.nuscenes_tables import Record
from peft_dml_tools.datasets.nuscenes_truth import detection_class

LIDAR: Final = "LIDAR_TOP"
RADAR: Final = "RADAR_FRONT"
RANGE_BINS_M: Final = ((0, 10), (10, 20), (20, 30), (30, 50))
QUANTILES: Final = (5, 50, 95)
EGO_RANGE_M: Final = 2.5  #: Returns nearer than this are the vehicle itself, or none at all


@dataclass(frozen=True, slots=True)
class Objects:
    """Annotated objects of all keyframes."""

    labels: IntArray  #: (N,) int64 indices into `CLASSES`, -1 for the categories that are not evaluated
    sizes_m: FloatArray  #: (N, 3) float64 length, width, height
    distances_m: FloatArray  #: (N,) float64 from the vehicle, in the plane
    lidar_points: IntArray  #: (N,) int64 returns of the keyframe's sweep inside the box
    radar_points: IntArray  #: (N,) int64 detections of the five radars inside the box


@dataclass(frozen=True, slots=True)
class Sweeps:
    """Returns of all keyframes' sweeps of one sensor."""

    counts: IntArray  #: (S,) int64 returns of each sweep
    ranges_m: tuple[FloatArray, ...]  #: One (N,) float64 a sweep, in three dimensions
    #: One (N,) float64 a sweep: intensity 0-255 of a LiDAR, cross-section in dBsm of a radar
    levels: tuple[FloatArray, ...]


@dataclass(frozen=True, slots=True)
class FolderStatistics:
    """A folder."""

    frames: int  #: Number of keyframes
    objects: Objects  #: Everything annotated in them
    lidar: Sweeps  #: `LIDAR_TOP`, all returns
    radar: Sweeps  #: `RADAR_FRONT`, the points that the devkit keeps by default


def measure_folder(reader: NuScenesReader) -> FolderStatistics:
    """Look through all keyframes of a folder. Raises DataError: it has no keyframe, or a file is missing or damaged."""
    tokens = reader.samples()
    if not tokens:
        raise DataError(f"{reader.root} has no keyframe to measure; fix: name a folder with some")
    loaded: dict[str, list[object]] = {LIDAR: [], RADAR: []}
    for token in tokens:
        records = reader.keyframes(token)
        for name, kept in loaded.items():
            if name in records:
                kept.append(reader.load(records[name]))
    return FolderStatistics(len(tokens), _objects(reader, tokens), _lidar(loaded[LIDAR]), _radar(loaded[RADAR]))


def quantiles(sweeps: Iterable[FloatArray]) -> FloatArray:
    """Return (S, 3) float64 quantiles 5, 50 and 95 % of each sweep that is not empty."""
    rows = [np.percentile(values, QUANTILES) for values in sweeps if len(values)]
    return np.array(rows, dtype=np.float64).reshape(-1, len(QUANTILES))


def _objects(reader: NuScenesReader, tokens: list[str]) -> Objects:
    rows = []
    for token in tokens:
        base_SE3_global = reader.global_SE3_base(token).inverse()
        rows += [_row(reader, a, base_SE3_global) for a in reader.tables.annotations_of_sample.get(token, [])]
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    counts = table[:, [0, 5, 6]].astype(np.int64)
    return Objects(counts[:, 0], table[:, 1:4], table[:, 4], counts[:, 1], counts[:, 2])


def _row(reader: NuScenesReader, annotation: Record, base_SE3_global: SE3) -> tuple[float, ...]:
    name = detection_class(reader.tables, annotation)
    width, length, height = annotation["size"]
    x, y, _ = base_SE3_global.transform(np.array([annotation["translation"]], dtype=np.float64))[0]
    points = annotation["num_lidar_pts"], annotation["num_radar_pts"]
    return (-1 if name is None else CLASSES.index(name), length, width, height, float(np.hypot(x, y)), *points)


def _lidar(sweeps: list[object]) -> Sweeps:
    points = [s.points.astype(np.float64) for s in sweeps if isinstance(s, LidarSweep)]
    return _sweeps([(np.linalg.norm(p[:, :3], axis=1), p[:, 3]) for p in points])


def _radar(sweeps: list[object]) -> Sweeps:
    points = [s.points for s in sweeps if isinstance(s, RadarSweep)]
    ranges = [np.sqrt(sum(p[k].astype(np.float64) ** 2 for k in ("x", "y", "z"))) for p in points]
    return _sweeps([(r, p["rcs"].astype(np.float64)) for r, p in zip(ranges, points, strict=True)])


def _sweeps(pairs: list[tuple[FloatArray, FloatArray]]) -> Sweeps:
    counts = np.array([len(ranges) for ranges, _ in pairs], dtype=np.int64)
    return Sweeps(counts, tuple(r for r, _ in pairs), tuple(level for _, level in pairs))
