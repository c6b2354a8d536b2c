# SPDX-License-Identifier: Apache-2.0
"""How long a call takes: processor time for ratios, which a busy machine hardly moves, and wall time."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from peft_dml_tools.evaluation.percentiles import percentiles

WARM_UP: Final = 3


def timed(call: Callable[[], object], repeats: int) -> dict[str, float]:
    """Return milliseconds of a call: percentiles of processor time, and the median of wall time."""
    return interleaved({"": call}, repeats)[""]


def interleaved(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Measure several calls in turn, so that whatever else the machine does meets all of them alike."""
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    wall: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + WARM_UP):
        for name, call in calls.items():
            begin, begin_cpu = time.perf_counter(), time.process_time()
            call()
            spent_cpu, spent = time.process_time() - begin_cpu, time.perf_counter() - begin
            if turn >= WARM_UP:
                cpu[name].append(spent_cpu * 1e3)
                wall[name].append(spent * 1e3)
    return {name: percentiles(cpu[name]) | {"wall_p50": round(float(np.median(wall[name])), 3)} for name in calls}


def slope(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Fit a line to measurements; return slope, intercept, and the share of the variance that it explains."""
    steepness, intercept = np.polyfit(x, y, 1)
    rest = np.asarray(y) - (steepness * np.asarray(x) + intercept)
    spread = float(np.var(y))
    explained = 1.0 - float(np.var(rest)) / spread if spread > 0 else 1.0
    return {"per_unit": float(steepness), "at_zero": round(float(intercept), 3), "r2": round(explained, 4)}
