# SPDX-License-Identifier: Apache-2.0
"""The node as it runs on a vehicle: latency over DDS, what it costs beyond the engines, every message accounted for.

Latency and engine times are wall times of the same frames of one run, so their ratio hardly depends on the machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from peft_dml_tools.bench.live_records import ENGINES, NOT_MESSAGES, Frame, LiveRecords, Sample, Stretch
from peft_dml_tools.bench.timing import percentiles

Report: TypeAlias = dict[str, Any]

ALL: Final = "all"
SUBSETS: Final[Mapping[str, tuple[str, ...]]] = {
    ALL: (),
    "no LiDAR": ("lidar",),
    "no camera": ("camera",),
    "radar only": ("lidar", "camera"),
}
"""Kinds of sensors that are silent."""

RATES_HZ: Final = {"lidar": 20.0, "camera": 12.0, "radar": 13.0, "imu": 100.0, "gnss": 10.0, "odometry": 50.0}
"""As nuScenes' sensors; the satellite receiver and the odometry, which nuScenes lacks, as usual ones."""

SETTLE_S: Final = 1.0
"""After a change of the sensors, the gate and the first frames of another kind do not count."""
WINDOW_S: Final = 10.0
WARM_SHARE: Final = 0.2
WARM_MOST_S: Final = 120.0
"""Allocators and caches fill first: that much of the beginning does not count for the growth of memory."""


@dataclass(frozen=True, slots=True)
class LivePlan:
    """How long is driven.

    Attributes:
        minutes: With all sensors.
        subset_s: With each of the other subsets, in s.
        round_s: Length of the simulated drive that goes round and round, in s; whole seconds of it are used.
        image_width_px: Width of the pictures, 16:9; nuScenes' own by default.
    """

    minutes: float = 10.0
    subset_s: float = 30.0
    round_s: float = 4.2
    image_width_px: int = 1600

    def stretches(self) -> list[Report]:
        """As the driver reads them."""
        return [
            {"name": name, "seconds": 60 * self.minutes if name == ALL else self.subset_s, "silent": list(silent)}
            for name, silent in SUBSETS.items()
        ]

    @property
    def seconds(self) -> float:
        """Of the whole drive."""
        return sum(float(stretch["seconds"]) for stretch in self.stretches())


QUICK: Final = LivePlan(minutes=0.1, subset_s=2.5, round_s=1.2, image_width_px=352)


def live_report(seen: LiveRecords) -> Report:
    """All figures of a run."""
    stretches = {stretch.name: _stretch_figures(seen, stretch) for stretch in seen.stretches}
    memory = memory_figures(seen.samples, _all(seen))
    if seen.peak_mb:
        memory["peak_mb"] = round(seen.peak_mb, 1)
    frames, messages = frame_books(seen.frames), message_books(seen)
    start_s = round(sum(seen.transitions_s.values()), 3)
    report: Report = {
        "transitions_s": dict(seen.transitions_s),
        "configure_to_active_s": start_s,
        "stretches": stretches,
        "profile": {"slowest_percent": slowest(seen), "cpu_pct": dict(seen.cpu_pct)},
        "memory": memory,
        "frames": frames,
        "messages": messages,
        "driver_late_max_ms": seen.late_max_ms,
    }
    whole = stretches[ALL]
    report["summary"] = {
        "overhead_ratio_p50": whole["overhead_ratio"].get("p50"),
        "overhead_ratio_p99": whole["overhead_ratio"].get("p99"),
        "hz_held": whole["hz"],
        "drops_unaccounted": frames["unaccounted"] + messages["unaccounted"] + messages["lost_in_transport"],
        "rss_mb": memory.get("peak_mb") or memory.get("max_mb"),
        "rss_growth_pct": memory.get("growth_pct"),
        "configure_to_active_s": start_s,
    }
    return report


