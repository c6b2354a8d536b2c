# SPDX-License-Identifier: Apache-2.0
"""The live benchmark's figures follow from its records; a short real run has all of them, and its counts add up."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.bench.live import (
    ALL,
    QUICK,
    SUBSETS,
    DriveSection,
    LivePlan,
    LiveRun,
    beyond_engines,
    given_up,
    live_report,
    memory_figures,
    message_figures,
    slowest,
)
from peft_dml_tools.bench.live_run import CONDITIONS, require_room
from peft_dml_tools.datasets.bags import write_bag
from peft_dml_tools.live.accounting import frame_account
from peft_dml_tools.live.frame_status import FrameStatus, SensorStatus
from peft_dml_tools.live.observed_drive import Observation
from peft_dml_tools.live.process_monitor import ProcessSample, cpu_pct
from tests.support.made_source import MadeSource, pose, sweep
from tests.support.random_bundle import make_random_bundle

MS = 1_000_000
S = 1_000_000_000
SEEING = ("lidar", "camera", "radar", "imu", "gnss")


def frame(stamp_ns, *, present=SEEING, latency_ms=100.0, triggered=1, published=1, waiting=0, drops=None, sensors=None):
    """80 ms in engines, 20 ms elsewhere, of which 6 ms until the measurement arrived, 1 ms of it the vehicle's."""
    stages = {"arrival": 6.0, "wait": 1.0, "inputs": 8.0, "lidar": 30.0, "camera": 40.0, "fusion": 10.0}
    stages |= {"decode": 1.0, "publish": latency_ms - 96.5}
    values = {"reference": "LIDAR_TOP", "boxes": 5, "latency_ms": latency_ms}
    values |= {"frames.triggered": triggered, "frames.published": published, "frames.waiting": waiting}
    values |= {f"mask.{m}": 1 for m in present} | {f"stage_ms.{k}": v for k, v in stages.items()}
    values |= {f"drops.{reason}": n for reason, n in (drops or {}).items()}
    texts = {k: str(v) for k, v in values.items()}
    return FrameStatus(stamp_ns, stamp_ns, says_blind=False, values=texts, sensors=sensors or {})


def observed(frames=(), sent=None):
    return Observation(0, 2**62, tuple(frames), {f.stamp_ns: f.stamp_ns + 101 * MS for f in frames}, sent or {},
        {("LIDAR_TOP", f.stamp_ns): f.stamp_ns + MS for f in frames}, 3.0)  # fmt: skip


def live_run(frames=(), stretches=(), samples=(), sent=None):
    return LiveRun(tuple(stretches), observed(frames, sent), {"node": samples}, {"configure": 2.0, "activate": 0.1})


@pytest.fixture
def steady():
    """Twelve seconds at 10 Hz, then three without LiDAR; every hundredth frame takes twice as long."""
    stretches = (DriveSection(ALL, (), 0, 12), DriveSection("no LiDAR", ("lidar",), 12, 15))
    frames = [frame(i * 100 * MS, latency_ms=200.0 if i % 100 == 50 else 100.0) for i in range(120)]
    # The last sweep of the LiDAR is still in the first frames after it fell silent.
    frames += [frame(12 * S + i * 100 * MS, present=SEEING if i < 13 else SEEING[1:]) for i in range(30)]
    samples = [ProcessSample(i * S, 0.6 * i, 400.0 + (2.0 if i > 5 else 0.0)) for i in range(16)]
    return live_run(frames, stretches, samples)


def test_ratio_pace_and_load_follow_from_the_frames(steady):
    figures = live_report(steady)["stretches"]
    assert figures[ALL]["overhead_ratio"]["p50"] == pytest.approx(100 / 80)
    assert figures[ALL]["overhead_ratio"]["max"] == pytest.approx(200 / 80)
    assert figures[ALL]["hz"] == figures[ALL]["hz_worst_window"] == 10.0
    assert figures[ALL]["cpu_pct"] == pytest.approx(60)
    assert figures[ALL]["latency_ms"]["p50"] == 100.0
    assert figures[ALL]["to_subscriber_ms"]["p50"] == 101.0
    assert figures["no LiDAR"]["frames"] == 17
    assert figures["no LiDAR"]["hz_worst_window"] is None


def test_parts_beyond_the_engines_add_up():
    frames = [frame(0), frame(1, latency_ms=110.0)]
    parts = beyond_engines(live_run(frames), frames)
    assert parts["driver"] == 1.0
    assert parts["transport"] == 5.0
    assert parts["publish"] == 8.5
    assert parts["sum"] == 25.0 == pytest.approx(sum(v for k, v in parts.items() if k != "sum"))


def test_the_slowest_hundredth_is_shown_apart(steady):
    found = slowest(steady)
    assert (found["frames"], found["ratio_from"]) == (1, 2.5)
    assert found["beyond_engines_ms"]["sum"] == pytest.approx(120)
    assert slowest(live_run(stretches=[DriveSection(ALL, (), 0, 1)])) == {}


def test_what_the_node_gave_up_is_counted_by_frame():
    frames = [replace(frame(i), given_up=("cameras at 5 Hz", "radars at 5 Hz")[: i % 3]) for i in range(30)]
    assert given_up(frames) == {"cameras at 5 Hz": 0.667, "radars at 5 Hz": 0.333}
    assert given_up([]) == {}


