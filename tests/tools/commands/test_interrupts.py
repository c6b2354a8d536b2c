# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C as a terminal sends it, to every process of a command: a word, exit status 130, and nothing left over."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from tests.support.drive_bag import make_drive_bag
from tests.support.foxglove_client import watch

LIMIT_S = 120.0


@pytest.fixture(scope="module")
def long_bag(tmp_path_factory):
    return make_drive_bag(tmp_path_factory.mktemp("bag") / "drive.mcap", 20_000, lidar_points=500)


def in_session(leader):
    """Ids of the processes that a command started, itself and its children's included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


@contextmanager
def started(log, *arguments):
    """A command as its console script runs it, in a terminal session of its own; killed at the end if it still runs."""
    command = [sys.executable, "-c", "from peft_dml_ros.cli.main import app; app()", *map(str, arguments)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        for pid in in_session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def interrupt(process, log, until):
    """Wait for a condition, press Ctrl-C; return what the command said."""
    limit = time.monotonic() + LIMIT_S
    while not until():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130, log.read_text()
    # The helper of multiprocessing ends by itself, once it has seen that its parent is gone.
    while in_session(process.pid):
        assert time.monotonic() < limit + 10, in_session(process.pid)
        time.sleep(0.05)
    text = log.read_text()
    assert "Traceback" not in text
    return " ".join(text.split())


def test_run_keeps_the_boxes_so_far(long_bag, bundle, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    with started(log, "run", long_bag, "--bundle", bundle, "--out", out) as process:
        boxes = out / "boxes.jsonl"
        text = interrupt(process, log, lambda: boxes.exists() and boxes.stat().st_size > 0)
    count = len(boxes.read_text().splitlines())
    assert count > 0
    assert f"Interrupted: the boxes of {count} frames are in {boxes}; the same command starts from the begin" in text
    assert not (out / "report.html").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_simulate_leaves_a_data_set_and_goes_on(tmp_path, workers):
    out, log = tmp_path / "data", tmp_path / "log"
    command = ["simulate", "--out", out, "--scenes", 3, "--seconds", 1.5, "--image-width", 64, "--lidar-hz", 2]
    command += ["--splits", "1,0,0", "--workers", workers]
    with started(log, *command) as process:
        text = interrupt(process, log, lambda: any(out.glob("*/scenes/*.json")))
    count = len(list(out.glob("*/scenes/*.json")))
    assert f"Interrupted: {count} of 3 scenes are in {out}; the same command goes on." in text
    assert len(NuScenesReader(out).scenes) == count
    done = CliRunner().invoke(app, list(map(str, command)))
    assert done.exit_code == 0, done.output
    assert len(NuScenesReader(out).scenes) == 3


def test_simulate_without_a_scene_says_so(tmp_path):
    out, log = tmp_path / "data", tmp_path / "log"
    with started(log, "simulate", "--out", out, "--scenes", 1, "--seconds", 20) as process:
        text = interrupt(process, log, lambda: any(out.glob("*/simulate.json")))
    assert f"Interrupted: 0 of 1 scenes are in {out}; the same command goes on." in text


@pytest.mark.ros
def test_replay_says_how_to_go_on(long_bag, tmp_path):
    log = tmp_path / "log"
    with started(log, "replay", long_bag) as process:
        text = interrupt(process, log, lambda: "plays" in log.read_text())
    assert "stopped: " in text
    assert "Interrupted: the recording was not played to its end" in text


@pytest.mark.ros
@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_demo_ends_all_its_nodes_whenever_it_comes(long_bag, bundle, tmp_path, nodes):
    log = tmp_path / "log"
    options = ["--bundle", bundle, "--out", tmp_path / "out", "--domain-id", os.environ["ROS_DOMAIN_ID"]]
    with started(log, "demo", "--source", long_bag, *options) as process:
        begin = time.monotonic()
        text = interrupt(process, log, lambda: len(in_session(process.pid)) > nodes)
        assert time.monotonic() - begin < LIMIT_S
    assert "Interrupted: " in text
    assert text.endswith("the same command starts from the beginning.")


@pytest.mark.ros
def test_the_demo_is_seen_live_while_it_drives(long_bag, bundle, tmp_path):
    pytest.importorskip("foxglove", reason="no foxglove-sdk: pip install 'peft_dml_ros[view]'")
    log, wanted = tmp_path / "log", ["/perception/detections", "/lidar_top/points", "/perception/status"]
    options = ["--bundle", bundle, "--out", tmp_path / "out", "--domain-id", os.environ["ROS_DOMAIN_ID"]]
    options += ["--view", "--port", "0"]
    with started(log, "demo", "--source", long_bag, *options) as process:
        limit = time.monotonic() + LIMIT_S
        while not (address := re.search(r"or (ws://127\.0\.0\.1:[1-9]\d+) in", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < limit, log.read_text()
            time.sleep(0.1)
        _, found = watch(address[1], wanted, limit_s=LIMIT_S)
        assert set(found) == set(wanted)
        assert "Interrupted: " in interrupt(process, log, lambda: True)
