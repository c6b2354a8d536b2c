# SPDX-License-Identifier: Apache-2.0
"""One face for everything that yields measurements: nuScenes scenes, ROS 2 bags, simulated drives."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import Measurement
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_tools.datasets.argoverse import is_argoverse, open_argoverse
from peft_dml_tools.datasets.bag_options import BagOptions
from peft_dml_tools.datasets.bag_recording import compressed
from peft_dml_tools.datasets.bag_storage import BAG_SUFFIXES
from peft_dml_tools.datasets.bag_topics import rig_order
from peft_dml_tools.datasets.bags import BagSource
from peft_dml_tools.datasets.file_source import FileSource
from peft_dml_tools.datasets.kitti import is_kitti, open_kitti
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.nuscenes_tables import stamp_ns
from peft_dml_tools.datasets.point_files import SUFFIXES
from peft_dml_tools.datasets.sweep_folder import lidar_folders, open_sweep_folder
from peft_dml_tools.measurement_source import Source, WrappedSource


@runtime_checkable
class LocatedSource(Protocol):
    """A source that tells where each sensor is read from."""

    left_out: dict[str, str]  #: Why sensors are not in the rig though the source holds something of them

    def where(self, sensor: str) -> str:
        """Return the topic, folder or file of a sensor."""


class FirstSeconds(WrappedSource):
    """The first seconds of a source, raw images as JPEG."""

    def __init__(self, source: Source, seconds: float) -> None:
        super().__init__(source)
        self._length_ns = int(seconds * 1e9)

    def measurements(self) -> Iterator[tuple[str, Measurement]]:
        """Yield (sensor name, measurement) in stamp order, until the time is over."""
        first_ns: int | None = None
        for name, measurement in self._source.measurements():
            first_ns = measurement.stamp_ns if first_ns is None else first_ns
            if measurement.stamp_ns - first_ns > self._length_ns:
                return
            yield name, compressed(measurement)


class NuScenesSource:
    """A nuScenes scene as a stream: every sweep, image and motion sample, odometry from the ego poses."""

    def __init__(self, reader: NuScenesReader, scene: str | None = None) -> None:
        """Pick a scene, the first if None. Raises ConfigError: no such scene; DataError: the scene has no keyframe."""
        self.reader = reader
        self.name = scene or next(iter(reader.scenes), "")
        self.tokens = reader.samples(self.name)
        if not self.tokens:
            raise DataError(f"scene '{self.name}' of {reader.root} has no keyframe; fix: another --scene")

    @cached_property
    def rig(self) -> Rig:
        """Sensors of the scene; those that appear in a later keyframe only are there too."""
        sensors = {name: s for token in reversed(self.tokens) for name, s in self.reader.rig(token).sensors.items()}
        return Rig({name: sensors[name] for name in sorted(sensors, key=rig_order)})

    @cached_property
    def truth(self) -> dict[int, Boxes3D]:
        """Boxes of each keyframe by its reference stamp."""
        return {self.reader.stamp_ns(token): self.reader.truth(token) for token in self.tokens}

    @property
    def last_stamp_ns(self) -> int:
        """Stamp of the last sweep, image or keyframe."""
        return max([*self.truth, *(stamp_ns(record) for record in self.reader.stream(self.name))])

    def measurements(self) -> Iterator[tuple[str, Measurement]]:
        """Yield (sensor name, measurement) in stamp order; files are read one by one.

        Raises DataError: files are missing (all are named, before the first is read) or damaged.
        """
        records = [r for r in self.reader.stream(self.name) if self.reader.tables.channel(r) in self.rig.sensors]
        files = ((stamp_ns(r), self.reader.tables.channel(r), r) for r in records)
        motion = (
            ("ODOM", self.reader.odometry(records)),
            ("IMU", self.reader.imu(self.name)),
            ("GNSS", self.reader.gnss(self.name)),
        )
        streams = [_keyed(name, samples) for name, samples in motion]
        # Motion first where stamps are equal: the pose is there when the sweep that needs it arrives.
        for _, _, name, item in heapq.merge(
            *streams, ((stamp, 1, name, record) for stamp, name, record in files), key=lambda entry: entry[:3]
        ):
            yield name, self.reader.load(item) if isinstance(item, dict) else item

    def snapshots(self, spec: ModelSpec) -> Iterator[Snapshot]:
        """Yield the keyframes as `NuScenesReader.snapshot` makes them: with sensors that fired just after the LiDAR.

        For folders that hold keyframes only, where a stream would end before the last radar arrives.
        """
        for token in self.tokens:
            yield self.reader.snapshot(token, spec)


def open_source(
    path: str | Path, *, scene: str | None = None, allow_missing: bool = False, options: BagOptions | None = None
) -> Source:
    """Open a folder in nuScenes format (also T4, TruckScenes), a bag, Argoverse 2, KITTI, or a folder of sweeps.

    Raises DataError: it is none of these; what was looked for is listed. Raises ConfigError: no such scene.

    Args:
        path: The folder, also a version folder itself, or the file.
        scene: Scene of a nuScenes folder; None takes the first.
        allow_missing: Carry on without files that a nuScenes folder lacks.
        options: Topics, base frame and calibration for bags and folders that do not tell them.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; fix: name a bag, or a folder of a data set or of sweeps")
    options = options or BagOptions()
    if path.is_dir() and any(p.is_file() for p in (path / "scene.json", *path.glob("*/scene.json"))):
        return NuScenesSource(NuScenesReader(path, allow_missing=allow_missing, inputs=options.inputs), scene)
    if is_bag(path):
        return BagSource(path, options=options)
    for fits, opened in ((is_argoverse, open_argoverse), (is_kitti, open_kitti), (lidar_folders, open_sweep_folder)):
        if fits(path):
            return opened(path, options)
    there = (
        ", ".join(sorted(p.name for p in path.iterdir())[:12]) if path.is_dir() else f"a {path.suffix or 'plain'} file"
    )
    raise DataError(
        f"{path} is no source; fix: name one with [v1.0-*/]scene.json (nuScenes, T4, TruckScenes), an .mcap, .db3 "
        f"or .bag file, metadata.yaml (rosbag2), calibration/*.feather (Argoverse 2), velodyne/ and calib/ or "
        f"velodyne_points/ (KITTI), and sweeps ({', '.join(SUFFIXES)}); found {there or 'an empty folder'}"
        + _below(path)
    )


