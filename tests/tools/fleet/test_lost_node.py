# SPDX-License-Identifier: Apache-2.0
"""A node of a cluster dies in the middle of a run; a run is interrupted. In a process of its own: Ray keeps one cluster
a process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.drive_bag import make_drive_bag
from tests.support.random_bundle import make_random_bundle

pytest.importorskip("ray")
pytestmark = pytest.mark.alone  # Ray takes all cores

DRIVES = 24
LOST_NODE = """
import json, sys, time
from ray.cluster_utils import Cluster
import ray
from tests.support.fleet import settings as _settings
from peft_dml_tools.fleet.cluster import connected
from peft_dml_tools.fleet.drives import expand
from peft_dml_tools.fleet.running import FleetRun

one = {"num_cpus": 1, "node_ip_address": "127.0.0.2"}  # Ray takes 127.0.0.1 for "this host, seen from others"
nodes = Cluster(initialize_head=True, head_node_args={**one, "include_dashboard": False})
second = nodes.add_node(**one)
nodes.wait_for_nodes()
folder, bundle, out = sys.argv[1:]
with connected(nodes.address, 300) as cluster:
    job, outcomes, killed = FleetRun(cluster, _settings(out, bundle, 0.0), expand([folder])), [], False

    def kill_in_the_middle():
        global killed
        if not killed and len(outcomes) >= 3:
            nodes.remove_node(second, allow_graceful=False)
            killed = True

    for outcome in job.outcomes(kill_in_the_middle):
        outcomes.append(outcome)
    # The drives may be done before Ray's head has missed enough of the node's heartbeats.
    deadline = time.monotonic() + 60
    while cluster.nodes > 1 and time.monotonic() < deadline:
        time.sleep(0.2)
    print(json.dumps({"killed": killed, "states": [[o.drive.name, o.state] for o in outcomes], "nodes": cluster.nodes}))
nodes.shutdown()
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return make_random_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for number in range(DRIVES):
        make_drive_bag(folder / f"drive{number:02d}.mcap", 1000 + 20 * number, 200)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lost_node_loses_no_drive_and_counts_none_twice(many, bundle, tmp_path) -> None:
    command = [sys.executable, "-c", LOST_NODE, str(many), str(bundle), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=550)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"killed"')))
    assert found["killed"]
    assert found["nodes"] == 1
    assert sorted(found["states"]) == [[f"drive{n:02d}", "done"] for n in range(DRIVES)]
    assert len(list((tmp_path / "out" / "drives").iterdir())) == DRIVES


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_interrupt_leaves_what_is_done_and_the_same_command_goes_on(many, bundle, tmp_path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "peft_dml_ros.cli.main", "fleet", "run", str(many), "--out", str(out)]
    command += ["--bundle", str(bundle), "--workers", "2", "--memory-mb", "300"]
    # What starts in a shell's background ignores Ctrl-C, unless it says otherwise.
    usual = (
        "import signal, os, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", usual, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and len(list(out.glob("drives/*"))) < 2:
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGINT)
    words, _ = first.communicate(timeout=120)
    assert first.returncode == 130, words
    assert "the same command goes on." in " ".join(words.split())
    before = json.loads((out / "fleet.json").read_text())
    assert 1 <= before["done"] < DRIVES
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
    assert second.returncode == 0, second.stdout + second.stderr
    after = json.loads((out / "fleet.json").read_text())
    assert (after["done"] + after["kept"], after["failed"]) == (DRIVES, 0)
    assert after["kept"] >= before["done"]
