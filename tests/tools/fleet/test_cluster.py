# SPDX-License-Identifier: Apache-2.0
"""Jobs on a real Ray cluster: lost workers, lost nodes, failures as results."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_tools.fleet.cluster import JobFailure, connected

pytest.importorskip("ray")
pytestmark = pytest.mark.alone  # Ray takes all cores


def double(number: int) -> int:
    return 2 * number


def refuse(number: int) -> int:
    raise DataError(f"drive {number} is damaged\nsecond line")


def killed_once(note: str) -> str:
    """Kill the own process the first time, as the kernel does when memory is short."""
    path = Path(note)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def always_killed(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_every_job_gives_one_result(cluster) -> None:
    queue = cluster.queue(double)
    for number in range(30):
        queue.add(number)
    assert sorted(queue.drain()) == [(n, 2 * n) for n in range(30)]


def test_an_error_is_a_result_in_one_line(cluster) -> None:
    queue = cluster.queue(refuse)
    queue.add(7)
    assert list(queue.drain()) == [(7, JobFailure("drive 7 is damaged"))]


def test_a_killed_worker_is_started_again(cluster, tmp_path) -> None:
    queue = cluster.queue(killed_once)
    queue.add(str(tmp_path / "note"))
    assert [result for _, result in queue.drain()] == ["done"]


def test_a_job_that_kills_every_worker_fails_alone(cluster) -> None:
    bad, good = cluster.queue(always_killed), cluster.queue(double)
    bad.add(1)
    good.add(2)
    ((_, failure),) = bad.drain()
    assert isinstance(failure, JobFailure)
    assert "died 4 times" in failure.reason
    assert list(good.drain()) == [(2, 4)]


@pytest.mark.parametrize(("failures", "works"), [(1, True), (3, False)])
def test_a_start_that_times_out_is_tried_again(cluster, monkeypatch, failures, works) -> None:
    import ray

    init, tries = ray.init, []

    def slow(**options):
        tries.append(options)
        if len(tries) <= failures:
            raise Exception("The current node timed out during startup. This could happen")  # noqa: TRY002  as Ray does
        return init(**options)

    monkeypatch.setattr(ray, "init", slow)
    if works:
        with connected("local", 300, 2) as again:
            assert again.cores == cluster.cores
    else:
        with pytest.raises(ConfigError, match=r"Ray does not start here \(The current node timed out.*fix: end other"):
            connected("local", 300, 2).__enter__()
    assert len(tries) == min(failures + 1, 3)


def test_an_interrupt_waits_until_ray_has_started(monkeypatch) -> None:
    import ray

    steps = []

    def start(**_):
        signal.raise_signal(signal.SIGINT)
        steps.append("started")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(ray, "shutdown", lambda: steps.append("ended"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    with pytest.raises(KeyboardInterrupt):
        connected("local", 300, 2).__enter__()
    signal.signal(signal.SIGINT, before)
    assert steps == ["started", "ended"]


def test_a_cluster_of_this_machine_is_not_reached_from_others() -> None:
    code = (
        "from peft_dml_tools.fleet import cluster\n"
        "def start(ray, *, owned, **options):\n"
        "    print(ray._private.services.resolve_ip_for_localhost(options['_node_ip_address']))\n"
        "cluster._initialised = start\n"
        "with cluster.connected('local', 300, 1):\n"
        "    pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "127.0.0.1\n", "Ray would listen on the network"


def test_no_cluster_at_the_address() -> None:
    command = [sys.executable, "-m", "peft_dml_ros.cli.main", "fleet", "mine", ".", "--address", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "no Ray cluster there" in done.stderr
    assert "fix: start one" in done.stderr
