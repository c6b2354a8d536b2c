# SPDX-License-Identifier: Apache-2.0
"""One sensor's health as a state machine: which of its measurements are usable, and why the others are not.

    MISSING ──first measurement──▶ OK ◀──▶ LATE ──older than its limit──▶ STALE ──next measurement──▶ OK
                                   │
                     `fault_after` bad measurements ▼          ▲ `readmit_after` good ones
                                   FROZEN · DEGRADED · CLOCK ──────┘

A single bad measurement is left out and counted, and changes no state: the sensor ages until the next good one.
"""

import zlib
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Final, NamedTuple

import numpy as np

from peft_dml_ros.core.camera_view import thumbnail
from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import CameraImage, LidarSweep, Measurement, RadarSweep
from peft_dml_ros.core.params import HealthParams, SyncParams, numbers_by_sensor

#: Measurements kept per sensor: a second of each, and as many sweeps as a network accumulates
HISTORY = {"lidar": 12, "camera": 3, "radar": 12, "imu": 120, "gnss": 20, "odometry": 120}

_OVERDUE_PERIODS = 1.5
#: A camera's limit of age follows its period up to this: the first gap after a pause is no period
_LONGEST_PERIOD_S = 1.0


NEAR_M: Final = 1.0  #: Points nearer than this are firings without return, or the vehicle itself


class State(Enum):
    """State of a sensor; `OK` and `LATE` are used for detection."""

    OK = "OK"
    LATE = "LATE"
    STALE = "STALE"
    MISSING = "MISSING"
    FROZEN = "FROZEN"
    DEGRADED = "DEGRADED"
    CLOCK = "CLOCK"
    UNCALIBRATED = "UNCALIBRATED"


class Refusal(NamedTuple):
    """Why a measurement is left out."""

    reason: str  #: In words, as counted
    #: State that such measurements one after the other lead to; None for what says nothing of the sensor
    fault: State | None = None


@dataclass(frozen=True, slots=True)
class SensorState:
    """What is known of a sensor at one instant."""

    state: State  #: See `State`
    reason: str = ""  #: In a word or two, empty when all is well
    detail: str = ""  #: The same with numbers, for people
    age_s: float = inf  #: Age of its newest usable measurement; infinite when there was none
    rate_hz: float = 0.0  #: Rate by its stamps
    received: int = 0  #: Measurements received, usable or not
    admitted: int = 0  #: Those that were usable; `received` is this and the drops that begin with the sensor's name
    gated: int = 0  #: Frames made without it
    reasons: dict[str, int] = field(default_factory=dict)  #: Frames made without it, measurements refused, by reason

    @property
    def used(self) -> bool:
        """True when frames stand on it."""
        return self.state in {State.OK, State.LATE}

    @property
    def words(self) -> str:
        """State and detail, for people."""
        return f"{self.state.value}: {self.detail}" if self.detail else self.state.value


