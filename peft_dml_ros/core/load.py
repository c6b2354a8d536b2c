# SPDX-License-Identifier: Apache-2.0
"""How much work goes into a frame, and the controller that gives some of it up when the machine is too slow.

The controller watches windows of a second. A window is too slow when frames were superseded or their median latency is
above the limit; then it takes the next step of the ladder. After some calm windows it tries to take a step back, and
waits twice as long before the next try when that was too early. Latency is what goes beyond the shortest way from a
stamp to the node that was seen: a driver that stamps early makes no machine slow.
"""

import os
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.params import LoadParams, PaceParams
from peft_dml_ros.core.spec import ModelSpec

WINDOW_S: Final = 1.0
SUPERSEDED_SHARE: Final = 0.1
"""Share of superseded frames in a window beyond which it is too slow."""
CALM_SHARE: Final = 0.7
"""A window is calm below this share of the limit of latency, and of the time between frames."""
LIVE_MS: Final = 1000.0
"""Measurements that arrive later than this are no live ones, but those of a recording, for example."""
PATIENCE_S: Final = 4.0
LONGEST_PATIENCE_S: Final = 64.0


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spare_cores() -> int:
    """Return how many of the usable cores other work leaves free, by the load of the last minute.

    At least half of them, and two where there are two: a process that has one thread to run gets no more than one core,
    and the load of the last minute may be gone.
    """
    cores = usable_cores()
    busy = os.getloadavg()[0] * cores / (os.cpu_count() or cores)
    return max(min(cores, 2), min(cores, round(cores - busy)), cores // 2)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much work goes into a frame.

    Attributes:
        camera_hz: Most runs of the camera encoder a second; 0 runs it for every frame.
        radar_hz: Most runs of the radar encoder a second; 0 runs it for every frame.
        sweeps: Most sweeps of each LiDAR; 0 takes as many as the model accumulates.
        given_up: What was given up because the machine is too slow, each with what it costs.
    """

    camera_hz: float = 0.0
    radar_hz: float = 0.0
    sweeps: int = 0
    given_up: tuple[str, ...] = ()

    @property
    def loaded(self) -> bool:
        """True when something was given up."""
        return bool(self.given_up)

    def period_ns(self, modality: Modality) -> int:
        """Return the least time between two runs of an encoder; 0 for every frame."""
        pace_hz = {"camera": self.camera_hz, "radar": self.radar_hz}.get(modality, 0.0)
        return round(1e9 / pace_hz) if pace_hz else 0


def ladder(pace: PaceParams, keep: tuple[str, ...], spec: ModelSpec) -> tuple[Effort, ...]:
    """Return what is given up step by step: pace of cameras, pace of radars, sweeps; the first step gives up nothing.

    Args:
        pace: Paces without load.
        keep: What is never given up, of `cameras`, `radars` and `sweeps`.
        spec: Model facts.
    """
    most = spec.lidar.sweeps
    changes: list[tuple[str, str, float, str]] = [
        *(("cameras", "camera_hz", hz, f"cameras at {hz:g} Hz, up to {1 / hz:.1f} s old") for hz in (5.0, 2.5)),
        *(("radars", "radar_hz", hz, f"radars at {hz:g} Hz, up to {1 / hz:.1f} s old") for hz in (5.0, 2.5)),
        *(("sweeps", "sweeps", n, f"{n} of {most} LiDAR sweeps, fewer points") for n in ((most + 1) // 2, 1)),
    ]
    steps, given_up = [Effort(camera_hz=pace.camera_hz, radar_hz=pace.radar_hz)], dict[str, str]()
    for what, name, value, words in changes:
        before = getattr(steps[-1], name) or (most if what == "sweeps" else float("inf"))
        if what not in keep and value < before:
            given_up |= {what: words}
            changed: dict[str, Any] = {name: value, "given_up": tuple(given_up.values())}
            steps.append(replace(steps[-1], **changed))
    return tuple(steps)


class LoadController:
    """Chooses the effort; called by one thread with every frame.

    Args:
        params: Limit of latency, and what is kept.
        pace: Paces without load.
        spec: Model facts.
    """

    def __init__(self, params: LoadParams, pace: PaceParams, spec: ModelSpec) -> None:
        self._limit_ms = params.max_latency_ms
        self._steps = ladder(pace, params.keep, spec)
        self._step = 0
        self._window_from_s: float | None = None
        self._latencies_ms: list[float] = []
        self._busy_s, self._superseded = 0.0, 0
        self._floor_ms = float("inf")
        self._calm_s, self._patience_s, self._eased_s = 0.0, PATIENCE_S, -LONGEST_PATIENCE_S
        self.too_slow = False

    @property
    def effort(self) -> Effort:
        """Effort of the next frame."""
        return self._steps[self._step]

    def words(self) -> str:
        """Return a sentence about what is given up now."""
        if not self._step:
            return "load: the machine keeps up again, nothing is given up any more"
        last = ""
        if self._step == len(self._steps) - 1:
            last = "; nothing is left to give up, fix: fewer sensors, an int8 bundle, or less other work"
        return f"LOADED: the machine is too slow for everything, given up: {', '.join(self.effort.given_up)}{last}"

    def observe(self, now_s: float, arrival_ms: float, latency_ms: float, busy_ms: float, superseded: int) -> bool:
        """Note one frame; return True when the effort has changed.

        Args:
            now_s: Steady time.
            arrival_ms: From the frame's stamp until the node knew of it.
            latency_ms: From the frame's stamp to its publication.
            busy_ms: Time that the detector worked on it.
            superseded: Frames since the last call that a newer one replaced.
        """
        if self._window_from_s is None:
            self._window_from_s = now_s
        self._floor_ms = min(self._floor_ms, arrival_ms)
        late_ms = arrival_ms - self._floor_ms if arrival_ms < LIVE_MS else 0.0
        self._latencies_ms.append(latency_ms - arrival_ms + late_ms)
        self._busy_s, self._superseded = self._busy_s + busy_ms * 1e-3, self._superseded + superseded
        span_s = now_s - self._window_from_s
        if span_s < WINDOW_S:
            return False
        before = self._step
        self._judge(now_s, span_s)
        self._window_from_s, self._latencies_ms, self._busy_s, self._superseded = now_s, [], 0.0, 0
        # A stamp that was set back, or a clock that was, must not make every later frame late.
        self._floor_ms += 1.0
        return self._step != before

    def _judge(self, now_s: float, span_s: float) -> None:
        frames, latency_ms = len(self._latencies_ms), median(self._latencies_ms)
        missed = self._superseded > max(1.0, SUPERSEDED_SHARE * (frames + self._superseded))
        self.too_slow = missed or latency_ms > self._limit_ms
        calm = latency_ms < CALM_SHARE * self._limit_ms and not self._superseded
        if self.too_slow:
            if now_s - self._eased_s < 2 * self._patience_s:
                self._patience_s = min(2 * self._patience_s, LONGEST_PATIENCE_S)
            self._calm_s = 0.0
            self._step = min(self._step + 1, len(self._steps) - 1)
        elif calm and self._busy_s < CALM_SHARE * span_s:
            self._calm_s += span_s
            if self._calm_s >= self._patience_s and self._step:
                self._step, self._calm_s, self._eased_s = self._step - 1, 0.0, now_s
            elif not self._step and self._calm_s >= LONGEST_PATIENCE_S:
                self._patience_s = PATIENCE_S
        else:
            self._calm_s = 0.0
