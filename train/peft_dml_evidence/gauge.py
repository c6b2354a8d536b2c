# SPDX-License-Identifier: Apache-2.0
"""What a piece of work costs: wall time, CPU seconds, and the process's peak of memory while it ran."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PEAK_RESET = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


@dataclass
class ComputeCost:
    """Filled when the work is done."""

    wall_s: float = 0.0  #: Wall time
    cpu_s: float = 0.0  #: CPU seconds of this process, all threads
    #: Largest resident memory while it ran; since the process's start where Linux cannot reset it
    peak_rss_mb: float = 0.0

    def as_json(self) -> dict[str, float]:
        """Return the figures, rounded."""
        return {
            "wall_s": round(self.wall_s, 2),
            "cpu_s": round(self.cpu_s, 2),
            "peak_rss_mb": round(self.peak_rss_mb, 1),
        }


def peak_rss_mb() -> float:
    """Return the peak since the last reset."""
    with suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def gauge() -> Iterator[ComputeCost]:
    """Measure the cost of the block."""
    with suppress(OSError):
        PEAK_RESET.write_text("5")
    cost, wall, cpu = ComputeCost(), time.monotonic(), time.process_time()
    try:
        yield cost
    finally:
        cost.wall_s, cost.cpu_s = time.monotonic() - wall, time.process_time() - cpu
        cost.peak_rss_mb = peak_rss_mb()
