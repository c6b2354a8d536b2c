# SPDX-License-Identifier: Apache-2.0
"""The node as it runs on a vehicle: latency over DDS, what it costs beyond the engines, every message accounted for.

Latency and engine times are wall times of the same frames of one run, so their ratio hardly depends on the machine.
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from peft_dml_tools.evaluation.percentiles import percentiles
from peft_dml_tools.live.accounting import frame_account
from peft_dml_tools.live.frame_status import ENGINES, FrameStatus
from peft_dml_tools.live.observed_drive import Observation
from peft_dml_tools.live.process_monitor import ProcessSample, cpu_pct
from peft_dml_tools.sim.faults import Fault

Report: TypeAlias = dict[str, Any]

ALL: Final = "all"
#: Kinds of sensors that are silent, by name of the stretch
SUBSETS: Final[Mapping[str, tuple[str, ...]]] = {
    ALL: (),
    "no LiDAR": ("lidar",),
    "no camera": ("camera",),
    "radar only": ("lidar", "camera"),
}

#: Rates of nuScenes' sensors; of the satellite receiver and the odometry, which nuScenes lacks, usual ones
RATES_HZ: Final = {"lidar": 20.0, "camera": 12.0, "radar": 13.0, "imu": 100.0, "gnss": 10.0, "odometry": 50.0}

SETTLE_S: Final = 1.0  #: After a change of the sensors, the gate and the first frames of another kind do not count
WINDOW_S: Final = 10.0
WARM_SHARE: Final = 0.2
#: Allocators and caches fill first: that much of the beginning does not count for the growth of memory
WARM_MOST_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class DriveSection:
    """A part of the drive, in s since its start; kinds of sensors may be silent."""

    name: str
    silent: tuple[str, ...]
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What a live run left behind."""

    stretches: tuple[DriveSection, ...]  #: Parts of the drive, in order
    seen: Observation  #: What was sent and what the node said
    samples: Mapping[str, Sequence[ProcessSample]]  #: Of node, recorder and replay
    transitions_s: Mapping[str, float] = field(default_factory=dict)  #: Seconds by transition of the lifecycle
    #: Processor time of the node while driving by kind of thread, in percent of one core
    thread_cpu_pct: Mapping[str, float] = field(default_factory=dict)

    @property
    def all(self) -> DriveSection:
        """The stretch with all sensors."""
        return next(s for s in self.stretches if s.name == ALL)

    def span_ns(self, stretch: DriveSection) -> tuple[int, int]:
        """Return begin and end of a stretch by this host's clock."""
        start_ns = self.seen.start_ns
        return start_ns + int(stretch.from_s * 1e9), start_ns + int(stretch.to_s * 1e9)

    def frames(self, stretch: DriveSection) -> list[FrameStatus]:
        """Return the frames of a stretch that are of its sensors, after the change to it has settled."""
        from_ns, to_ns = self.span_ns(stretch)
        from_ns += int(SETTLE_S * 1e9)
        frames = [f for f in self.seen.frames if from_ns <= f.stamp_ns < to_ns and f.sees]
        return [f for f in frames if not set(f.present) & set(stretch.silent)]

    def sent_late_ms(self, frame: FrameStatus) -> float | None:
        """Return the time from a frame's stamp to the publication of its measurement; None where it is not known."""
        sent_ns = self.seen.sent_ns.get((frame.reference, frame.stamp_ns))
        return None if sent_ns is None else (sent_ns - frame.stamp_ns) / 1e6


