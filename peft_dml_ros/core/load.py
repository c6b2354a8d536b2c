# SPDX-License-Identifier: Apache-2.0
"""How much work goes into a frame, and the controller that gives some of it up when the machine is too slow.

The controller watches windows of a second. A window is too slow when frames were superseded at several times in it, or
once in each of several windows, or when their median latency is above the limit; then it takes the next step of the
ladder. One hold-up, however long, is none of that: work that is given up would not have prevented it. After some calm
windows it takes a step back if there is time for it, and waits twice as long before the next try of that step when that
was too early. Latency is what goes beyond the shortest way from a stamp to the node that was seen: a driver that stamps
early makes no machine slow.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.params import LoadParams, PaceParams
from peft_dml_ros.core.spec import ModelSpec

WINDOW_S: Final = 1.0
SUPERSEDED_SHARE: Final = 0.1  #: Share of superseded frames in a window beyond which it is too slow
#: So many windows in a row with superseded frames are too slow, even where each has one alone
HELD_UP_WINDOWS: Final = 3
CALM_SHARE: Final = 0.7  #: A window is calm below this share of the limit of latency
FULL_SHARE: Final = 0.9  #: A step is taken back where the detector would then work for less than this share of the time
#: Measurements that arrive later than this are no live ones, but those of a recording, for example
LIVE_MS: Final = 1000.0
PATIENCE_S: Final = 4.0
LONGEST_PATIENCE_S: Final = 64.0  #: Calm time before a step is taken back: at first, and after many tries in vain
#: A step that is taken back must hold for so many times the calm time before it, or the next try waits longer
TRIAL: Final = 4.0
SMOOTHING: Final = 0.2  #: Share of the newest run in the mean time of an encoder


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
    """How much work goes into a frame."""

    camera_hz: float = 0.0  #: Most runs of the camera encoder a second; 0 runs it for every frame
    radar_hz: float = 0.0  #: Most runs of the radar encoder a second; 0 runs it for every frame
    sweeps: int = 0  #: Most sweeps of each LiDAR; 0 takes as many as the model accumulates
    given_up: tuple[str, ...] = ()  #: What was given up because the machine is too slow, each with what it costs

    @property
    def loaded(self) -> bool:
        """True when something was given up."""
        return bool(self.given_up)

    def period_ns(self, modality: Modality) -> int:
        """Return the least time between two runs of an encoder; 0 for every frame."""
        pace_hz = {"camera": self.camera_hz, "radar": self.radar_hz}.get(modality, 0.0)
        return round(1e9 / pace_hz) if pace_hz else 0

    def runs_hz(self, frames_hz: float) -> dict[str, float]:
        """Return how often each encoder that has a pace runs a second, at so many frames a second."""
        paces = {"camera": self.camera_hz, "radar": self.radar_hz}
        return {name: min(pace_hz or frames_hz, frames_hz) for name, pace_hz in paces.items()}


def ladder(pace: PaceParams, keep: tuple[str, ...], spec: ModelSpec) -> tuple[Effort, ...]:
    """Return what is given up step by step: pace of cameras, of radars, sweeps; at first nothing."""
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


@dataclass(frozen=True, slots=True)
class FrameLoad:
    """What one frame says about the load."""

    arrival_ms: float  #: From the frame's stamp until the node knew of it
    latency_ms: float  #: From the frame's stamp to its publication
    busy_ms: float  #: Time that the detector worked on it
    superseded: int  #: Frames since the one before that a newer one replaced
    stages_ms: Mapping[str, float]  #: Time by stage; encoders that did not run have none


class LoadController:
    """Chooses the effort; called by one thread with every frame."""

    def __init__(self, params: LoadParams, pace: PaceParams, spec: ModelSpec) -> None:
        self._limit_ms = params.max_latency_ms
        self._steps = ladder(pace, params.keep, spec)
        self._step = 0
        self._window_from_s: float | None = None
        self._frames: list[FrameLoad] = []
        self._latencies_ms: list[float] = []
        self._encoder_ms: dict[str, float] = {}
        self._floor_ms = float("inf")
        self._calm_s, self._held_up = 0.0, 0
        self._eased_s: float | None = None
        self._patience_s = [PATIENCE_S] * len(self._steps)

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

    def observe(self, now_s: float, frame: FrameLoad) -> bool:
        """Note one frame at a steady time; return True when the effort has changed."""
        if self._window_from_s is None:
            self._window_from_s = now_s
        self._floor_ms = min(self._floor_ms, frame.arrival_ms)
        late_ms = frame.arrival_ms - self._floor_ms if frame.arrival_ms < LIVE_MS else 0.0
        self._latencies_ms.append(frame.latency_ms - frame.arrival_ms + late_ms)
        self._frames.append(frame)
        for name in ("camera", "radar"):
            if name in frame.stages_ms:
                before_ms = self._encoder_ms.get(name, frame.stages_ms[name])
                self._encoder_ms[name] = before_ms + SMOOTHING * (frame.stages_ms[name] - before_ms)
        span_s = now_s - self._window_from_s
        if span_s < WINDOW_S:
            return False
        before = self._step
        self._judge(now_s, span_s)
        self._window_from_s, self._frames, self._latencies_ms = now_s, [], []
        # A stamp that was set back, or a clock that was, must not make every later frame late.
        self._floor_ms += 1.0
        return self._step != before

    def _judge(self, now_s: float, span_s: float) -> None:
        latency_ms, superseded = median(self._latencies_ms), sum(frame.superseded for frame in self._frames)
        hold_ups = sum(frame.superseded > 0 for frame in self._frames)
        self._held_up = self._held_up + 1 if hold_ups else 0
        missed = hold_ups > 1 and superseded > SUPERSEDED_SHARE * (len(self._frames) + superseded)
        if missed or self._held_up >= HELD_UP_WINDOWS or latency_ms > self._limit_ms:
            self._give_up(now_s)
        elif latency_ms >= CALM_SHARE * self._limit_ms:
            self._calm_s = 0.0
        elif not hold_ups:
            self._calm_s += span_s
            self._take_back(now_s, span_s)

    def _give_up(self, now_s: float) -> None:
        """Take the next step; where that was taken back a short time ago, the next try waits longer."""
        patience_s = self._patience_s[self._step]
        if self._eased_s is not None and now_s - self._eased_s < TRIAL * patience_s:
            self._patience_s[self._step] = min(2 * patience_s, LONGEST_PATIENCE_S)
        self._step = min(self._step + 1, len(self._steps) - 1)
        self._calm_s, self._held_up, self._eased_s = 0.0, 0, None

    def _take_back(self, now_s: float, span_s: float) -> None:
        """Take a step back after enough calm time, if the detector has the time for it."""
        if self._eased_s is not None and now_s - self._eased_s >= TRIAL * self._patience_s[self._step]:
            self._patience_s[self._step], self._eased_s = PATIENCE_S, None
        if not self._step or self._calm_s < self._patience_s[self._step - 1]:
            return
        frames_hz = len(self._frames) / span_s
        now, then = self.effort.runs_hz(frames_hz), self._steps[self._step - 1].runs_hz(frames_hz)
        more_ms = sum((hz - now[name]) * self._encoder_ms.get(name, 0.0) for name, hz in then.items())
        busy_share = sum(frame.busy_ms for frame in self._frames) * 1e-3 / span_s + more_ms * 1e-3
        if busy_share < FULL_SHARE:
            self._step, self._calm_s, self._eased_s = self._step - 1, 0.0, now_s
