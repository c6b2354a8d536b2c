# SPDX-License-Identifier: Apache-2.0
"""Ray as the engine of fleet jobs: bounded submission, retries after lost workers and nodes, failures as results.

Everything that knows Ray is in this file. Ray re-runs a task whose worker process or node died; what fails for good
becomes a `JobFailure`, so that one job never ends the others.
"""

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from peft_dml_ros.core.errors import ConfigError, DataError, PeftDmlError
from peft_dml_tools.sim.workers import no_interrupts

Job = TypeVar("Job")
Result = TypeVar("Result")

RETRIES: Final = 3  #: Times that Ray starts a job again after its worker or node died
#: Jobs in flight per core, so that no core waits and the driver's memory does not grow with the number of jobs
AHEAD: Final = 2
WAIT_S: Final = 0.5
CANCEL_S: Final = 5.0
CONNECT_S: Final = 5.0
STARTS: Final = 3
#: Words of the plain `Exception` that Ray raises when its own processes start too slowly
TIMED_OUT: Final = "timed out during startup"
LOOPBACK: Final = "127.0.0.1"  #: A cluster of this machine alone is not to be reached from others
JOB_MEMORY_MB: Final = 1500


@dataclass(frozen=True, slots=True)
class JobFailure:
    """A job that gave no result."""

    reason: str  #: One line for the report


@dataclass(frozen=True, slots=True)
class Cluster:
    """A connected Ray cluster."""

    dashboard: str  #: Address of Ray's dashboard, empty where there is none
    memory_mb: int  #: Memory that each job reserves; Ray starts no more jobs on a node than fit

    @property
    def cores(self) -> int:
        """Number of cores that the cluster has now."""
        return max(1, int(_ray().cluster_resources().get("CPU", 1)))

    @property
    def nodes(self) -> int:
        """Number of nodes that are alive now."""
        return sum(bool(node["Alive"]) for node in _ray().nodes())

    def queue(self, work: Callable[[Job], Result]) -> "Queue[Job, Result]":
        """Return a queue of jobs for one importable function."""
        options = {"max_retries": RETRIES, "num_cpus": 1, "memory": self.memory_mb * 1_000_000}
        return Queue(self, _ray().remote(work).options(**options))


class Queue(Generic[Job, Result]):
    """Jobs of one kind: submitted as cores come free, results as they are finished."""

    def __init__(self, cluster: Cluster, remote: Any) -> None:
        self._cluster, self._remote = cluster, remote
        self._waiting: list[Job] = []
        self._running: dict[Any, Job] = {}

    def add(self, job: Job) -> None:
        """Append a job."""
        self._waiting.append(job)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    def poll(self) -> Iterator[tuple[Job, Result | JobFailure]]:
        """Submit what fits and yield what has finished within `WAIT_S`, in order of completion."""
        ray = _ray()
        while self._waiting and len(self._running) < AHEAD * self._cluster.cores:
            job = self._waiting.pop(0)
            self._running[self._remote.remote(job)] = job
        if not self._running:
            return
        done, _ = ray.wait(list(self._running), num_returns=1, timeout=WAIT_S)
        for reference in done:
            yield self._running.pop(reference), _result(ray, reference)

    def drain(self) -> Iterator[tuple[Job, Result | JobFailure]]:
        """Yield results until no job is left."""
        while len(self):
            yield from self.poll()

    def cancel(self) -> None:
        """Drop waiting jobs and stop running ones."""
        self._waiting.clear()
        ray = _ray()
        for reference in self._running:
            # Ray 2.60 aborts the whole program now and then when a job ends while it is cancelled by force.
            ray.cancel(reference, force=False)
        if self._running:
            ray.wait(list(self._running), num_returns=len(self._running), timeout=CANCEL_S)
        self._running.clear()


def every_result(work: Callable[[Job], Result], jobs: Iterable[Job], address: str, workers: int) -> Iterator[Result]:
    """Yield the results of jobs that all have to succeed, as they are finished.

    Raises ConfigError: there is no cluster at the address. Raises DataError: jobs failed, after all others were done;
    the first one is named.
    """
    with connected(address, JOB_MEMORY_MB, workers) as cluster:
        queue, failures = cluster.queue(work), list[str]()
        for job in jobs:
            queue.add(job)
        for _, found in queue.drain():
            if isinstance(found, JobFailure):
                failures.append(found.reason)
            else:
                yield found
    if failures:
        raise DataError(f"{len(failures)} jobs failed, the first with: {failures[0]}; fix: give the same command again")


def _result(ray: Any, reference: Any) -> Any:
    """Return a job's result, or a `JobFailure` that says why there is none."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        kind = "" if isinstance(cause, PeftDmlError) else f"{type(cause).__name__}: "
        return JobFailure(f"{kind}{cause}".splitlines()[0])
    except ray.exceptions.OutOfMemoryError:
        return JobFailure(f"out of memory {RETRIES + 1} times; give each job more: --memory-mb")
    except ray.exceptions.NodeDiedError:
        return JobFailure(f"its node died {RETRIES + 1} times")
    except ray.exceptions.RayError as error:
        return JobFailure(f"its worker died {RETRIES + 1} times ({type(error).__name__})")


@contextmanager
def connected(address: str, memory_mb: int, workers: int = 0, *, dashboard: bool = False) -> Iterator[Cluster]:
    """Connect to a cluster for the duration of the context.

    Raises ConfigError: Ray is not installed, or there is no cluster at the address.

    Args:
        address: `local` starts Ray on this machine, `auto` takes the cluster that runs here, or HOST:PORT of another.
        memory_mb: Memory that each job reserves.
        workers: Cores to use on this machine with `local`; 0 takes all.
        dashboard: Start Ray's dashboard with `local`: ten more processes. A cluster that runs has its own.
    """
    # Read when Ray is imported, and by its workers; without clusters 127.0.0.1 is not replaced by a public address.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", str(int(address != "local")))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    ray = _ray()
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    with ExitStack() as stack:
        if owned := not ray.is_initialized():
            stack.callback(ray.shutdown)
        try:
            if address == "local":
                options |= {"num_cpus": workers or None, "_node_ip_address": LOOPBACK, "include_dashboard": dashboard}
            else:
                _reach(address)
            context = _initialised(ray, owned=owned, address=address, **options)
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"--address local: Ray does not start here ({reason}); fix: end other programs, or lower --workers"
                if address == "local"
                else f"--address {address}: no Ray cluster there ({reason}); fix: start one (ray start --head), check "
                "HOST:PORT, or use --address local"
            ) from error
        yield Cluster(str(getattr(context, "dashboard_url", "") or ""), memory_mb)


def _initialised(ray: Any, tries: int = STARTS, *, owned: bool, **options: Any) -> Any:
    """Connect; Ray gives its processes 30 s, which a busy machine may exceed, so it is tried again.

    An interrupt waits meanwhile: Ray crashes where it is shut down in the middle of its start.

    Raises Exception: that of the last try.
    """
    try:
        with no_interrupts():
            return ray.init(ignore_reinit_error=True, **options)
    except Exception as error:
        if tries == 1 or TIMED_OUT not in str(error):
            raise
    if owned:
        ray.shutdown()
    return _initialised(ray, tries - 1, owned=owned, **options)


def _reach(address: str) -> None:
    """Try an address before Ray does, which takes minutes to give up.

    Raises OSError: nothing listens there; ValueError: it is neither `auto` nor HOST:PORT.
    """
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), CONNECT_S).close()


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError("fleet jobs need Ray; fix: pip install 'peft_dml_ros[fleet]'") from None
    return ray
