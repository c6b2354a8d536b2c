# SPDX-License-Identifier: Apache-2.0
"""The synchroniser: many sensors in at their own pace, one snapshot per frame out of those that live.

The LiDAR sets the time of a frame. When it has been silent for `deadline_s`, any camera does, and without cameras any
radar: the rule follows the stamps alone, so that a bag at full speed and a live vehicle give the same frames. Only when
nothing at all arrives does a clock (`tick`) make an empty frame, because silence must mean failure.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
from typing import TypeVar

from peft_dml_ros.core.classes import MODALITIES, Modality
from peft_dml_ros.core.health import SensorHealth, SensorState
from peft_dml_ros.core.measurements import (
    CameraImage,
    GnssFix,
    ImuSample,
    LidarSweep,
    Measurement,
    OdometrySample,
    RadarSweep,
)
from peft_dml_ros.core.params import PerceptionParams, numbers_by_sensor
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_ros.core.snapshot import Snapshot

NO_REFERENCE = "clock"  #: Reference of a frame that no sensor triggered

#: A frame may follow the last after this share of the period: a 20 Hz LiDAR gives 10 Hz, a late frame is made up
EARLY = 0.6

_STEPS = 3  #: Measurements in a row far in the past, of any sensors, that make a glitch a clock that was set back
Kind = TypeVar("Kind", LidarSweep, RadarSweep, CameraImage, ImuSample, GnssFix, OdometrySample)


class Synchroniser:
    """Collects measurements of `sensors` and decides when a frame is due. Safe to call from several threads."""

    def __init__(self, params: PerceptionParams, sensors: Sequence[str] | None = None) -> None:
        self._params = params
        names = params.sensors if sensors is None else sensors
        self._sensors = {n: SensorHealth(n, modality_of_channel(n), params.health, params.sync) for n in names}
        self._offsets_ns = {n: round(s * 1e9) for n, s in numbers_by_sensor(params.sync.offsets).items()}
        self._lock = Lock()
        self.drops: Counter[str] = Counter()
        self._clear()

    def _clear(self) -> None:
        self._first_ns: int | None = None
        self._last_lidar_ns: int | None = None
        self._last_frame_ns: int | None = None
        self._last_emit_ns: int | None = None
        self._agreed_ns: int | None = None
        self._last_reference = ""
        self._due_ns = 0
        self._steps: Counter[str] = Counter()

    def buffered(self, name: str) -> list[Measurement]:
        """Return the usable measurements of a sensor that are kept, oldest first."""
        with self._lock:
            return list(self._sensors[name].buffer)

    def add(self, name: str, measurement: Measurement, now_ns: int, *, invalid_share: float = 0.0) -> Snapshot | None:
        """Take in one measurement; return a snapshot when it makes a frame due.

        Args:
            name: Sensor.
            measurement: What it measured.
            now_ns: Time by the node's clock; offline the measurement's own stamp.
            invalid_share: Share of its points that were not finite and are left out already.
        """
        if name in self._offsets_ns:
            measurement = replace(measurement, stamp_ns=measurement.stamp_ns + self._offsets_ns[name])
        with self._lock:
            sensor = self._sensors.get(name)
            if sensor is None:
                self.drops[f"{name}: not configured"] += 1
                return None
            if self._clock_stepped_back(sensor, measurement.stamp_ns):
                self._reset("clock stepped back")
            holds = self._clock_holds(measurement.stamp_ns, now_ns)
            reason = sensor.admit(measurement, now_ns, clock_holds=holds, invalid_share=invalid_share)
            if reason is not None:
                self.drops[f"{name}: {reason}"] += 1
                return None
            if self._first_ns is None:
                self._first_ns = measurement.stamp_ns
            return (
                self._frame(name, measurement.stamp_ns, now_ns)
                if self._triggers(sensor, measurement.stamp_ns)
                else None
            )

    def tick(self, now_ns: int) -> Snapshot | None:
        """Make a frame by the clock when no sensor has made one for too long; to be called at least once a period."""
        with self._lock:
            sync = self._params.sync
            if self._last_emit_ns is None:
                self._last_emit_ns = now_ns
            # The first frame by the clock waits for the deadline twice over; once on the clock, it keeps the period.
            patience_s = sync.period_s if self._last_reference == NO_REFERENCE else sync.period_s + 2 * sync.deadline_s
            due = (now_ns - self._last_emit_ns) * 1e-9 >= patience_s
            return self._frame(NO_REFERENCE, now_ns, now_ns) if due else None

    def reset(self) -> None:
        """Forget all measurements, as after a jump of the clock."""
        with self._lock:
            self._reset("reset")

    def states(self, now_ns: int) -> dict[str, SensorState]:
        """Return the health of every sensor at a time by the node's clock."""
        with self._lock:
            return {name: sensor.state(now_ns) for name, sensor in self._sensors.items()}

    def _reset(self, reason: str) -> None:
        self.drops[reason] += 1
        for sensor in self._sensors.values():
            sensor.reset()
        self._clear()

    def _clock_holds(self, stamp_ns: int, now_ns: int) -> bool:
        """Return whether some sensor has lately been stamped by this clock: a bag played without its clock never is."""
        limit_ns = int(self._params.sync.max_past_s * 1e9)
        if abs(now_ns - stamp_ns) <= limit_ns:
            self._agreed_ns = now_ns
        return self._agreed_ns is not None and abs(now_ns - self._agreed_ns) <= limit_ns

    def _clock_stepped_back(self, sensor: SensorHealth, stamp_ns: int) -> bool:
        """Return whether most sensors are far behind themselves by now; where few are, their clocks are wrong."""
        last_ns = sensor.last_stamp_ns
        if last_ns is None or last_ns - stamp_ns <= self._params.sync.max_past_s * 1e9:
            # One sensor that goes on as before proves that time does.
            self._steps.clear()
            return False
        self._steps[sensor.name] += 1
        living = sum(s.last_stamp_ns is not None for s in self._sensors.values())
        return self._steps.total() >= _STEPS and 2 * len(self._steps) > living

    def _triggers(self, sensor: SensorHealth, stamp_ns: int) -> bool:
        sync = self._params.sync
        if sensor.modality == "lidar":
            self._last_lidar_ns = stamp_ns
        # By float subtraction a 60 ms gap would not always be 60 ms: compare nanoseconds.
        if self._last_frame_ns is not None and stamp_ns - self._last_frame_ns < int(EARLY * sync.period_s * 1e9):
            return False
        if sensor.modality == "lidar":
            return True
        if sensor.modality not in {"camera", "radar"} or stamp_ns < self._due_ns:
            return False
        lidar_ns = max(self._last_lidar_ns or 0, self._first_ns or stamp_ns)
        if (stamp_ns - lidar_ns) * 1e-9 <= sync.deadline_s:
            return False
        return sensor.modality == "camera" or not self._alive("camera", stamp_ns)

    def _alive(self, modality: Modality, stamp_ns: int) -> bool:
        return any(s.modality == modality and s.gate(stamp_ns) is None for s in self._sensors.values())

    def _frame(self, reference: str, stamp_ns: int, now_ns: int) -> Snapshot:
        self._last_emit_ns, self._last_reference = now_ns, reference
        if reference == NO_REFERENCE:
            # Stamped by the clock, it is ahead of every measurement still on its way, and must not shut them out.
            return self._snapshot(reference, stamp_ns)
        period_ns = int(self._params.sync.period_s * 1e9)
        # Frames keep to a grid of periods, so that cameras out of step with it still give one frame a period.
        by_lidar = reference in self._sensors and self._sensors[reference].modality == "lidar"
        self._due_ns = stamp_ns + period_ns if by_lidar else max(self._due_ns, stamp_ns - period_ns) + period_ns
        self._last_frame_ns = stamp_ns
        return self._snapshot(reference, stamp_ns)

    def _snapshot(self, reference: str, stamp_ns: int) -> Snapshot:
        gated: dict[str, str] = {}
        usable: dict[str, list[Measurement]] = {}
        ages: dict[Modality, list[float]] = {m: [] for m in MODALITIES}
        for name, sensor in self._sensors.items():
            reason = sensor.gate(stamp_ns)
            if reason is not None:
                gated[name] = reason
                sensor.count_gated(reason)
                continue
            usable[name] = sensor.upto(stamp_ns)
            if sensor.modality is not None:
                ages[sensor.modality].append((stamp_ns - usable[name][-1].stamp_ns) * 1e-9)
        return Snapshot(
            stamp_ns=stamp_ns,
            reference=reference,
            lidar={n: tuple(reversed(s)) for n, s in _of(LidarSweep, usable).items()},
            radars={n: tuple(reversed(s)) for n, s in _of(RadarSweep, usable).items()},
            cameras={n: s[-1] for n, s in _of(CameraImage, usable).items()},
            imu=_merged(_of(ImuSample, usable)),
            gnss=_merged(_of(GnssFix, usable)),
            odometry=_merged(_of(OdometrySample, usable)),
            age_s={m: sum(a) / len(a) for m, a in ages.items() if a},
            gated=gated,
        )


def _of(kind: type[Kind], usable: dict[str, list[Measurement]]) -> dict[str, list[Kind]]:
    """Return the sensors whose measurements are of one kind."""
    picked = {name: [m for m in found if isinstance(m, kind)] for name, found in usable.items()}
    return {name: found for name, found in picked.items() if found}


def _merged(found: dict[str, list[Kind]]) -> tuple[Kind, ...]:
    """Return measurements of several sensors of one kind as one stream, oldest first."""
    return tuple(sorted((m for stream in found.values() for m in stream), key=lambda m: m.stamp_ns))
