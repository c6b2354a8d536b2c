# SPDX-License-Identifier: Apache-2.0
"""One sensor's health: which of its measurements are usable, and why the others are not."""

from __future__ import annotations

import zlib
from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum

import numpy as np

from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.measurements import CameraImage, LidarSweep, Measurement, RadarSweep
from peft_dml_ros.core.params import HealthParams, SyncParams

HISTORY = {"lidar": 12, "camera": 3, "radar": 12, "imu": 120, "gnss": 20, "odometry": 120}
"""Measurements kept per sensor: a second of each, and as many sweeps as a network accumulates."""


class State(Enum):
    """State of a sensor; only `OK` is used for detection."""

    OK = "OK"
    STALE = "STALE"
    MISSING = "MISSING"
    FROZEN = "FROZEN"
    DEGRADED = "DEGRADED"
    CLOCK = "CLOCK"


@dataclass(frozen=True, slots=True)
class SensorState:
    """What is known of a sensor at one instant.

    Attributes:
        state: See `State`.
        reason: In words, empty when all is well.
        age_s: Age of its newest usable measurement; infinite when there was none.
        rate_hz: Rate by its stamps.
        received: Measurements received.
        gated: Frames made without it.
        reasons: Frames made without it, and measurements refused, by reason.
    """

    state: State
    reason: str
    age_s: float
    rate_hz: float
    received: int
    gated: int
    reasons: dict[str, int]


class SensorHealth:
    """Buffer and gate of one sensor.

    Args:
        name: Channel name.
        modality: Its modality; `None` for odometry.
        health: Limits.
        sync: Clock limits.
    """

    def __init__(self, name: str, modality: Modality | None, health: HealthParams, sync: SyncParams) -> None:
        self.name, self.modality = name, modality
        self._health, self._sync = health, sync
        kind = modality or "odometry"
        self.max_age_s: float = getattr(health, f"max_age_{kind}_s", health.max_age_imu_s)
        self.buffer: deque[Measurement] = deque(maxlen=HISTORY[kind])
        self.received, self.gated = 0, 0
        self.reasons: Counter[str] = Counter()
        self.reset()

    def reset(self) -> None:
        """Forget all measurements; the counters stay."""
        self.buffer.clear()
        self._last_stamp_ns: int | None = None
        self._period_s = 0.0
        self._repeats, self._fresh = 0, self._health.readmit_after
        self._fingerprint = -1
        self._fault: State | None = None

    @property
    def last_stamp_ns(self) -> int | None:
        """Stamp of the newest measurement received, usable or not."""
        return self._last_stamp_ns

    def admit(self, measurement: Measurement, now_ns: int, *, clock_holds: bool = False) -> str | None:
        """Take in a measurement.

        Args:
            measurement: With its stamp.
            now_ns: Time by the node's clock.
            clock_holds: Whether other sensors' stamps agree with that clock, so that one far behind it is wrong.

        Returns:
            `None` when it is usable, else the reason why not.
        """
        self.received += 1
        reason = self._refusal(measurement, now_ns, clock_holds)
        if reason is None:
            self.buffer.append(measurement)
        else:
            self.reasons[reason] += 1
        return reason

    def _refusal(self, measurement: Measurement, now_ns: int, clock_holds: bool) -> str | None:  # noqa: FBT001
        stamp_ns = measurement.stamp_ns
        if stamp_ns - now_ns > self._sync.max_future_s * 1e9:
            self._fault = State.CLOCK
            return "stamp from the future"
        if clock_holds and now_ns - stamp_ns > self._sync.max_past_s * 1e9:
            self._fault = State.CLOCK
            return "stamp from the past"
        if self._last_stamp_ns is not None:
            if stamp_ns == self._last_stamp_ns:
                return "duplicate stamp"
            if stamp_ns < self._last_stamp_ns:
                return "out of order"
            step_s = (stamp_ns - self._last_stamp_ns) * 1e-9
            self._period_s += (step_s - self._period_s) * (0.2 if self._period_s else 1.0)
        self._last_stamp_ns = stamp_ns
        return self._content_fault(measurement)

    def _content_fault(self, measurement: Measurement) -> str | None:
        fingerprint = _fingerprint(measurement)
        repeated = fingerprint is not None and fingerprint == self._fingerprint
        self._fingerprint = -1 if fingerprint is None else fingerprint
        self._repeats = self._repeats + 1 if repeated else 0
        self._fresh = 0 if repeated else self._fresh + 1
        if self._repeats + 1 >= self._health.frozen_after:
            if self._fault is not State.FROZEN:
                self._forget_repeats()
            self._fault = State.FROZEN
        if self._fault is State.FROZEN and self._fresh < self._health.readmit_after:
            return "frozen"
        if isinstance(measurement, LidarSweep) and len(measurement.points) < self._health.min_lidar_points:
            self._fault = State.DEGRADED
            return "too few points"
        self._fault = None
        return None

    def _forget_repeats(self) -> None:
        """The first copies of a frozen payload came in before it was known to be frozen: take them back."""
        for _ in range(min(self._health.frozen_after - 2, len(self.buffer))):
            self.buffer.pop()

    def upto(self, stamp_ns: int) -> list[Measurement]:
        """Usable measurements not newer than a time, oldest first."""
        return [m for m in self.buffer if m.stamp_ns <= stamp_ns]

    def gate(self, stamp_ns: int) -> str | None:
        """Why the sensor cannot be used for a frame at a time; `None` when it can."""
        usable = self.upto(stamp_ns)
        if usable and (stamp_ns - usable[-1].stamp_ns) * 1e-9 <= self.max_age_s:
            return None
        if self._fault is not None:
            return self._fault.value.lower()
        return "stale" if self.received else "missing"

    def count_gated(self, reason: str) -> None:
        """Count one frame made without this sensor."""
        self.gated += 1
        self.reasons[reason] += 1

    def state(self, now_ns: int) -> SensorState:
        """What is known at a time by the node's clock."""
        newest = self.buffer[-1].stamp_ns if self.buffer else None
        age_s = (now_ns - newest) * 1e-9 if newest is not None else float("inf")
        reason = self.gate(now_ns)
        state = State.OK if reason is None else self._fault or (State.STALE if self.received else State.MISSING)
        rate_hz = 1.0 / self._period_s if self._period_s else 0.0
        counts = dict(self.reasons)
        return SensorState(state, reason or "", age_s, rate_hz, self.received, self.gated, counts)


def _fingerprint(measurement: Measurement) -> int | None:
    """Checksum of a payload that differs between any two honest measurements; `None` where equality proves nothing."""
    if isinstance(measurement, LidarSweep | RadarSweep):
        return zlib.crc32(np.ascontiguousarray(measurement.points).data.cast("B")) if len(measurement.points) else None
    if isinstance(measurement, CameraImage):
        if measurement.jpeg is not None:
            return zlib.crc32(measurement.jpeg)
        return None if measurement.pixels is None else zlib.crc32(np.ascontiguousarray(measurement.pixels).data)
    return None
