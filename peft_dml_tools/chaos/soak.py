# SPDX-License-Identifier: Apache-2.0
"""Long drives with random faults: does memory grow, do frames become slower?"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final

from peft_dml_tools.chaos.judge import Frame, Seen, frames_unaccounted, messages_unaccounted, read
from peft_dml_tools.chaos.plan import random_minute
from peft_dml_tools.chaos.stages import OVERRUN_S, START_S, Bench, percentiles, rss_mb

SAMPLE_S: Final = 1.0
WARM_SHARE: Final = 0.2
WARM_MOST_S: Final = 120.0
"""Allocators and caches fill first: that much of the beginning does not count for the slope of memory."""
CURVE: Final = 60
"""Values of memory in the file: a leak goes on, fragments of the heap come to rest."""
POINTS: Final = 300
"""Of the slope: medians of stretches, since pairs grow with the square."""


def soak(bench: Bench, minutes: float, seed: int) -> dict[str, Any]:
    """Drive with random faults; the first and the last minute suffer the same ones, so that they can be compared."""
    whole = int(minutes)
    seeds = [seed if minute in {0, whole - 1} else seed + 1 + minute for minute in range(whole)]
    phases = [phase for minute, own in enumerate(seeds) for phase in random_minute(minute, own)]
    plan = bench.scratch / "soak.json"
    plan.write_text(json.dumps([phase.tree() for phase in phases]), encoding="utf-8")
    seconds, loads = 60.0 * whole, []
    memory: list[tuple[float, float]] = []
    with bench.node() as node:
        driver = bench.driver("soak.jsonl", seconds, "--plan", str(plan))
        limit = time.monotonic() + START_S + seconds + OVERRUN_S
        try:
            while driver.code is None and node.code is None and time.monotonic() < limit:
                position_s = float(driver.value("progress", "position_s", 0.0))
                if "start" in driver.latest:
                    memory.append((time.monotonic(), rss_mb(node.pid)))
                    loads.append(os.getloadavg()[0])
                bench.tell(f"soak: {position_s / 60:.1f} of {whole} minutes, {memory[-1][1] if memory else 0:.0f} MB")
                driver.wait(SAMPLE_S)
            crashes = int(node.code is not None)
        finally:
            driver.stop()
    seen = read(bench.scratch / "soak.jsonl")
    first, last = (_minute(seen, minute) for minute in (0, whole - 1))
    slope = slope_per_min(memory)
    p99 = [percentiles([f.work_ms for f in frames]).get("p99", float("nan")) for frames in (first, last)]
    ratio = p99[1] / p99[0]
    faults = sum(len(phase.variants) for phase in phases)
    return {
        "words": f"{whole} minutes, {faults} faults: memory {slope:+.2f} MB a minute, p99 {p99[0]:.0f} ms in the "
        f"first minute, {p99[1]:.0f} ms in the last",
        "crashes": crashes,
        "frames_unaccounted": frames_unaccounted(seen),
        "messages_unaccounted": messages_unaccounted(seen),
        "minutes": whole,
        "faults": faults,
        "frames": len(seen.frames),
        "rss_mb_per_min": round(slope, 3),
        "rss_mb_curve": [round(mb, 1) for _, mb in memory[:: max(1, len(memory) // CURVE)]],
        "p99_ratio": round(ratio, 3),
        "p99_ms": [round(v, 1) for v in p99],
        "p50_ms": [percentiles([f.work_ms for f in frames]).get("p50") for frames in (first, last)],
        "load_average": [round(statistics.fmean(part), 1) for part in (loads[:60], loads[-60:]) if part],
        "errors_inside": {r: n for r, n in seen.drops.items() if r.endswith(": failed")},
    }


def _minute(seen: Seen, minute: int) -> list[Frame]:
    low_ns = seen.start_ns + minute * 60 * 10**9
    # The very first frames are made while the vehicle's sensors come up.
    low_ns += 3 * 10**9 if minute == 0 else 0
    return [f for f in seen.frames if low_ns <= f.at_ns < seen.start_ns + (minute + 1) * 60 * 10**9 and not f.blind]


def slope_per_min(memory: Sequence[tuple[float, float]]) -> float:
    """Growth a minute by Theil and Sen: the median of the slopes of all pairs, which no single step can move.

    Args:
        memory: (time in s, MB), in order.
    """
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
