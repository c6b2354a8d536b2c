# SPDX-License-Identifier: Apache-2.0
"""The worker takes the newest job, hands back what it skipped, and survives what its work raises."""

import threading
import time

from peft_dml_ros.nodes.frame_loop import LatestWorker


def test_the_newest_job_wins_and_the_skipped_one_comes_back():
    done, gate, started = [], threading.Event(), threading.Event()

    def work(job):
        started.set()
        gate.wait(5)
        done.append(job)

    worker = LatestWorker(work, on_error=done.append)
    assert worker.submit("first") is None
    assert started.wait(5)
    assert worker.submit("second") is None
    assert worker.submit("third") == "second"
    gate.set()
    deadline = time.monotonic() + 5
    while len(done) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert worker.close()
    assert done == ["first", "third"]


def test_a_job_that_waits_can_be_taken_back():
    started, gate = threading.Event(), threading.Event()

    def work(job):
        started.set()
        assert gate.wait(5)

    worker = LatestWorker(work, on_error=lambda error: None)
    worker.submit("at work")
    assert started.wait(5)
    assert worker.withdraw() is None
    worker.submit("waits")
    assert worker.withdraw() == "waits"
    gate.set()
    assert worker.close()


def test_an_error_is_reported_and_the_next_job_runs():
    errors, done = [], threading.Event()

    def work(job):
        if job == "bad":
            raise ValueError("no good")
        done.set()

    worker = LatestWorker(work, errors.append)
    worker.submit("bad")
    deadline = time.monotonic() + 5
    while not errors and time.monotonic() < deadline:
        time.sleep(0.005)
    worker.submit("good")
    assert done.wait(5)
    assert worker.close()
    assert [str(e) for e in errors] == ["no good"]
