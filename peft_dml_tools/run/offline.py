# SPDX-License-Identifier: Apache-2.0
"""Drives the synchroniser and the detector at full speed, exactly as the perception node does on the vehicle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from peft_dml_ros.core.bundle import Bundle, load_bundle
from peft_dml_ros.core.camera_view import shape_mismatch
from peft_dml_ros.core.detector import Detections, Detector
from peft_dml_ros.core.engine import Engine
from peft_dml_ros.core.errors import ConfigError, DataError, nearest
from peft_dml_ros.core.health import SensorState
from peft_dml_ros.core.load import ladder
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.params import PerceptionParams
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.sensor_checks import SensorChecks
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.sync import Synchroniser
from peft_dml_ros.engines import load_engines
from peft_dml_tools.evaluation.recording import RecordedFrame, SensorReading

if TYPE_CHECKING:
    from peft_dml_ros.core.measurements import Measurement
    from peft_dml_tools.datasets.nuscenes import NuScenesReader

ODOMETRY = "ODOM"
PERIODS = 20  #: Stamps kept of each sensor, for its period
SILENT_NS = 1_000_000_000


def chosen_sensors(rig: Rig, wanted: str) -> tuple[str, ...]:
    """Return sensors of a rig that a comma-separated list of names and modalities picks; odometry always stays.

    Raises ConfigError: something in the list is neither a sensor of the rig nor a modality.
    """
    if not wanted:
        return tuple(rig.sensors)
    asked = [part.strip() for part in wanted.split(",") if part.strip()]
    modalities = {str(sensor.modality) for sensor in rig.sensors.values() if sensor.modality}
    if unknown := [part for part in asked if part not in rig.sensors and part not in modalities]:
        msg = f"--sensors: '{unknown[0]}' is not in this source; {nearest(unknown[0], [*rig.sensors, *modalities])}"
        raise ConfigError(msg)
    return tuple(n for n, s in rig.sensors.items() if n in asked or s.modality in asked or s.modality is None)


Loaded: TypeAlias = "tuple[Bundle, Mapping[str, Engine]]"


def load(params: PerceptionParams) -> Loaded:
    """Return bundle and engines of the parameters. Raises BundleError: it is refused; EngineError: one is not built."""
    bundle = load_bundle(params.bundle, params.trusted_key)
    return bundle, load_engines(bundle, params.engine, params.threads, params.precision)


class OfflineDetector:
    """One detector and what it went through.

    Args:
        params: As for the node; bundle, engine and limits.
        rig: Sensors with their mounting.
        sensors: Names to use; all others are ignored.
        loaded: Result of `load` for these parameters, where several sources share it.

    Attributes:
        checks: What looks wrong with the sensors.
        received: Measurements by sensor.
        unfit: Why the images of a camera were refused.
    """

    def __init__(
        self, params: PerceptionParams, rig: Rig, sensors: tuple[str, ...], loaded: Loaded | None = None
    ) -> None:
        self.bundle, engines = loaded or load(params)
        effort = ladder(params.pace, (), self.bundle.spec)[0]
        self._detector = Detector(self.bundle, rig, engines, params.detection, params.threads, effort)
        self._detector.warm_up()
        self._sync = Synchroniser(params, sensors)
        self._rig, self._sensors = rig, frozenset(sensors)
        self._frame_drops: Counter[str] = Counter()
        self._last_ns: dict[str, list[int]] = {}
        self.checks = SensorChecks(self.bundle.spec, self.bundle.manifest.trained_ranges, params.base_frame)
        self.received: Counter[str] = Counter()
        self.unfit: dict[str, str] = {}

    @property
    def drops(self) -> Counter[str]:
        """Everything dropped so far, by reason."""
        return self._sync.drops + self._frame_drops

    def stream(self, measurements: Iterable[tuple[str, Measurement]]) -> Iterator[RecordedFrame]:
        """Yield frames of measurements in stamp order, as the node would make them live."""
        return self.arriving((measurement.stamp_ns, name, measurement) for name, measurement in measurements)

    def arriving(self, arrivals: Iterable[tuple[int, str, Measurement]]) -> Iterator[RecordedFrame]:
        """Yield frames of measurements that arrive at other times than those of their stamps; in order of arrival."""
        for now_ns, name, measurement in arrivals:
            if name not in self._sensors:
                continue
            self._note(name, measurement)
            if not self._fits(name, measurement):
                continue
            snapshot = self._sync.add(name, measurement, now_ns) or self._sync.tick(now_ns)
            if snapshot is not None:
                yield self._detect(snapshot, self._sync.states(snapshot.stamp_ns))

    def _note(self, name: str, measurement: Measurement) -> None:
        self.received[name] += 1
        self._last_ns[name] = [*self._last_ns.get(name, [])[-PERIODS:], measurement.stamp_ns]
        self.checks.look(name, measurement, self._rig[name])

    def _fits(self, name: str, measurement: Measurement) -> bool:
        """Return False for an image of another shape than its calibration, which the node refuses too; count it."""
        if not isinstance(measurement, CameraImage):
            return True
        try:
            wrong = shape_mismatch(measurement, self._rig[name].camera)
        except DataError:
            return True  # the detector counts it as corrupt
        if wrong:
            self.unfit[name] = wrong
            self._frame_drops[f"{name}: uncalibrated"] += 1
        return not wrong

    def silent(self) -> dict[str, str]:
        """Return the sensors that sent nothing for long before the last measurement of all, in words."""
        end_ns = max((stamps[-1] for stamps in self._last_ns.values()), default=0)
        words = {}
        for name, stamps in self._last_ns.items():
            period_ns = float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.0
            gap_ns = end_ns - stamps[-1]
            if period_ns and gap_ns > max(SILENT_NS, 5 * period_ns):
                words[name] = f"sent nothing in the last {gap_ns * 1e-9:.1f} s"
        return words

    def keyframes(
        self, reader: NuScenesReader, tokens: Iterable[str], change: Callable[[Snapshot], Snapshot] = lambda s: s
    ) -> Iterator[RecordedFrame]:
        """Yield frames of nuScenes keyframes, changed by the weather: what the data set itself groups to one sample."""
        for token in tokens:
            snapshot = change(reader.snapshot(token, self.bundle.spec))
            unwanted = {*snapshot.lidar, *snapshot.radars, *snapshot.cameras} - self._sensors
            unwanted |= {name for name, image in snapshot.cameras.items() if not self._fits(name, image)}
            kept = _without_sensors(snapshot, unwanted, self._sensors)
            newest: dict[str, Measurement] = {n: sweeps[0] for n, sweeps in kept.lidar.items()}
            newest |= {n: sweeps[0] for n, sweeps in kept.radars.items()} | dict(kept.cameras)
            for name, measurement in newest.items():
                self.checks.look(name, measurement, self._rig[name])
            yield self._detect(kept, {})

    def _detect(self, snapshot: Snapshot, states: Mapping[str, SensorState]) -> RecordedFrame:
        start = perf_counter()
        found = self._detector(snapshot)
        elapsed_ms = (perf_counter() - start) * 1e3
        self._frame_drops.update(found.drops)
        readings = {n: SensorReading(s.state.value, s.reason, s.received, s.gated) for n, s in states.items()}
        return _frame(found, elapsed_ms, readings or self._keyframe_readings(snapshot))

    def _keyframe_readings(self, snapshot: Snapshot) -> dict[str, SensorReading]:
        here = {*snapshot.lidar, *snapshot.radars, *snapshot.cameras}
        here |= {"IMU"} if snapshot.imu else set()
        here |= {"GNSS"} if snapshot.gnss else set()
        self.received.update(here)
        return {
            name: SensorReading("OK" if name in here else "MISSING", "" if name in here else "missing", n, 0)
            for name in self._rig.sensors
            if name in self._sensors
            for n in (self.received[name],)
        }


def _without_sensors(snapshot: Snapshot, names: set[str], kept: frozenset[str]) -> Snapshot:
    return Snapshot(
        stamp_ns=snapshot.stamp_ns,
        reference=snapshot.reference,
        lidar={n: v for n, v in snapshot.lidar.items() if n not in names},
        radars={n: v for n, v in snapshot.radars.items() if n not in names},
        cameras={n: v for n, v in snapshot.cameras.items() if n not in names},
        imu=snapshot.imu if "IMU" in kept else (),
        gnss=snapshot.gnss if "GNSS" in kept else (),
        odometry=snapshot.odometry,
        age_s=snapshot.age_s,
        gated=snapshot.gated,
    )


def _frame(found: Detections, elapsed_ms: float, readings: dict[str, SensorReading]) -> RecordedFrame:
    return RecordedFrame(
        stamp_ns=found.stamp_ns,
        reference=found.reference,
        boxes=found.boxes,
        mask=found.mask.astype(np.float64),
        gate=found.gate.astype(np.float64),
        latency_ms=elapsed_ms,
        stages_ms=dict(found.stages_ms),
        sensors=readings,
        age_s=found.age_s.astype(np.float64),
    )