class SensorHealth:
    """Buffer and gate of one sensor."""

    def __init__(self, name: str, modality: Modality | None, health: HealthParams, sync: SyncParams) -> None:
        self.name, self.modality = name, modality
        self._health, self._sync = health, sync
        kind = modality or "odometry"
        self._own_limit_s = numbers_by_sensor(health.max_ages).get(name)
        self._limit_s: float = getattr(health, f"max_age_{kind}_s", health.max_age_imu_s)
        self.buffer: deque[Measurement] = deque(maxlen=HISTORY[kind])
        self.received, self.admitted, self.gated = 0, 0, 0
        self.reasons: Counter[str] = Counter()
        self.reset()

    def reset(self) -> None:
        """Forget all measurements; the counters stay."""
        self.buffer.clear()
        self._last_stamp_ns: int | None = None
        self._last_arrival_ns: int | None = None
        self._looked_ns: int | None = None
        self._period_s = 0.0
        self._bad, self._good, self._repeats = 0, 0, 0
        self._bad_since_ns, self._refused = 0, ""
        self._fingerprint: int | None = None
        self._fault: State | None = None

    @property
    def last_stamp_ns(self) -> int | None:
        """Stamp of the newest measurement received, usable or not."""
        return self._last_stamp_ns

    @property
    def max_age_s(self) -> float:
        """Oldest measurement that is used; of a camera, beyond its period: it may be slow by choice."""
        if self._own_limit_s is not None:
            return self._own_limit_s
        return self._limit_s + (min(self._period_s, _LONGEST_PERIOD_S) if self.modality == "camera" else 0.0)

    def admit(
        self, measurement: Measurement, now_ns: int, *, clock_holds: bool = False, invalid_share: float = 0.0
    ) -> str | None:
        """Take in a measurement; return None when it is usable, else the reason why not.

        Args:
            measurement: With its stamp.
            now_ns: Time by the node's clock.
            clock_holds: Whether other sensors' stamps agree with that clock, so that one far behind it is wrong.
            invalid_share: Share of its points that were not finite and are left out already.
        """
        self.received += 1
        self._last_arrival_ns = now_ns
        unstamped = Refusal("stamp is 0", State.CLOCK) if measurement.stamp_ns == 0 else None
        refusal = unstamped or self._stamp_refusal(measurement.stamp_ns, now_ns, clock_holds)
        if refusal is None:
            refusal = self._content_refusal(measurement, invalid_share)
        refusal = self._settle(refusal)
        if refusal is None:
            self.admitted += 1
            self.buffer.append(measurement)
            return None
        self.reasons[refusal.reason] += 1
        return refusal.reason

    def _settle(self, refusal: Refusal | None) -> Refusal | None:
        """Let a judgement move the state; a good measurement may still be refused while the sensor is on probation."""
        if refusal is not None and refusal.fault is None:
            return refusal
        if refusal is not None:
            if not self._bad:
                self._bad_since_ns = self._last_arrival_ns or 0
            self._bad, self._good, self._refused = self._bad + 1, 0, refusal.reason
            # A payload is known to be frozen only after some repetitions: these were the bad ones in a row.
            if refusal.fault is State.FROZEN or self._bad >= self._health.fault_after:
                self._fault = refusal.fault
            return refusal
        self._bad, self._good = 0, self._good + 1
        if self._fault is not None and self._good < self._health.readmit_after:
            return Refusal(f"on probation after {self._fault.value}")
        self._fault = None
        return None

    def _stamp_refusal(self, stamp_ns: int, now_ns: int, clock_holds: bool) -> Refusal | None:  # noqa: FBT001
        if stamp_ns - now_ns > self._sync.max_future_s * 1e9:
            return Refusal("stamp from the future", State.CLOCK)
        if clock_holds and now_ns - stamp_ns > self._sync.max_past_s * 1e9:
            return Refusal("stamp from the past", State.CLOCK)
        if self._last_stamp_ns is not None:
            if stamp_ns == self._last_stamp_ns:
                return Refusal("duplicate stamp")
            if self._last_stamp_ns - stamp_ns > self._sync.max_past_s * 1e9:
                return Refusal("stamp stepped back", State.CLOCK)
            if stamp_ns < self._last_stamp_ns:
                return Refusal("out of order")
            step_s = (stamp_ns - self._last_stamp_ns) * 1e-9
            self._period_s += (step_s - self._period_s) * (0.2 if self._period_s else 1.0)
        self._last_stamp_ns = stamp_ns
        return None

    def _content_refusal(self, measurement: Measurement, invalid_share: float) -> Refusal | None:
        mark = fingerprint(measurement)
        self._repeats = self._repeats + 1 if mark is not None and mark == self._fingerprint else 0
        self._fingerprint = mark
        poor = poor_points(measurement, invalid_share, self._health)
        # A camera in the dark may well send the same picture again and again: it is dark, not frozen.
        if poor is None and isinstance(measurement, CameraImage) and self._look_at(measurement.stamp_ns):
            poor = poor_picture(measurement, self._health)
            # Once something is wrong, every picture is looked at, so that the end of it is seen as well.
            self._looked_ns = measurement.stamp_ns if poor is None else None
        if poor is not None:
            return Refusal(poor, State.DEGRADED)
        if self._repeats + 1 >= self._health.frozen_after:
            if self._fault is not State.FROZEN:
                self._forget_repeats()
            return Refusal("frozen", State.FROZEN)
        return Refusal("frozen", State.FROZEN) if self._repeats and self._fault is State.FROZEN else None

    def _look_at(self, stamp_ns: int) -> bool:
        """Return whether a picture is to be checked: decoding each would cost more than all else at the intake."""
        return (
            self._looked_ns is None
            or self._repeats > 0
            or stamp_ns - self._looked_ns >= self._health.image_check_s * 1e9
        )

    def _forget_repeats(self) -> None:
        """Take back the first copies of a frozen payload, which came in before it was known to be frozen."""
        for _ in range(min(self._health.frozen_after - 2, len(self.buffer))):
            self.buffer.pop()

    def upto(self, stamp_ns: int) -> list[Measurement]:
        """Return the usable measurements not newer than a time, oldest first."""
        return [m for m in self.buffer if m.stamp_ns <= stamp_ns]

    def gate(self, stamp_ns: int) -> str | None:
        """Return why the sensor cannot be used for a frame at a time; `None` when it can."""
        if self._fault is not None:
            return self._fault.value.lower()
        usable = self.upto(stamp_ns)
        if usable and (stamp_ns - usable[-1].stamp_ns) * 1e-9 <= self.max_age_s:
            return None
        return "stale" if self.received else "missing"

    def count_gated(self, reason: str) -> None:
        """Count one frame made without this sensor."""
        self.gated += 1
        self.reasons[reason] += 1

    def state(self, now_ns: int) -> SensorState:
        """Return what is known at a time by the node's clock."""
        newest = self.buffer[-1].stamp_ns if self.buffer else None
        age_s = (now_ns - newest) * 1e-9 if newest is not None else float("inf")
        reason = self.gate(now_ns)
        if reason is None:
            detail = self._overdue(now_ns)
            state, reason = (State.LATE, detail) if detail else (State.OK, "")
        else:
            state = self._fault or (State.STALE if self.received else State.MISSING)
            detail = self._detail(state, now_ns, age_s)
        rate_hz = 1.0 / self._period_s if self._period_s else 0.0
        counts = (self.received, self.admitted, self.gated, dict(self.reasons))
        return SensorState(state, reason, detail, age_s, rate_hz, *counts)

    def _detail(self, state: State, now_ns: int, age_s: float) -> str:
        """Return why the sensor is not used, with age and number."""
        if self._fault is not None:
            since_s = max(now_ns - self._bad_since_ns, 0) * 1e-9
            words = "the same payload" if state is State.FROZEN else self._refused
            number = self._bad + (self._health.frozen_after - 1 if state is State.FROZEN else 0)
            return f"{words}, {number} times for {since_s:.1f} s" if self._bad else f"{words} until now"
        if state is State.MISSING:
            return "nothing ever came"
        if age_s == float("inf"):
            return f"{self.received} came, none of them usable; the last: {self._refused}"
        return f"nothing usable for {age_s:.1f} s, limit {self.max_age_s:.2f} s"

    def _overdue(self, now_ns: int) -> str:
        """Return for how long the next measurement has been due; empty while it is not."""
        if self._last_arrival_ns is None or not self._period_s:
            return ""
        silent_s = (now_ns - self._last_arrival_ns) * 1e-9
        limit_s = _OVERDUE_PERIODS * self._period_s + self._health.late_s
        return f"nothing for {silent_s:.2f} s" if silent_s > limit_s else ""


