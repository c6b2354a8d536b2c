# SPDX-License-Identifier: Apache-2.0
"""When each sensor of a short drive that is repeated without a seam measures."""

from bisect import bisect_left
from pathlib import Path

from peft_dml_tools.datasets.bags import BagSource

NS_PER_S = 1_000_000_000


class Timetable:
    """Times of the measurements of a drive, repeated in whole seconds as the replay does."""

    def __init__(self, drive: Path) -> None:
        times: dict[str, list[int]] = {}
        for sensor, measurement in BagSource(drive).measurements():
            times.setdefault(sensor, []).append(measurement.stamp_ns)
        first = min(stamps[0] for stamps in times.values())
        last = max(stamps[-1] for stamps in times.values())
        self._cycle_ns = max(1, (last + 1 - first) // NS_PER_S) * NS_PER_S
        self._offsets = {s: [t - first for t in stamps if t - first < self._cycle_ns] for s, stamps in times.items()}

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sensors that measure."""
        return tuple(self._offsets)

    def first_due_ns(self, sensor: str, from_s: float) -> int | None:
        """Return the first measurement at or after a time, in ns since the start; None of a sensor that has none."""
        offsets = self._offsets.get(sensor)
        if not offsets:
            return None
        cycle, rest_ns = divmod(int(from_s * 1e9), self._cycle_ns)
        index = bisect_left(offsets, rest_ns)
        if index == len(offsets):
            cycle, index = cycle + 1, 0
        return cycle * self._cycle_ns + offsets[index]