def test_a_frame_that_vanished_is_missed():
    quiet = {"present": ("imu",), "triggered": 12, "published": 10}
    assert frame_account([frame(0), frame(S, **quiet, drops={"frame: superseded": 2})])["unaccounted"] == 0
    lost = frame_account([frame(0), frame(S, **quiet, drops={"frame: superseded": 1})])
    assert lost["unaccounted"] == 1
    assert lost["drops"] == {"frame: superseded": 1}
    # While one status is written, another frame may wait in the slot.
    busy = {"triggered": 13, "published": 11, "drops": {"frame: superseded": 1}}
    assert frame_account([frame(S, **busy, waiting=1)])["unaccounted"] == 0
    assert frame_account([frame(S, **busy)])["unaccounted"] == 1
    assert frame_account([])["unaccounted"] == 1


def test_every_message_is_lost_in_transport_admitted_dropped_or_missed():
    drops = {"IMU: too old": 3, "LIDAR_TOP: malformed": 1, "LIDAR_TOP: points not finite": 700}
    sensors = {"IMU": SensorStatus("OK", "", 98, 95, 0), "LIDAR_TOP": SensorStatus("OK", "", 20, 18, 0)}
    found = message_figures(observed([frame(0, drops=drops, sensors=sensors)], {"IMU": 100, "LIDAR_TOP": 20}))
    assert (found["lost_in_transport"], found["unaccounted"]) == (2, 1)
    assert found["by_sensor"]["LIDAR_TOP"]["dropped"] == {"malformed": 1}
    assert found["by_sensor"]["IMU"]["unaccounted"] == 0


def test_growth_begins_after_the_warm_up():
    warming = [ProcessSample(i * S, 0.0, 300.0 + min(i, 20) * 5) for i in range(101)]
    assert memory_figures(warming, 0, 100 * S)["growth_pct"] == 0.0
    leaking = [ProcessSample(i * S, 0.0, 400.0 + i) for i in range(101)]
    assert memory_figures(leaking, 0, 100 * S)["growth_pct"] == pytest.approx(100 * (496.5 / 423.5 - 1), abs=0.2)
    assert memory_figures(leaking[:1], 0, 100 * S) == {}
    assert cpu_pct(leaking[:1], 0, 100 * S) is None


def test_plan_is_the_minutes_with_all_sensors_and_the_subsets():
    plan = LivePlan(minutes=10)
    stretches = plan.stretches()
    assert [s.name for s in stretches] == list(SUBSETS) == [ALL, "no LiDAR", "no camera", "radar only"]
    assert stretches[0] == DriveSection(ALL, (), 0.0, 600.0)
    assert plan.seconds == 690
    assert [(f.sensor, f.from_s, f.to_s) for f in plan.faults][:2] == [("lidar", 600, 630), ("camera", 630, 660)]


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_run_has_every_figure_and_its_books_balance(tmp_path):
    pytest.importorskip("embreex")
    bundle, out = make_random_bundle(tmp_path / "random"), tmp_path / "live.json"
    domain = str(100 + int(os.environ["ROS_DOMAIN_ID"]) % 100)
    command = ["bench", "live", "--quick", "--bundle", str(bundle), "--out", str(out), "--domain-id", domain]
    run = subprocess.run(
        [sys.executable, "-m", "peft_dml_ros.cli.main", *command],
        check=False,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    report = json.loads(out.read_text())
    assert set(report["stretches"]) == set(SUBSETS)
    whole = report["stretches"][ALL]
    # Only the sums are of worth on a busy machine.
    assert whole["frames"] > 0
    assert whole["overhead_ratio"]["p50"] > 0
    assert report["profile"]["slowest_percent"]["frames"] >= 1
    assert set(report["profile"]["cpu_pct"]) == {"executor", "middleware", "detection"}
    assert report["profile"]["cpu_pct"]["detection"] > 0
    assert report["start_to_active_s"] > report["configure_to_active_s"]
    assert set(whole["stages_ms"]) >= {"arrival", "wait", "inputs", "lidar", "camera", "radar", "fusion", "publish"}
    assert whole["cpu_pct"] > 0
    assert set(report["conditions"]) == set(CONDITIONS)
    for condition, (everything, _) in CONDITIONS.items():
        load = report["conditions"][condition]["cpu_pct_by_process"]
        assert set(load) == {"node", "recorder", "replay"}
        assert load["node"] > 0, condition
        assert report["conditions"][condition]["runs"].startswith("random 0.0, "), condition
        assert everything or load["recorder"] < load["node"]
    assert report["frames"]["unaccounted"] == report["messages"]["unaccounted"] == 0
    assert report["frames"]["published"] > whole["frames"]
    imu = report["messages"]["by_sensor"]["IMU"]
    assert imu["sent"] == pytest.approx(100 * QUICK.seconds, rel=0.05)
    assert report["memory"]["max_mb"] > 100
    assert report["configure_to_active_s"] == pytest.approx(sum(report["transitions_s"].values()), abs=1e-3)


def test_a_recording_that_would_fill_the_disk_is_refused_with_figures(tmp_path, monkeypatch):
    stamps = [10**18 + i * 10**8 for i in range(11)]
    bag = write_bag(MadeSource([*map(sweep, stamps), *(pose(s, 0.0) for s in stamps)]), tmp_path / "drive.mcap")
    size = bag.stat().st_size
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 601 * size))
    require_room(bag, 600.0, tmp_path)
    with pytest.raises(ConfigError, match=r"GB free, the recording of 602 s takes .* fix: make room there"):
        require_room(bag, 602.0, tmp_path)