def fingerprint(measurement: Measurement) -> int | None:
    """Return a checksum of the payload, which differs between honest measurements; None where equality is no fault."""
    if isinstance(measurement, LidarSweep | RadarSweep):
        return zlib.crc32(np.ascontiguousarray(measurement.points).data.cast("B")) if len(measurement.points) else None
    if isinstance(measurement, CameraImage):
        if measurement.jpeg is not None:
            return zlib.crc32(measurement.jpeg)
        return None if measurement.pixels is None else zlib.crc32(np.ascontiguousarray(measurement.pixels).data)
    return None


def poor_points(measurement: Measurement, invalid_share: float, limits: HealthParams) -> str | None:
    """Return why the points of a sweep say little; None when they do not, or it is no sweep.

    Args:
        measurement: Any measurement.
        invalid_share: Share of its points that were not finite and are left out already.
        limits: When points are too few or too often invalid.
    """
    if isinstance(measurement, LidarSweep | RadarSweep) and invalid_share > limits.max_invalid_share:
        return "too many points not finite"
    if isinstance(measurement, LidarSweep):
        # A blocked LiDAR may send all of its firings, each of them at no distance.
        xyz = measurement.points[:, :3]
        far = np.count_nonzero(np.einsum("ij,ij->i", xyz, xyz) > NEAR_M**2)
        return "too few points" if far < limits.min_lidar_points else None
    return None


def poor_picture(image: CameraImage, limits: HealthParams) -> str | None:
    """Return why a picture says nothing (damaged, dark, the same everywhere); `None` when it is none of these."""
    try:
        grey = thumbnail(image)
    except DataError:
        return "damaged image"
    if grey is None:
        return None
    if float(grey.mean()) < limits.min_image_brightness:
        return "dark image"
    return "blank image" if float(grey.std()) < limits.min_image_contrast else None
