# SPDX-License-Identifier: Apache-2.0
"""A replay as a process: what it prints, what it notes, how it repeats a short drive, and how it ends."""

import json
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from peft_dml_ros.conversions.cdr import leading_stamp_ns
from peft_dml_tools.live.observed_drive import read_notes
from peft_dml_tools.nodes.recordings import open_recording
from peft_dml_tools.nodes.seamless_loop import SeamlessLoop
from peft_dml_tools.sim.faults import Fault, dump_faults
from tests.support.drive_bag import make_drive_bag
from tests.support.ros_processes import ros_process

REPLAY = "peft_dml_tools.nodes.replay"


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return make_drive_bag(tmp_path_factory.mktemp("bag") / "drive.mcap", 1500, lidar_points=500)


def test_a_short_drive_is_repeated_without_a_seam(bag):
    loop = SeamlessLoop(open_recording(bag))
    stamps = []
    for message in loop.messages():
        if message.time_ns - loop.start_ns > 3_500_000_000:
            break
        if message.topic == "/lidar_top/points":
            assert leading_stamp_ns(message.cdr) == message.time_ns
            stamps.append(message.time_ns)
    assert [b - a for a, b in pairwise(stamps)] == [100_000_000] * 35


@pytest.mark.ros
def test_people_read_log_lines_and_programs_json(bag, tmp_path):
    with ros_process(REPLAY, bag, "--rate", "20", log=tmp_path / "log") as process:
        assert process.wait(90) == 0
        assert process.events == []
        assert "plays" in process.text
        assert "played to the end" in process.text
    with ros_process(REPLAY, bag, "--rate", "20", "--json", log=tmp_path / "log") as process:
        assert process.wait(90) == 0
        assert [e["event"] for e in process.events if e["event"] != "progress"] == ["start", "done"]


@pytest.mark.ros
def test_notes_hold_what_was_sent_and_seconds_end_it(bag, tmp_path):
    script, notes = tmp_path / "faults.yaml", tmp_path / "notes.jsonl"
    script.write_text(dump_faults([Fault(sensor="lidar", fault="silence", from_s=1.0, to_s=2.0)]))
    options = ("--seamless", "--seconds", "3", "--notes", notes, "--faults", script, "--json")
    with ros_process(REPLAY, bag, *options, log=tmp_path / "log") as process:
        assert process.wait(90) == 0
        start = next(e for e in process.events if e["event"] == "start")
    sent, sent_ns, late_ms = read_notes(notes)
    assert (sent["LIDAR_TOP"], sent["IMU"]) == (20, 300)
    times = sorted(at for (sensor, _), at in sent_ns.items() if sensor == "LIDAR_TOP")
    assert len(times) == 20
    assert (times[-1] - times[0]) / 1e9 == pytest.approx(2.9, abs=0.5)
    assert start["duration_s"] == 3.0
    assert late_ms >= 0
    assert all(json.loads(line)["kind"] in {"sent", "end"} for line in notes.read_text().splitlines())


@pytest.mark.ros
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_inherited_ignored_interrupt_ends_it_all_the_same(bag, tmp_path):
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-m", REPLAY, str(bag), "--loop"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        limit = time.monotonic() + 90
        while "plays" not in (tmp_path / "log").read_text():
            assert time.monotonic() < limit
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.ros
def test_sensors_are_published_as_drivers_do(bag, ros_node, tmp_path):
    """Best effort, so that a subscriber which asks for reliable delivery is noticed here and not on the vehicle."""
    wanted = ("/lidar_top/points", "/cam_front/image/compressed", "/cam_front/camera_info", "/tf_static")

    def offered():
        return {topic: [i.qos_profile for i in ros_node.get_publishers_info_by_topic(topic)] for topic in wanted}

    with ros_process(REPLAY, bag, "--wait-for", "/lidar_top/points=9", log=tmp_path / "log") as process:
        limit = time.monotonic() + 60
        while not all(offered().values()):
            assert time.monotonic() < limit, (tmp_path / "log").read_text()
            time.sleep(0.05)
        *sensors, transforms = (profile for (profile,) in offered().values())
        process.stop()
    assert {p.reliability for p in sensors} == {ReliabilityPolicy.BEST_EFFORT}
    assert transforms.reliability == ReliabilityPolicy.RELIABLE
    assert transforms.durability == DurabilityPolicy.TRANSIENT_LOCAL