def slowest(seen: LiveRecords) -> Report:
    """Where the time went in the hundredth of the frames of all sensors that took longest beside their engines."""
    frames = sorted((f for f in _frames_of(seen, _all(seen)) if f.engines_ms > 0), key=_ratio)
    frames = frames[-max(1, len(frames) // 100) :] if frames else []
    if not frames:
        return {}
    return {
        "frames": len(frames),
        "ratio_from": round(_ratio(frames[0]), 3),
        "engines_ms": round(statistics.fmean(f.engines_ms for f in frames), 3),
        "beyond_engines_ms": beyond_engines(frames),
    }


def _ratio(frame: Frame) -> float:
    return frame.latency_ms / frame.engines_ms


def _all(seen: LiveRecords) -> Stretch:
    return next(s for s in seen.stretches if s.name == ALL)


def _frames_of(seen: LiveRecords, stretch: Stretch) -> list[Frame]:
    from_ns = stretch.from_ns + int(SETTLE_S * 1e9)
    frames = [f for f in seen.frames if from_ns <= f.stamp_ns < stretch.to_ns and not f.blind]
    # A frame that is not of the sensors that the stretch is about belongs to the one before, or to a fault.
    return [f for f in frames if not set(f.present) & set(stretch.silent)]


def _stretch_figures(seen: LiveRecords, stretch: Stretch) -> Report:
    """Latency, pace and load of one stretch."""
    from_ns, frames = stretch.from_ns + int(SETTLE_S * 1e9), _frames_of(seen, stretch)
    seconds = (stretch.to_ns - from_ns) / 1e9
    late_ms = [f.sent_late_ms for f in frames if f.sent_late_ms is not None]
    received_ms = [f.received_ms for f in frames if f.received_ms is not None]
    return {
        "silent": list(stretch.silent),
        "frames": len(frames),
        "seconds": round(seconds, 1),
        "hz": round(len(frames) / seconds, 3),
        "hz_worst_window": _worst_window_hz(frames, from_ns, stretch.to_ns),
        "boxes_mean": round(statistics.fmean(f.boxes for f in frames), 1) if frames else None,
        "latency_ms": _spread([f.latency_ms for f in frames]),
        "to_subscriber_ms": _spread(received_ms),
        "engines_ms": _spread([f.engines_ms for f in frames]),
        "overhead_ratio": _spread([_ratio(f) for f in frames if f.engines_ms > 0]),
        "driver_late_ms": _spread(late_ms),
        "stages_ms": stages(frames),
        "beyond_engines_ms": beyond_engines(frames),
        "cpu_pct": cpu_pct(seen.samples, from_ns, stretch.to_ns),
    }


def stages(frames: Sequence[Frame]) -> dict[str, dict[str, float]]:
    """Percentiles of each stage, in the order in which a frame goes through them."""
    names = list(dict.fromkeys(name for frame in frames for name in frame.stages_ms))
    ordered = sorted(names, key=lambda n: _ORDER.index(n) if n in _ORDER else len(_ORDER))
    return {name: _spread([f.stages_ms[name] for f in frames if name in f.stages_ms]) for name in ordered}


_ORDER: Final = ("arrival", "wait", "inputs", *ENGINES, "decode", "publish")


def beyond_engines(frames: Sequence[Frame]) -> dict[str, float]:
    """Mean time of a frame that is not the engines', by where it goes; the parts add up to the whole.

    `driver` is the lateness of the vehicle's own messages, `transport` from there until the node has unpacked the
    message and decided that a frame is due, `rest` what no stage names.
    """
    known = [f for f in frames if f.sent_late_ms is not None]
    if not known:
        return {}

    def mean(values: Sequence[float]) -> float:
        return round(statistics.fmean(values), 3)

    parts = {
        "driver": mean([f.sent_late_ms or 0.0 for f in known]),
        "transport": mean([f.stages_ms["arrival"] - (f.sent_late_ms or 0.0) for f in known]),
        **{name: mean([f.stages_ms.get(name, 0.0) for f in known]) for name in ("wait", "inputs", "decode", "publish")},
    }
    whole = mean([f.latency_ms - f.engines_ms for f in known])
    return {**parts, "rest": round(whole - sum(parts.values()), 3), "sum": whole}


def _worst_window_hz(frames: Sequence[Frame], from_ns: int, to_ns: int) -> float | None:
    """Lowest pace over whole windows; none when the stretch is shorter than one."""
    window_ns = int(WINDOW_S * 1e9)
    counts = [0] * ((to_ns - from_ns) // window_ns)
    for frame in frames:
        number = (frame.stamp_ns - from_ns) // window_ns
        if number < len(counts):
            counts[number] += 1
    return round(min(counts) / WINDOW_S, 2) if counts else None


def frame_books(frames: Sequence[Frame]) -> Report:
    """Where the frames went that were due.

    While a status is written another frame may already wait; one that was lost is missing in all of them ever after.
    So the books are those of the last statuses, after the vehicle has fallen silent.
    """
    if not frames:
        return {"triggered": 0, "published": 0, "drops": {}, "unaccounted": 1}
    last = frames[-1]
    quiet = [abs(f.waiting) for f in frames if f.stamp_ns > last.stamp_ns - 600_000_000 and f.blind] or [last.waiting]
    drops = {reason: n for reason, n in last.drops.items() if reason.startswith("frame: ")}
    return {"triggered": last.triggered, "published": last.published, "drops": drops, "unaccounted": min(quiet)}


def message_books(seen: LiveRecords) -> Report:
    """Where the messages went: by sensor, sent = lost in transport + admitted + dropped with a reason + unaccounted."""
    drops = seen.frames[-1].drops if seen.frames else {}
    sensors: Report = {}
    for name, sent in sorted(seen.sent.items()):
        received = seen.received.get(name, 0)
        ours = {r.partition(": ")[2]: n for r, n in drops.items() if r.startswith(f"{name}: ")}
        refused = {reason: n for reason, n in ours.items() if not f": {reason}".endswith(NOT_MESSAGES)}
        admitted = seen.admitted.get(name, 0)
        sensors[name] = {
            "sent": sent,
            "received": received,
            "admitted": admitted,
            "dropped": refused,
            "lost_in_transport": sent - received,
            "unaccounted": received - admitted - sum(refused.values()),
        }
    return {
        "sent": sum(seen.sent.values()),
        "lost_in_transport": sum(abs(s["lost_in_transport"]) for s in sensors.values()),
        "unaccounted": sum(abs(s["unaccounted"]) for s in sensors.values()),
        "by_sensor": sensors,
    }


def memory_figures(samples: Sequence[Sample], stretch: Stretch) -> Report:
    """Resident memory while all sensors are there: begin and end are medians of a tenth of what follows the warm-up."""
    during = [s for s in samples if stretch.from_ns <= s.at_ns <= stretch.to_ns and s.rss_mb > 0]
    warm_ns = stretch.from_ns + int(min(WARM_MOST_S * 1e9, WARM_SHARE * (stretch.to_ns - stretch.from_ns)))
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


def cpu_pct(samples: Sequence[Sample], from_ns: int, to_ns: int) -> float | None:
    """Processor time of the node, in percent of one core."""
    during = [s for s in samples if from_ns <= s.at_ns <= to_ns]
    if len(during) < 2:
        return None
    first, last = during[0], during[-1]
    return round(100 * (last.cpu_s - first.cpu_s) / ((last.at_ns - first.at_ns) / 1e9), 1)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return percentiles(values) | {"max": round(max(values), 3)} if values else {}
