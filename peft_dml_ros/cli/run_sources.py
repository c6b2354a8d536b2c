# SPDX-License-Identifier: Apache-2.0
"""Inputs of `peft-dml run`: a stream of measurements, or the keyframes of a nuScenes folder, behind one face."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from peft_dml_ros.cli.offline import Offline
from peft_dml_ros.cli.recording import Frame
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.measurements import Measurement
from peft_dml_ros.core.rig import Rig, Sensor
from peft_dml_ros.core.typing import IntArray

if TYPE_CHECKING:
    from peft_dml_ros.datasets.nuscenes import NuScenesReader
    from peft_dml_ros.datasets.source import Source


CHECKED: Final = 20
"""Keyframes whose reading is checked."""


@dataclass(frozen=True, slots=True)
class ReadingCheck:
    """How well points and annotations fit: points counted inside each annotated box, in `base_link`.

    Attributes:
        equal: Boxes that hold exactly as many LiDAR points as annotated.
        total: Boxes compared.
        off_by: Sum of the differences over the others.
    """

    equal: int
    total: int
    off_by: int


class RunSource(Protocol):
    """What `run` reads.

    Attributes:
        words: One line on what it is.
        rig: Sensors with their mounting.
        truth: True boxes by stamp.
    """

    words: str
    rig: Rig
    truth: dict[int, Boxes3D]

    @property
    def drops(self) -> Counter[str]:
        """What could not be read so far, by reason, in the words of the node."""

    def where(self, sensor: Sensor) -> str:
        """Topic or folder that a sensor is read from."""

    def frames(self, offline: Offline, kept: Kept, seconds: float) -> Iterator[Frame]:
        """Frames, while measurements that pictures need are put into `kept`."""

    def check(self) -> ReadingCheck | None:
        """Compare points with annotations, where the source counts them."""


class Kept:
    """Measurements that pictures and the report need: those of the first `limit_s` seconds."""

    def __init__(self, limit_s: float) -> None:
        self._limit_ns = int(limit_s * 1e9)
        self._first_ns: int | None = None
        self.measurements: dict[str, list[Measurement]] = {}

    def add(self, name: str, measurement: Measurement) -> None:
        """Keep a measurement when it is early enough."""
        if self._first_ns is None:
            self._first_ns = measurement.stamp_ns
        if measurement.stamp_ns - self._first_ns <= self._limit_ns:
            self.measurements.setdefault(name, []).append(measurement)

    def covers(self, stamp_ns: int) -> bool:
        """True when the measurements around a time are kept."""
        return self._first_ns is not None and stamp_ns - self._first_ns <= self._limit_ns


class StreamSource:
    """Any source of measurements in stamp order: a bag, a drive, a nuScenes scene with its sweeps."""

    def __init__(self, source: Source, reader: NuScenesReader | None = None, tokens: Sequence[str] = ()) -> None:
        self._source, self._reader, self._tokens = source, reader, tokens
        self.rig, self.truth = source.rig, source.truth
        self.words = f"{source.name}, every measurement in stamp order"

    @property
    def drops(self) -> Counter[str]:
        """Messages and points of a bag that were left out."""
        from peft_dml_ros.datasets.bags import NOT_FINITE, BagSource

        found: Counter[str] = Counter()
        if isinstance(self._source, BagSource):
            for (sensor, reason), count in self._source.dropped.items():
                found[f"{sensor}: {reason if reason == NOT_FINITE else 'malformed'}"] += count
        return found

    def where(self, sensor: Sensor) -> str:
        """Topic, or folder below samples/ and sweeps/."""
        from peft_dml_ros.datasets.topics import bag_topic, topic_of

        return f"samples/{sensor.name}" if self._reader else bag_topic(topic_of(sensor.name))

    def frames(self, offline: Offline, kept: Kept, seconds: float) -> Iterator[Frame]:
        """Frames as the live node makes them."""
        return offline.stream(self._measurements(kept, seconds))

    def _measurements(self, kept: Kept, seconds: float) -> Iterator[tuple[str, Measurement]]:
        first_ns: int | None = None
        for name, measurement in self._source.measurements():
            first_ns = measurement.stamp_ns if first_ns is None else first_ns
            if seconds and measurement.stamp_ns - first_ns > seconds * 1e9:
                return
            kept.add(name, measurement)
            yield name, measurement

    def check(self) -> ReadingCheck | None:
        """Compare points with annotations, for a nuScenes folder."""
        return None if self._reader is None else check_reading(self._reader, self._tokens)


class KeyframeSource:
    """Keyframes of a nuScenes folder, each as the data set groups it; sensors may be some ms younger than the LiDAR."""

    def __init__(self, reader: NuScenesReader, tokens: list[str]) -> None:
        self._reader, self._tokens = reader, tokens
        self.rig = reader.rig(tokens[0])
        self.truth = {reader.stamp_ns(token): reader.truth(token) for token in tokens}
        self.words = f"{reader.root.name}: {len(tokens)} keyframe{'s' if len(tokens) > 1 else ''} of nuScenes"

    @property
    def drops(self) -> Counter[str]:
        """Nothing: a file that cannot be read is an error."""
        return Counter()

    def where(self, sensor: Sensor) -> str:
        """Folder of a sensor."""
        return {"imu": "can_bus", "gnss": "can_bus", "None": "ego_pose"}.get(
            str(sensor.modality), f"samples/{sensor.name}"
        )

    def frames(self, offline: Offline, kept: Kept, seconds: float) -> Iterator[Frame]:
        """One frame per keyframe."""
        first_ns = self._reader.stamp_ns(self._tokens[0])
        chosen = [t for t in self._tokens if not seconds or self._reader.stamp_ns(t) - first_ns <= seconds * 1e9]
        for token, frame in zip(chosen, offline.keyframes(self._reader, chosen), strict=True):
            records = self._reader.keyframes(token)
            for name, record in records.items():
                kept.add(name, self._reader.load(record))
            for sample in self._reader.odometry(records.values()):
                kept.add("ODOM", sample)
            yield frame

    def check(self) -> ReadingCheck | None:
        """Count LiDAR points in every annotated box and compare with `num_lidar_pts`."""
        return check_reading(self._reader, self._tokens)


def check_reading(reader: NuScenesReader, tokens: Sequence[str]) -> ReadingCheck | None:
    """Compare points with annotations in the first keyframes; None when nothing is annotated."""
    equal = total = off_by = 0
    for token in tokens[:CHECKED]:
        counted, annotated = count_points(reader, token)
        difference = np.abs(counted - annotated)
        equal, total = equal + int((difference == 0).sum()), total + len(annotated)
        off_by += int(difference.sum())
    return ReadingCheck(equal, total, off_by) if total else None


def count_points(reader: NuScenesReader, token: str) -> tuple[IntArray, IntArray]:
    """LiDAR points inside each annotated box of a keyframe, counted in `base_link`, and as annotated.

    Returns:
        Two (N,) int64 arrays; empty without LiDAR.
    """
    from peft_dml_ros.core.measurements import LidarSweep

    boxes, records = reader.truth(token, keep_unseen=True), reader.keyframes(token)
    annotated = {a["instance_token"]: a["num_lidar_pts"] for a in reader.tables.annotations_of_sample.get(token, [])}
    lidars = [name for name in records if name.startswith("LIDAR")]
    counts = np.zeros(len(boxes), dtype=np.int64)
    for name in lidars:
        sweep = reader.load(records[name])
        if isinstance(sweep, LidarSweep):
            points = reader.rig(token)[name].base_SE3_sensor.transform(sweep.points[:, :3].astype(np.float64))
            counts += boxes.contain(points).sum(axis=1)
    expected = np.array([annotated[i] for i in boxes.ids], dtype=np.int64)
    return (counts, expected) if lidars else (counts[:0], expected[:0])


def open_run_source(path: Path, scene: str | None) -> RunSource:
    """Open a bag or a nuScenes folder.

    A nuScenes scene of a single keyframe is no stream: there the keyframe itself is the frame.

    Raises:
        DataError: the path is neither, or something in it is missing.
        ConfigError: no such scene.
    """
    from peft_dml_ros.datasets.source import NuScenesSource, open_source

    source = open_source(path, scene=scene, allow_missing=True)
    if not isinstance(source, NuScenesSource):
        return StreamSource(source)
    if len(source.tokens) == 1:
        return KeyframeSource(source.reader, source.tokens)
    return StreamSource(source, source.reader, source.tokens)
