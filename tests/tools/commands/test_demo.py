# SPDX-License-Identifier: Apache-2.0
import gc
import json
import os
import re
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import Reader
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_tools.datasets.bags import BagSource, write_bag
from peft_dml_tools.demo import drive as demo_drive
from peft_dml_tools.live.children import Child
from peft_dml_tools.live.environment import PROFILE, alone_in, ros_environment, shared_file
from peft_dml_tools.sim.drive import Drive, DriveSpec
from tests.support.drive_bag import MadeUpDrive
from tests.tools.commands.conftest import DRIVE_S


@pytest.mark.ros
@pytest.mark.alone
def test_demo_over_dds(bag, bundle, tmp_path):
    out = tmp_path / "demo_out"
    options = ["--source", bag, "--bundle", bundle, "--out", out, "--seconds", DRIVE_S]
    arguments = ["demo", *map(str, options), "--domain-id", os.environ["ROS_DOMAIN_ID"]]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["frames_expected"] == round(DRIVE_S * 10) + 1
    assert metrics["frames_published"] <= metrics["frames_expected"]
    # Empty frames that were sent while the node waited for its sensors are no frames of the drive.
    (shown,) = re.findall(r"s, (\d+) frames published", done.output)
    assert abs(int(shown) - metrics["frames_published"]) <= 4
    # The frame rate on a shared machine is no matter of this test; that frames survive the faults is.
    assert metrics["frames_published"] >= 0.5 * metrics["frames_expected"]
    assert metrics["frames_published_lidar_out"] >= 1
    assert metrics["latency_ms"]["p50"] > 0
    assert metrics["cores"]["node"] > metrics["cores"]["recorder"] > 0
    late = metrics["frames_published"] < 0.95 * metrics["frames_expected"]
    assert ("This machine was too slow" in done.output) == late
    assert metrics["sensors"]["LIDAR_TOP"]["gated"] >= 1
    assert metrics["sensors"]["RADAR_FRONT_LEFT"]["reasons"].get("frozen", 0) >= 1
    assert (out / "report.html").stat().st_size < 15e6
    with Reader(out / "detections.mcap") as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    assert counts["/tf_static"] >= 1
    for topic in ("/perception/detections", "/perception/markers", "/diagnostics", "/lidar_top/points", "/imu/data"):
        assert counts[topic] >= 1, topic
    assert counts["/cam_front/image/compressed"] >= 5


@pytest.mark.ros
@pytest.mark.alone
def test_demo_of_a_foreign_bag_with_raw_images(bundle, tmp_path):
    """Topics of another maker, images uncompressed, cut off at the end: the session is as of any other source."""

    class Raw(MadeUpDrive):
        def measurements(self):
            for name, measurement in super().measurements():
                raw = CameraImage(measurement.stamp_ns, pixels=np.zeros((198, 352, 3), np.uint8))
                yield name, raw if name == "CAM_FRONT" else measurement

    bag = write_bag(Raw(2500, 20_000), tmp_path / "foreign.mcap", preset="autoware")
    bag.write_bytes(bag.read_bytes()[:-1_500_000])
    out = tmp_path / "out"
    options = ["--source", bag, "--bundle", bundle, "--out", out, "--seconds", 2, "--no-faults"]
    done = CliRunner().invoke(app, ["demo", *map(str, options), "--domain-id", os.environ["ROS_DOMAIN_ID"]])
    assert done.exit_code == 0, done.output
    sensors = json.loads((out / "metrics.json").read_text())["sensors"]
    assert sensors["LIDAR_TOP"]["received"] >= 10
    assert sensors["CAM_FRONT"]["received"] >= 10


def test_a_longer_drive_than_memory_is_sure_to_hold_is_refused():
    done = CliRunner().invoke(app, ["demo", "--seconds", "61"])
    assert done.exit_code == 2
    assert "60" in done.output


class Steps:
    """Keeps the calls that it gets."""

    def __init__(self):
        self.counts = []

    def begin(self, name, total=None, words=""):
        assert total

    def step(self, completed, words=""):
        self.counts.append(completed)

    def finish(self, words=None):
        assert "measurements" in words


def test_a_drive_is_written_as_it_is_rendered(tmp_path, monkeypatch):
    """Only the sweeps of the last events are alive: memory does not grow with the drive."""
    alive: list[weakref.ref] = []

    class Thin(Drive):
        def __init__(self, seed, duration_s, *, workers):
            super().__init__(seed, duration_s, DriveSpec(camera_hz=2.0, image_width_px=64), workers=1)

        def measurements(self):
            for name, measurement in super().measurements():
                if name == "LIDAR_TOP":
                    gc.collect()
                    assert sum(reference() is not None for reference in alive) <= 8
                    alive.append(weakref.ref(measurement.points))
                yield name, measurement

    monkeypatch.setattr(demo_drive, "Drive", Thin)
    steps = Steps()
    path, source = demo_drive.simulate(3, 1.5, tmp_path, steps)
    assert len(alive) >= 15
    assert BagSource(path).truth.keys() == source.truth.keys()
    assert steps.counts == sorted(steps.counts)
    assert len(steps.counts) >= 5


