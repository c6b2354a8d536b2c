# SPDX-License-Identifier: Apache-2.0
"""Inputs of `peft-dml run`: a stream of measurements, or the keyframes of a nuScenes folder, behind one face."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.measurements import CameraImage, LidarSweep, Measurement, OdometrySample, RadarSweep
from peft_dml_ros.core.rig import Rig, Sensor
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_tools.datasets.bag_options import BagOptions
from peft_dml_tools.datasets.bag_recording import compressed
from peft_dml_tools.datasets.bags import NO_STAMP, NOT_FINITE, BagSource
from peft_dml_tools.datasets.file_source import FileSource
from peft_dml_tools.datasets.source import LocatedSource, NuScenesSource, open_source
from peft_dml_tools.evaluation.recording import RecordedFrame
from peft_dml_tools.run.offline import OfflineDetector
from peft_dml_tools.run.reading_check import ReadingCheck, check_reading
from peft_dml_tools.sim.faults import Fault, weather_fault
from peft_dml_tools.sim.faulty_source import FaultySource
from peft_dml_tools.sim.weather import Weather, apply_to_snapshot

if TYPE_CHECKING:
    from peft_dml_tools.datasets.nuscenes import NuScenesReader
    from peft_dml_tools.datasets.nuscenes_tables import Record
    from peft_dml_tools.measurement_source import Source


AHEAD_NS: Final = 50_000_000  #: As `sync.max_future_s`: what the node refuses as from the future


class RunSource(Protocol):
    """What `run` reads; a data set, in which a file that cannot be read is an error, unless a method says otherwise."""

    words: str  #: One line on what it is
    left_out: dict[str, str]  #: Why sensors of the source are not in the rig
    assumed: frozenset[str] = frozenset()  #: Sensors in the rig whose mounting nobody gave
    rig: Rig  #: Sensors with their mounting
    truth: dict[int, Boxes3D]  #: True boxes by stamp

    @property
    def drops(self) -> Counter[str]:
        """What could not be read so far, by reason, in the words of the node."""
        return Counter()

    def refusals(self) -> list[str]:
        """Return why messages could not be read, with their numbers, the most frequent first."""
        return []

    def clocks(self) -> list[str]:
        """Return which sensors' clocks are ahead, in words."""
        return []

    def unread(self) -> dict[str, str]:
        """Return the types of what is read for no sensor, by topic."""
        return {}

    def where(self, sensor: Sensor) -> str:
        """Return the topic or folder that a sensor is read from."""

    def frames(self, offline: OfflineDetector, kept: MeasurementHistory, seconds: float) -> Iterator[RecordedFrame]:
        """Yield frames; put the measurements that pictures need into `kept`."""

    def check(self) -> ReadingCheck | None:
        """Compare points with annotations, where the source counts them."""


class MeasurementHistory:
    """Measurements that pictures and the report need: those of the first `limit_s` seconds."""

    def __init__(self, limit_s: float) -> None:
        self._limit_ns = int(limit_s * 1e9)
        self._first_ns: int | None = None
        self.measurements: dict[str, list[Measurement]] = {}

    def add(self, name: str, measurement: Measurement) -> None:
        """Keep a measurement when it is early enough, raw images as JPEG; poses, which the truth needs, to the end."""
        if self._first_ns is None:
            self._first_ns = measurement.stamp_ns
        if isinstance(measurement, OdometrySample) or measurement.stamp_ns - self._first_ns <= self._limit_ns:
            self.measurements.setdefault(name, []).append(compressed(measurement))

    def covers(self, stamp_ns: int) -> bool:
        """Return True when the measurements around a time are kept."""
        return self._first_ns is not None and stamp_ns - self._first_ns <= self._limit_ns