def _below(path: Path) -> str:
    """Return the hint at a source one or two folders below, where sets keep their parts; empty without one."""
    below = sorted(p for pattern in ("*", "*/*") for p in path.glob(pattern) if p.is_dir())
    found = next((p for p in below if is_argoverse(p) or is_kitti(p) or (p / "scene.json").is_file()), None)
    return f"; fix: name a part of it, {found} for example" if found else ""


def is_bag(path: Path) -> bool:
    """Return whether it is an .mcap or .db3 file, or a folder that holds such or its metadata."""
    holds = path.is_dir() and any(p.suffix in BAG_SUFFIXES for p in path.iterdir())
    return holds or path.suffix in BAG_SUFFIXES or (path / "metadata.yaml").is_file()


def last_stamp_ns(source: Source) -> int:
    """Return the stamp of a source's last measurement; files are only opened where nothing else tells.

    Raises DataError: it holds none.
    """
    if isinstance(source, NuScenesSource | BagSource | FileSource):
        return source.last_stamp_ns
    stamps = [measurement.stamp_ns for _, measurement in source.measurements()]
    if not stamps:
        raise DataError(f"source '{source.name}' holds no measurement; fix: name another")
    return max(stamps)


def _keyed(name: str, samples: Iterable[Measurement]) -> Iterator[tuple[int, int, str, Measurement]]:
    return ((sample.stamp_ns, 0, name, sample) for sample in samples)


class WatchedScene(WrappedSource):
    """A scene that reports how much of it was read."""

    def __init__(self, source: NuScenesSource, advance: Callable[[float], None]) -> None:
        super().__init__(source)
        self._scene, self._advance = source, advance

    def measurements(self) -> Iterator[tuple[str, Measurement]]:
        """Yield the scene's measurements; progress is measured by stamps."""
        stamps = [self._scene.reader.stamp_ns(token) for token in self._scene.tokens]
        begin, length = stamps[0], max(stamps[-1] - stamps[0], 1)
        for count, (name, measurement) in enumerate(self._source.measurements()):
            if count % 50 == 0:
                self._advance(min(max((measurement.stamp_ns - begin) / length, 0.0), 1.0))
            yield name, measurement
