# SPDX-License-Identifier: Apache-2.0
"""One thread with one slot: it always works on the newest job, and every job it never saw is counted by the caller."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")


class LatestWorker(Generic[Job]):
    """Runs `work` in its own thread on the newest submitted job.

    Args:
        work: Called with each job that is taken; its errors go to `on_error`, and the thread lives on.
        on_error: Called in the worker's thread with what `work` raised.
    """

    def __init__(self, work: Callable[[Job], None], on_error: Callable[[Exception], None]) -> None:
        self._work, self._on_error = work, on_error
        self._changed = threading.Condition()
        self._slot: Job | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="detector", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Job | None:
        """Put a job into the slot; returns the older job that it replaces, if that was still waiting."""
        with self._changed:
            superseded, self._slot = self._slot, job
            self._changed.notify()
        return superseded

    def withdraw(self) -> Job | None:
        """Take the job that waits out of the slot again."""
        with self._changed:
            waiting, self._slot = self._slot, None
        return waiting

    def close(self, timeout_s: float = 5.0) -> bool:
        """Finish the job at work, drop the one that waits, end the thread; False when it did not end in time."""
        with self._changed:
            self._closing, self._slot = True, None
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._work(job)
            except Exception as error:  # noqa: BLE001, PERF203  whatever one frame does, the next one is tried
                self._on_error(error)

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._slot is not None)
            job, self._slot = self._slot, None
            return None if self._closing else job