@dataclass(frozen=True, slots=True)
class LivePlan:
    """How long is driven."""

    minutes: float = 10.0  #: With all sensors
    subset_s: float = 30.0  #: With each of the other subsets, in s
    round_s: float = 4.2  #: Length of the simulated drive that goes round and round, in s; whole seconds of it are used
    image_width_px: int = 1600  #: Width of the pictures, 16:9; nuScenes' own by default
    condition_s: float = 60.0  #: Length of the drives with other recorders and loads, in s

    def stretches(self) -> list[DriveSection]:
        """Return the parts of the drive in order."""
        found, at_s = [], 0.0
        for name, silent in SUBSETS.items():
            seconds = 60 * self.minutes if name == ALL else self.subset_s
            if seconds:
                found.append(DriveSection(name, silent, at_s, at_s + seconds))
                at_s += seconds
        return found

    @property
    def seconds(self) -> float:
        """Length of the whole drive."""
        return self.stretches()[-1].to_s

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The silence of each stretch, as a script."""
        return tuple(
            Fault(sensor=kind, fault="silence", from_s=stretch.from_s, to_s=stretch.to_s)
            for stretch in self.stretches()
            for kind in stretch.silent
        )


QUICK: Final = LivePlan(minutes=0.05, subset_s=2.0, round_s=1.2, image_width_px=352)


def live_report(run: LiveRun) -> Report:
    """Return all figures of a run."""
    stretches = {stretch.name: _stretch_figures(run, stretch) for stretch in run.stretches}
    memory = memory_figures(run.samples.get("node", ()), *run.span_ns(run.all))
    frames, messages = frame_account(run.seen.frames), message_figures(run.seen)
    start_s = round(sum(run.transitions_s.values()), 3)
    report: Report = {
        "transitions_s": dict(run.transitions_s),
        "configure_to_active_s": start_s,
        "stretches": stretches,
        "profile": {"slowest_percent": slowest(run), "cpu_pct": dict(run.thread_cpu_pct)},
        "memory": memory,
        "frames": frames,
        "messages": messages,
        "replay_late_max_ms": run.seen.late_max_ms,
    }
    whole = stretches[ALL]
    report["summary"] = {
        "overhead_ratio_p50": whole["overhead_ratio"].get("p50"),
        "overhead_ratio_p99": whole["overhead_ratio"].get("p99"),
        "latency_p99_ms": whole["latency_ms"].get("p99"),
        "hz_held": whole["hz"],
        "drops_unaccounted": frames["unaccounted"] + messages["unaccounted"] + messages["lost_in_transport"],
        "rss_mb": memory.get("max_mb"),
        "rss_growth_pct": memory.get("growth_pct"),
        "configure_to_active_s": start_s,
    }
    return report


def slowest(run: LiveRun) -> Report:
    """Return where the time went in the hundredth of the frames of all sensors with the most time besides engines."""
    frames = sorted((f for f in run.frames(run.all) if f.engines_ms > 0), key=_ratio)
    frames = frames[-max(1, len(frames) // 100) :] if frames else []
    if not frames:
        return {}
    return {
        "frames": len(frames),
        "ratio_from": round(_ratio(frames[0]), 3),
        "engines_ms": round(statistics.fmean(f.engines_ms for f in frames), 3),
        "beyond_engines_ms": beyond_engines(run, frames),
    }


def _ratio(frame: FrameStatus) -> float:
    return frame.latency_ms / frame.engines_ms


def _stretch_figures(run: LiveRun, stretch: DriveSection) -> Report:
    """Return the latency, pace and load of one stretch."""
    (from_ns, to_ns), frames = run.span_ns(stretch), run.frames(stretch)
    from_ns += int(SETTLE_S * 1e9)
    seconds = (to_ns - from_ns) / 1e9
    late_ms = [late for f in frames if (late := run.sent_late_ms(f)) is not None]
    boxes_ns = run.seen.boxes_ns
    received_ms = [(boxes_ns[f.stamp_ns] - f.stamp_ns) / 1e6 for f in frames if f.stamp_ns in boxes_ns]
    return {
        "silent": list(stretch.silent),
        "frames": len(frames),
        "seconds": round(seconds, 1),
        "hz": round(len(frames) / seconds, 3),
        "hz_worst_window": _worst_window_hz(frames, from_ns, to_ns),
        "boxes_mean": round(statistics.fmean(f.boxes for f in frames), 1) if frames else None,
        "given_up": given_up(frames),
        "latency_ms": _spread([f.latency_ms for f in frames]),
        "to_subscriber_ms": _spread(received_ms),
        "engines_ms": _spread([f.engines_ms for f in frames]),
        "overhead_ratio": _spread([_ratio(f) for f in frames if f.engines_ms > 0]),
        "driver_late_ms": _spread(late_ms),
        "stages_ms": stages(frames),
        "beyond_engines_ms": beyond_engines(run, frames),
        "cpu_pct": cpu_pct(run.samples.get("node", ()), from_ns, to_ns),
        "cpu_pct_by_process": {name: cpu_pct(samples, from_ns, to_ns) for name, samples in run.samples.items()},
    }


def given_up(frames: Sequence[FrameStatus]) -> dict[str, float]:
    """Return the share of the frames in which the node said that it had given something up, by what, most first."""
    counted = Counter(words for frame in frames for words in frame.given_up)
    return {words: round(count / len(frames), 3) for words, count in counted.most_common()}


def stages(frames: Sequence[FrameStatus]) -> dict[str, dict[str, float]]:
    """Return the percentiles of each stage, in the order in which a frame goes through them."""
    each = [frame.stages_ms for frame in frames]
    names = list(dict.fromkeys(name for stage_ms in each for name in stage_ms))
    ordered = sorted(names, key=lambda n: _ORDER.index(n) if n in _ORDER else len(_ORDER))
    return {name: _spread([ms[name] for ms in each if name in ms]) for name in ordered}


_ORDER: Final = ("arrival", "wait", "inputs", *ENGINES, "decode", "publish")


def beyond_engines(run: LiveRun, frames: Sequence[FrameStatus]) -> dict[str, float]:
    """Return the mean time of a frame that is not the engines', by where it goes; the parts add up to the whole.

    `driver` is the lateness of the vehicle's own messages, `transport` from there until the node has unpacked the
    message and decided that a frame is due, `rest` what no stage names.
    """
    known = [(f, late) for f in frames if (late := run.sent_late_ms(f)) is not None]
    if not known:
        return {}

    def mean(values: Sequence[float]) -> float:
        return round(statistics.fmean(values), 3)

    stage_ms = [f.stages_ms for f, _ in known]
    parts = {
        "driver": mean([late for _, late in known]),
        "transport": mean([f.arrival_ms - late for f, late in known]),
        **{name: mean([ms.get(name, 0.0) for ms in stage_ms]) for name in ("wait", "inputs", "decode", "publish")},
    }
    whole = mean([f.latency_ms - f.engines_ms for f, _ in known])
    return {**parts, "rest": round(whole - sum(parts.values()), 3), "sum": whole}


def _worst_window_hz(frames: Sequence[FrameStatus], from_ns: int, to_ns: int) -> float | None:
    """Return the lowest pace over whole windows; none when the stretch is shorter than one."""
    window_ns = int(WINDOW_S * 1e9)
    counts = [0] * ((to_ns - from_ns) // window_ns)
    for frame in frames:
        number = (frame.stamp_ns - from_ns) // window_ns
        if number < len(counts):
            counts[number] += 1
    return round(min(counts) / WINDOW_S, 2) if counts else None


def message_figures(seen: Observation) -> Report:
    """Return where the messages went, whole and by sensor."""
    accounts = seen.messages
    return {
        "sent": sum(account.sent for account in accounts.values()),
        "lost_in_transport": sum(abs(account.lost_in_transport) for account in accounts.values()),
        "unaccounted": sum(abs(account.unaccounted) for account in accounts.values()),
        "by_sensor": {name: account.tree() for name, account in accounts.items()},
    }


def memory_figures(samples: Sequence[ProcessSample], from_ns: int, to_ns: int) -> Report:
    """Return resident memory between two times; begin and end are medians of a tenth of what follows the warm-up."""
    during = [s for s in samples if from_ns <= s.at_ns <= to_ns and s.rss_mb > 0]
    warm_ns = from_ns + int(min(WARM_MOST_S * 1e9, WARM_SHARE * (to_ns - from_ns)))
    later = [s.rss_mb for s in during if s.at_ns >= warm_ns]
    if len(later) < 2:
        return {}
    tenth = max(1, len(later) // 10)
    begin, end = statistics.median(later[:tenth]), statistics.median(later[-tenth:])
    return {
        "before_mb": round(during[0].rss_mb, 1),
        "warm_mb": round(begin, 1),
        "end_mb": round(end, 1),
        "max_mb": round(max(s.rss_mb for s in during), 1),
        "growth_pct": round(100 * (end / begin - 1), 2),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return percentiles(values) | {"max": round(max(values), 3)} if values else {}
