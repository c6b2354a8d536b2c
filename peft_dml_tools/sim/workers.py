# SPDX-License-Identifier: Apache-2.0
"""Work in other processes: results in order, little in flight, and an interrupt reported once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int,
    *,
    ahead: int,
    start: Callable[..., None] | None = None,
    start_with: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Return the results of `work` in the order of the jobs, so that memory does not grow with their number.

    Ends the processes when the caller stops asking, or is interrupted or killed, whatever they are at.

    Args:
        work: A function that can be imported.
        jobs: What it gets, one at a time.
        workers: Processes.
        ahead: Jobs in flight at most.
        start: Called once in each process.
        start_with: Its arguments.
    """
    # Workers read this at their start; threads of theirs would only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), begin_process, (start, start_with))
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            with no_interrupts():
                waiting.append(pool.submit(work, job))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        # One that was writing leaves half a result, for whose rest the pool would wait while anybody can write.
        pool._result_queue._writer.close()  # type: ignore[attr-defined]  # noqa: SLF001
        raise
    finally:
        with no_interrupts():
            pool.shutdown(cancel_futures=True)


def begin_process(start: Callable[..., None] | None = None, start_with: tuple[Any, ...] = ()) -> None:
    """Prepare a process of a pool; it ends with its parent, which would leave it waiting for jobs for ever."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start(*start_with)


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


@contextmanager
def no_interrupts() -> Iterator[None]:
    """Start processes that never see Ctrl-C, which a terminal sends to all; the parent ends them.

    Another thread takes the signal meanwhile, and Python would raise it here, between two steps of the pool: later.
    """
    taken: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: taken.append(number)) if main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if main:
            signal.signal(signal.SIGINT, handler)
        for number in taken:
            signal.raise_signal(number)