class StreamSource:
    """Any source of measurements in stamp order: a bag, a drive, a nuScenes scene with its sweeps."""

    def __init__(
        self,
        source: Source,
        reader: NuScenesReader | None = None,
        tokens: Sequence[str] = (),
        faults: Sequence[Fault] = (),
    ) -> None:
        self._source, self._reader, self._tokens = source, reader, tokens
        self._faulty = FaultySource(source, faults) if faults else None
        self.rig, self.truth = source.rig, source.truth
        self.left_out = source.left_out if isinstance(source, LocatedSource) else {}
        self.assumed = source.assumed if isinstance(source, FileSource) else frozenset[str]()
        self.words = f"{source.name}, every measurement in stamp order" + _fault_words(faults)

    @property
    def drops(self) -> Counter[str]:
        """Messages and points of a bag that were left out."""
        found: Counter[str] = Counter()
        if isinstance(self._source, BagSource):
            for (sensor, reason), count in self._source.dropped.items():
                found[f"{sensor}: {reason if reason in {NOT_FINITE, NO_STAMP} else 'malformed'}"] += count
        return found

    def refusals(self) -> list[str]:
        """Return why messages of a bag could not be read, with their numbers, the most frequent first."""
        if not isinstance(bag := self._source, BagSource):
            return []
        by_count = sorted(bag.dropped.items(), key=lambda item: -item[1])
        return [f"{n} of {name} ({bag.where(name)}): {why}" for (name, why), n in by_count if why != NOT_FINITE][:3]

    def clocks(self) -> list[str]:
        """Return the sensors of a bag whose stamps lie ahead of their recording while most others' do not, in words."""
        lags_ns = self._source.lag_ns if isinstance(self._source, BagSource) else {}
        usual_ns = min(0, sorted(lags_ns.values())[len(lags_ns) // 2]) if lags_ns else 0
        ahead_s = {name: (usual_ns - lag_ns) * 1e-9 for name, lag_ns in lags_ns.items() if usual_ns - lag_ns > AHEAD_NS}
        return [
            f"{name}: its stamps are {s:.2f} s ahead of their recording [SEN003]; fix: synchronise its clock, or "
            f"sync.offsets: [{name}={-s:.2f}]"
            for name, s in ahead_s.items()
        ]

    def unread(self) -> dict[str, str]:
        """Return the types of the topics of a bag that are read for no sensor, by topic."""
        return self._source.unread if isinstance(self._source, BagSource) else {}

    def where(self, sensor: Sensor) -> str:
        """Return the topic of a bag, or the folder of a data set."""
        if self._reader is not None:
            return _folder_of(sensor)
        return self._source.where(sensor.name) if isinstance(self._source, LocatedSource) else ""

    def frames(self, offline: OfflineDetector, kept: MeasurementHistory, seconds: float) -> Iterator[RecordedFrame]:
        """Yield frames as the live node makes them."""
        return offline.arriving(self._arrivals(kept, seconds))

    def _arrivals(self, kept: MeasurementHistory, seconds: float) -> Iterator[tuple[int, str, Measurement]]:
        sound = ((m.stamp_ns, name, m) for name, m in self._source.measurements())
        first_ns: int | None = None
        for time_ns, name, measurement in self._faulty.arrivals() if self._faulty else sound:
            first_ns = time_ns if first_ns is None else first_ns
            if seconds and time_ns - first_ns > seconds * 1e9:
                return
            kept.add(name, measurement)
            yield time_ns, name, measurement

    def check(self) -> ReadingCheck | None:
        """Compare points with annotations, for a nuScenes folder whose points are as they were annotated."""
        return None if self._reader is None or self._faulty else check_reading(self._reader, self._tokens)


class KeyframeSource(RunSource):
    """Keyframes of a nuScenes folder, each as the data set groups it; sensors may be some ms younger than the LiDAR."""

    def __init__(self, reader: NuScenesReader, tokens: list[str], weather: Weather, seed: int = 0) -> None:
        self._reader, self._tokens, self._weather, self._seed = reader, tokens, weather, seed
        self.rig, self.left_out = reader.rig(tokens[0]), dict[str, str]()
        self.truth = {reader.stamp_ns(token): reader.truth(token) for token in tokens}
        self.words = f"{reader.root.name}: {len(tokens)} keyframe{'s' if len(tokens) > 1 else ''} of nuScenes"
        self.words += _fault_words(weather_fault(str(weather)))

    def where(self, sensor: Sensor) -> str:
        """Return the folder of a sensor."""
        return _folder_of(sensor)

    def frames(self, offline: OfflineDetector, kept: MeasurementHistory, seconds: float) -> Iterator[RecordedFrame]:
        """Yield one frame per keyframe."""
        first_ns = self._reader.stamp_ns(self._tokens[0])
        chosen = [t for t in self._tokens if not seconds or self._reader.stamp_ns(t) - first_ns <= seconds * 1e9]
        for token, frame in zip(chosen, offline.keyframes(self._reader, chosen, self._change), strict=True):
            records = self._reader.keyframes(token)
            shown = self._change(_snapshot_of(self._reader, records))
            newest: dict[str, Measurement] = {n: sweeps[0] for n, sweeps in shown.lidar.items()}
            newest |= {n: sweeps[0] for n, sweeps in shown.radars.items()} | dict(shown.cameras)
            for name, measurement in newest.items():
                kept.add(name, measurement)
            for sample in self._reader.odometry(records.values()):
                kept.add("ODOM", sample)
            yield frame

    def _change(self, snapshot: Snapshot) -> Snapshot:
        return apply_to_snapshot(snapshot, self.rig, self._weather, self._seed)

    def check(self) -> ReadingCheck | None:
        """Count LiDAR points in every annotated box and compare with `num_lidar_pts`, in clear air."""
        return check_reading(self._reader, self._tokens) if self._weather.is_clear else None


def _folder_of(sensor: Sensor) -> str:
    """Return the folder or table of a nuScenes folder that holds a sensor."""
    folders = {"imu": "can_bus", "gnss": "can_bus", "None": "ego_pose"}
    return folders.get(str(sensor.modality), f"samples/{sensor.name}")


def _snapshot_of(reader: NuScenesReader, records: Mapping[str, Record]) -> Snapshot:
    """Return the measurements of a keyframe themselves, without sweeps and motion."""
    loaded = {name: reader.load(record) for name, record in records.items()}
    return Snapshot(
        0,
        "",
        lidar={name: (m,) for name, m in loaded.items() if isinstance(m, LidarSweep)},
        radars={name: (m,) for name, m in loaded.items() if isinstance(m, RadarSweep)},
        cameras={name: m for name, m in loaded.items() if isinstance(m, CameraImage)},
    )


def _fault_words(faults: Sequence[Fault]) -> str:
    return f"; {', '.join(map(str, faults))}" if faults else ""


def open_run_source(
    path: Path,
    scene: str | None,
    *,
    weather: str = "clear",
    faults: Sequence[Fault] = (),
    seed: int = 0,
    options: BagOptions | None = None,
) -> RunSource:
    """Open whatever `open_source` opens.

    A nuScenes scene of a single keyframe is no stream: there the keyframe itself is the frame. Raises DataError: the
    path is neither, or something in it is missing; ConfigError: no such scene or weather, or the script does not fit
    the source.

    Args:
        path: Bag or folder.
        scene: Of a folder; None takes the first.
        weather: Over the whole source, `rain=25` for example.
        faults: A fault script.
        seed: Of the weather.
        options: Topics, base frame and calibration, as the node takes them.
    """
    source = open_source(path, scene=scene, allow_missing=True, options=options)
    if scene and not isinstance(source, NuScenesSource):
        raise ConfigError(f"--scene {scene}: {path} is no nuScenes folder and has no scenes; fix: leave --scene out")
    script = (*faults, *weather_fault(weather, seed))
    if not isinstance(source, NuScenesSource):
        return StreamSource(source, faults=script)
    if len(source.tokens) > 1:
        return StreamSource(source, source.reader, source.tokens, script)
    if faults:
        msg = f"{path} holds one keyframe, which no fault in time can hit; fix: use --weather, or a scene with sweeps"
        raise ConfigError(msg)
    return KeyframeSource(source.reader, source.tokens, Weather.parse(weather), seed)
