# SPDX-License-Identifier: Apache-2.0
"""Processor time and memory of processes, sampled by psutil from a thread of its own."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import psutil

SAMPLE_S: Final = 0.5
MIDDLEWARE: Final = "dds."  #: Begin of the names of Fast DDS's threads


class ProcessSample(NamedTuple):
    """A process at one time: processor seconds since its start, resident memory in units of 10^6 bytes."""

    at_ns: int
    cpu_s: float
    rss_mb: float


class ProcessMonitor:
    """Samples processes until it is closed; one that has ended is sampled no more."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self.samples: dict[str, list[ProcessSample]] = {name: [] for name in pids}
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._threads: list[tuple[float, dict[str, float]]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, name: str, pid: int) -> None:
        """Sample one more process from now on."""
        self.samples[name] = []
        self._processes = self._processes | {name: psutil.Process(pid)}

    def close(self) -> None:
        """End the thread."""
        self._done.set()
        self._thread.join()

    def look_at_threads(self, name: str) -> None:
        """Note the processor time of a process by kind of thread; the first and the last look count."""
        with suppress(psutil.Error):
            self._threads = [*self._threads[:1], (time.monotonic(), thread_seconds(self._processes[name]))]

    @property
    def thread_cpu_pct(self) -> dict[str, float]:
        """Processor time between the first and the last look at the threads, in percent of one core."""
        if len(self._threads) < 2:
            return {}
        (begin_s, before), (end_s, after) = self._threads
        return {k: round(100 * (s - before.get(k, 0.0)) / (end_s - begin_s), 1) for k, s in after.items()}

    def _run(self) -> None:
        while not self._done.wait(SAMPLE_S):
            for name, process in self._processes.items():
                with suppress(psutil.Error):
                    self.samples[name].append(sample(process))


def sample(process: psutil.Process) -> ProcessSample:
    """Return a process as it is now. Raises psutil.NoSuchProcess: it has ended."""
    with process.oneshot():
        spent = process.cpu_times()
        return ProcessSample(time.time_ns(), spent.user + spent.system, process.memory_info().rss / 1e6)


def thread_seconds(process: psutil.Process) -> dict[str, float]:
    """Return processor seconds of a node by kind of thread: the executor's, the middleware's, those that detect.

    Raises psutil.NoSuchProcess: it has ended.
    """
    spent = dict.fromkeys(("executor", "middleware", "detection"), 0.0)
    for thread in process.threads():
        with suppress(psutil.Error):  # a thread may have ended just now
            name = psutil.Process(thread.id).name()
            kind = "executor" if thread.id == process.pid else "middleware" if MIDDLEWARE in name else "detection"
            spent[kind] += thread.user_time + thread.system_time
    return spent


def cpu_pct(samples: Sequence[ProcessSample], from_ns: int, to_ns: int) -> float | None:
    """Return the processor time of a process in percent of one core; None with fewer than two samples."""
    during = [s for s in samples if from_ns <= s.at_ns <= to_ns]
    if len(during) < 2:
        return None
    first, last = during[0], during[-1]
    return round(100 * (last.cpu_s - first.cpu_s) / ((last.at_ns - first.at_ns) / 1e9), 1)


def shared_memory_of(pid: int) -> set[Path]:
    """Return the shared memory files that nobody removes when a process is killed, without those others use too."""
    try:
        maps = psutil.Process(pid).memory_maps(grouped=True)
    except psutil.Error:
        return set()
    files = {entry.path.removesuffix(" (deleted)") for entry in maps if "/dev/shm/fastrtps_" in entry.path}  # noqa: S108
    return {Path(name) for name in files if "_port" not in name}
