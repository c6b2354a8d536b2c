# SPDX-License-Identifier: Apache-2.0
"""Long drives with random faults: does memory grow, do frames become slower?"""

import os
import statistics
from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final

from peft_dml_tools.chaos.plan import random_minute
from peft_dml_tools.chaos.stages import FAILED, ChaosRun
from peft_dml_tools.evaluation.percentiles import percentiles
from peft_dml_tools.live.accounting import frame_account, messages_unaccounted
from peft_dml_tools.live.frame_status import FrameStatus
from peft_dml_tools.live.observed_drive import Circuit, Observation, ObservedDrive
from peft_dml_tools.live.process_monitor import ProcessMonitor

WARM_SHARE: Final = 0.2
#: Allocators and caches fill first: that much of the beginning does not count for the slope of memory
WARM_MOST_S: Final = 120.0
CURVE: Final = 60  #: Values of memory in the file: a leak goes on, fragments of the heap come to rest
POINTS: Final = 300  #: Points of the slope: medians of stretches, since pairs grow with the square


def soak(run: ChaosRun, minutes: float, seed: int) -> dict[str, Any]:
    """Drive with random faults; the first and the last minute suffer the same ones, so that they can be compared."""
    whole = int(minutes)
    seeds = [seed if minute in {0, whole - 1} else seed + 1 + minute for minute in range(whole)]
    phases = [phase for minute, own in enumerate(seeds) for phase in random_minute(minute, own)]
    circuit = Circuit(run.drive, 60.0 * whole, tuple(fault for phase in phases for fault in phase.faults))
    loads: list[float] = []
    with run.session.node() as node, ObservedDrive(run.session, circuit, "soak") as driven:
        driven.start(node)
        monitor = ProcessMonitor({"node": node.pid})
        try:
            driven.finish(node, tick=lambda: _tell(run, driven, monitor, whole, loads))
        finally:
            monitor.close()
        crashes = int(node.code is not None)
    seen = driven.observation()
    memory = [(s.at_ns * 1e-9, s.rss_mb) for s in monitor.samples["node"]]
    slope = slope_per_min(memory)
    first, last = (percentiles([f.work_ms for f in _minute(seen, minute)]) for minute in (0, whole - 1))
    p99 = [spread.get("p99", float("nan")) for spread in (first, last)]
    faults = sum(len(phase.variants) for phase in phases)
    return {
        "words": f"{whole} minutes, {faults} faults: memory {slope:+.2f} MB a minute, p99 {p99[0]:.0f} ms in the "
        f"first minute, {p99[1]:.0f} ms in the last",
        "crashes": crashes,
        "frames_unaccounted": frame_account(seen.frames)["unaccounted"],
        "messages_unaccounted": messages_unaccounted(seen.messages),
        "minutes": whole,
        "faults": faults,
        "frames": len(seen.frames),
        "rss_mb_per_min": round(slope, 3),
        "rss_mb_curve": [round(mb, 1) for _, mb in memory[:: max(1, len(memory) // CURVE)]],
        "p99_ratio": round(p99[1] / p99[0], 3),
        "p99_ms": [round(v, 1) for v in p99],
        "p50_ms": [spread.get("p50") for spread in (first, last)],
        "load_average": [round(statistics.fmean(part), 1) for part in (loads[:600], loads[-600:]) if part],
        "errors_inside": {r: n for r, n in seen.drops.items() if r.endswith(FAILED)},
    }


def _tell(run: ChaosRun, driven: ObservedDrive, monitor: ProcessMonitor, whole: int, loads: list[float]) -> None:
    loads.append(os.getloadavg()[0])
    samples = monitor.samples["node"]
    mb = samples[-1].rss_mb if samples else 0.0
    run.tell(f"soak: {driven.position_s / 60:.1f} of {whole} minutes, {mb:.0f} MB")


def _minute(seen: Observation, minute: int) -> list[FrameStatus]:
    # The very first frames are made while the vehicle's sensors come up.
    from_s = 60.0 * minute + (3.0 if minute == 0 else 0.0)
    return [frame for frame in seen.during(from_s, 60.0 * (minute + 1)) if not frame.says_blind]


def slope_per_min(memory: Sequence[tuple[float, float]]) -> float:
    """Return the growth a minute of (s, MB) by Theil and Sen: the median of all pairs' slopes, moved by no step."""
    if len(memory) < 2:
        return float("nan")
    begin_s, end_s = memory[0][0], memory[-1][0]
    warm_s = begin_s + min(WARM_MOST_S, WARM_SHARE * (end_s - begin_s))
    later = [entry for entry in memory if entry[0] >= warm_s]
    stretch = max(1, len(later) // POINTS)
    groups = [later[i : i + stretch] for i in range(0, len(later), stretch)]
    points = [(statistics.median(t for t, _ in g), statistics.median(m for _, m in g)) for g in groups]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if b[0] > a[0]]
    return 60.0 * statistics.median(slopes) if slopes else float("nan")