def test_a_missing_bundle_is_told_before_anything_starts(tmp_path):
    done = CliRunner().invoke(app, ["demo", "--bundle", "no-such-bundle", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "no-such-bundle" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", "detections.mcap"])
def test_a_session_is_not_played_over_its_own_recording(bundle, tmp_path, name):
    kept = tmp_path / "detections.mcap"
    kept.write_bytes(b"a recording")
    done = CliRunner().invoke(
        app, ["demo", "--source", str(tmp_path / name), "--out", str(tmp_path), "--bundle", str(bundle)]
    )
    assert done.exit_code == 2, done.output
    assert "--out" in done.output
    assert kept.read_bytes() == b"a recording"


def test_a_session_does_not_remove_the_files_of_others(bundle, tmp_path):
    (tmp_path / "report.html").write_text("of my thesis")
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--bundle", str(bundle)])
    assert done.exit_code == 2, done.output
    assert "holds files of something else; fix: " in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_two_sessions_do_not_share_a_domain(bundle, tmp_path):
    with alone_in(231):
        arguments = ["demo", "--domain-id", "231", "--out", str(tmp_path / "out"), "--bundle", str(bundle)]
        done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "--domain-id" in done.output
    with alone_in(231):
        pass


def test_a_session_does_not_remove_the_recording_of_one_that_runs(bundle, tmp_path):
    recording = tmp_path / "detections.mcap"
    recording.write_bytes(b"of another session")
    with alone_in(231, tmp_path):
        arguments = ["demo", "--domain-id", "230", "--out", str(tmp_path / "." / ""), "--bundle", str(bundle)]
        done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert f"another demo writes to {tmp_path}" in " ".join(done.output.split())
    assert recording.read_bytes() == b"of another session"


@pytest.mark.ros
def test_a_terminated_demo_leaves_no_process_behind(bag, bundle, tmp_path):
    options = [
        "--source",
        bag,
        "--bundle",
        bundle,
        "--out",
        tmp_path / "out",
        "--domain-id",
        os.environ["ROS_DOMAIN_ID"],
    ]
    command = [sys.executable, "-m", "peft_dml_ros.cli.main", "demo", *map(str, options)]
    demo = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children")
    limit_s = time.monotonic() + 90
    while len(nodes := children.read_text().split()) < 2:
        assert time.monotonic() < limit_s
        time.sleep(0.05)
    time.sleep(1.0)
    demo.terminate()
    _, said = demo.communicate(timeout=40)
    assert demo.returncode == 143, said
    assert "Traceback" not in said
    assert not [pid for pid in nodes if Path(f"/proc/{pid}").exists()]


def test_the_last_words_of_a_child_are_kept():
    child = Child("x", "json.tool", ["no-such-file.json"], {})
    assert child.wait(20)
    assert child.code != 0
    assert "no-such-file.json" in child.last_words


def test_json_lines_of_a_child_are_followed(tmp_path):
    module = tmp_path / "talker.py"
    module.write_text(
        "import json, signal, sys\n"
        "print(json.dumps({'event': 'ready', 'n': 3}), flush=True)\n"
        "print('plain words', flush=True)\n"
        "signal.sigwait([signal.SIGINT])\n"
        "print(json.dumps({'event': 'done', 'n': 4}), flush=True)\n"
    )
    # Blocked here, so that the child is not ended by the signal before it waits for it.
    code = "import runpy, signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]); runpy.run_path(r'%s')"
    (tmp_path / "wrapped.py").write_text(code % module)
    child = Child("talker", "wrapped", [], {"PYTHONPATH": str(tmp_path)})
    assert not child.wait(1.0)
    assert child.stop() == 0
    assert child.value("ready", "n") == 3
    assert child.value("done", "n") == 4
    assert child.last_words == "plain words"


def test_nodes_stay_on_this_host_unless_told_otherwise(tmp_path):
    closed = ros_environment(77, "LOCALHOST", tmp_path)
    assert closed["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert closed["ROS_DOMAIN_ID"] == "77"
    assert "ROS_AUTOMATIC_DISCOVERY_RANGE" not in ros_environment(77, "SYSTEM_DEFAULT", tmp_path)


def test_the_transport_profile_is_found():
    path = shared_file("config", PROFILE)
    assert path is not None
    assert "segment_size" in path.read_text()
