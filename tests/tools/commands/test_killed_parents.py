# SPDX-License-Identifier: Apache-2.0
"""A command that is killed cannot stop its processes: they end by themselves, with their files closed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from peft_dml_tools.datasets.bag_storage import BagStorage
from peft_dml_tools.live import ends_with_parent
from tests.tools.commands.test_interrupts import in_session, started

LIMIT_S = 120.0


def wait_until(condition, what, limit_s=LIMIT_S):
    limit = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < limit, what()
        time.sleep(0.05)


def kill(process, log, until):
    """Wait for a condition, end the command alone with signal 9, and wait until none of its processes is left."""
    wait_until(lambda: process.poll() is not None or until(), log.read_text)
    assert process.poll() is None, log.read_text()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not in_session(process.pid), lambda: in_session(process.pid), 30.0)


def runs(command, module):
    """Whether a process of a command runs a module."""
    lines = (Path(f"/proc/{pid}/cmdline") for pid in in_session(command.pid))
    return any(module in line.read_text() for line in lines if line.exists())


@pytest.mark.ros
def test_the_nodes_of_a_demo_end_and_the_recording_is_closed(bag, bundle, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    recording = out / "detections.mcap"
    options = ["--bundle", bundle, "--out", out, "--domain-id", os.environ["ROS_DOMAIN_ID"]]
    with started(log, "demo", "--source", bag, *options) as process:
        kill(process, log, lambda: runs(process, "nodes.replay"))  # which starts once something is recorded
    assert BagStorage(recording).damage is None
    assert BagStorage(recording).connections


def test_the_renderers_of_a_drive_end(tmp_path):
    out, log = tmp_path / "data", tmp_path / "log"
    command = ["simulate", "--out", out, "--scenes", 4, "--seconds", 20, "--workers", 2]
    with started(log, *command) as process:
        # Two workers and the helper of multiprocessing.
        kill(process, log, lambda: len(in_session(process.pid)) > 3)


@contextmanager
def parent_of(module, grace_s):
    """A process that starts a module by `ends_with_parent.py` and sleeps; yields it, and the pid of the module."""
    file = ends_with_parent.__file__
    entry = f"import runpy; e = runpy.run_path({file!r}); e['main'].__globals__['GRACE_S'] = {grace_s}; e['main']()"
    code = f"""if True:
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", {entry!r}, {module!r}, "a b"], stdin=subprocess.PIPE)
        print(child.pid, flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        yield parent, int(parent.stdout.readline())
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


@pytest.mark.parametrize("heeds", [True, False])
def test_a_module_is_asked_to_end_and_then_ended(tmp_path, monkeypatch, heeds):
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    note = tmp_path / "note"
    (tmp_path / "waits.py").write_text(
        "import pathlib, signal, sys, time\n"
        f"note = pathlib.Path({str(note)!r})\n"
        "def close(*_):\n"
        "    note.write_text(f'{__name__}, {sys.argv[1]}, closed')\n"
        f"    {'sys.exit(0)' if heeds else 'pass'}\n"
        "signal.signal(signal.SIGTERM, close)\n"
        "note.write_text(sys.stdin.read() + 'ready')\n"
        "while True:\n"
        "    time.sleep(60)\n"
    )
    with parent_of("waits", 10.0 if heeds else 0.2) as (parent, pid):
        wait_until(lambda: note.exists() and note.read_text() == "ready", lambda: "it does not start")
        parent.kill()
        wait_until(lambda: not Path(f"/proc/{pid}/exe").exists(), lambda: "it still runs", 8.0)
        assert note.read_text() == "__main__, a b, closed"
