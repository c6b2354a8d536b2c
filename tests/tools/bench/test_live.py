# SPDX-License-Identifier: Apache-2.0
"""The live benchmark's figures follow from its records; a short real run has all of them, and its books balance."""

import json
import os
import subprocess
import sys

import pytest

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.bench.live import (
    ALL,
    QUICK,
    SUBSETS,
    LivePlan,
    beyond_engines,
    cpu_pct,
    frame_books,
    live_report,
    memory_figures,
    message_books,
    slowest,
)
from peft_dml_tools.bench.live_records import Frame, LiveRecords, Sample, Stretch, read_records
from tests.support.random_bundle import make_random_bundle

MS = 1_000_000
S = 1_000_000_000
SEEING = ("lidar", "camera", "radar", "imu", "gnss")


def frame(stamp_ns, *, present=SEEING, latency_ms=100.0, triggered=1, published=1, drops=None):
    """80 ms in engines, 20 ms elsewhere, of which 6 ms until the measurement arrived, 1 ms of it the driver's."""
    stages = {"arrival": 6.0, "wait": 1.0, "inputs": 8.0, "lidar": 30.0, "camera": 40.0, "fusion": 10.0}
    stages |= {"decode": 1.0, "publish": latency_ms - 96.5}
    return Frame(stamp_ns, present, 5, latency_ms, 1.0, latency_ms + 1, stages, triggered, published, drops or {})


def records(frames=(), stretches=(), samples=(), sent=None, received=None, admitted=None):
    return LiveRecords(
        {"configure": 2.0, "activate": 0.1},
        tuple(stretches),
        tuple(frames),
        sent or {},
        received or {},
        admitted or {},
        3.0,
        tuple(samples),
    )


@pytest.fixture
def steady():
    """Twelve seconds at 10 Hz, then a second and a half without LiDAR; every hundredth frame takes twice as long."""
    stretches = (Stretch(ALL, (), 0, 12 * S), Stretch("no LiDAR", ("lidar",), 12 * S, 15 * S))
    frames = [frame(i * 100 * MS, latency_ms=200.0 if i % 100 == 50 else 100.0) for i in range(120)]
    # The last sweep of the LiDAR is still in the first frames after it fell silent.
    frames += [frame(12 * S + i * 100 * MS, present=SEEING if i < 13 else SEEING[1:]) for i in range(30)]
    samples = [Sample(i * S, 0.6 * i, 400.0 + (2.0 if i > 5 else 0.0)) for i in range(16)]
    return records(frames, stretches, samples)


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
    parts = beyond_engines([frame(0), frame(1, latency_ms=110.0)])
    assert parts["driver"] == 1.0
    assert parts["transport"] == 5.0
    assert parts["publish"] == 8.5
    assert parts["sum"] == 25.0 == pytest.approx(sum(v for k, v in parts.items() if k != "sum"))


def test_the_slowest_hundredth_is_told_apart(steady):
    found = slowest(steady)
    assert (found["frames"], found["ratio_from"]) == (1, 2.5)
    assert found["beyond_engines_ms"]["sum"] == pytest.approx(120)
    assert slowest(records(stretches=[Stretch(ALL, (), 0, S)])) == {}


def test_a_frame_that_vanished_is_missed():
    quiet = {"present": ("imu",), "triggered": 12, "published": 10}
    assert frame_books([frame(0), frame(S, **quiet, drops={"frame: superseded": 2})])["unaccounted"] == 0
    lost = frame_books([frame(0), frame(S, **quiet, drops={"frame: superseded": 1})])
    assert lost["unaccounted"] == 1
    assert lost["drops"] == {"frame: superseded": 1}
    # While one status is written, another frame may wait in the slot.
    busy = frame(S, present=("imu",), triggered=13, published=11, drops={"frame: superseded": 1})
    assert frame_books([busy, frame(S, **quiet, drops={"frame: superseded": 2})])["unaccounted"] == 0
    assert frame_books([])["unaccounted"] == 1


def test_every_message_is_lost_in_transport_admitted_dropped_or_missed():
    last = frame(0, drops={"IMU: too old": 3, "LIDAR_TOP: malformed": 1, "LIDAR_TOP: points not finite": 700})
    books = message_books(
        records(
            [last],
            sent={"IMU": 100, "LIDAR_TOP": 20},
            received={"IMU": 98, "LIDAR_TOP": 20},
            admitted={"IMU": 95, "LIDAR_TOP": 18},
        )
    )
    assert (books["lost_in_transport"], books["unaccounted"]) == (2, 1)
    assert books["by_sensor"]["LIDAR_TOP"]["dropped"] == {"malformed": 1}
    assert books["by_sensor"]["IMU"]["unaccounted"] == 0


def test_growth_begins_after_the_warm_up():
    stretch = Stretch(ALL, (), 0, 100 * S)
    warming = [Sample(i * S, 0.0, 300.0 + min(i, 20) * 5) for i in range(101)]
    assert memory_figures(warming, stretch)["growth_pct"] == 0.0
    leaking = [Sample(i * S, 0.0, 400.0 + i) for i in range(101)]
    assert memory_figures(leaking, stretch)["growth_pct"] == pytest.approx(100 * (496.5 / 423.5 - 1), abs=0.2)
    assert memory_figures(leaking[:1], stretch) == {}
    assert cpu_pct(leaking[:1], 0, 100 * S) is None


def test_plan_is_the_minutes_with_all_sensors_and_the_subsets():
    plan = LivePlan(minutes=10)
    stretches = plan.stretches()
    assert [s["name"] for s in stretches] == list(SUBSETS) == [ALL, "no LiDAR", "no camera", "radar only"]
    assert stretches[0] == {"name": ALL, "seconds": 600, "silent": []}
    assert plan.seconds == 690


def test_a_drive_that_was_cut_short_is_told(tmp_path):
    path = tmp_path / "seen.jsonl"
    path.write_text(json.dumps({"kind": "start", "at_ns": 1}) + "\n")
    with pytest.raises(DataError, match="lacks books, end"):
        read_records(path, [])


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
    assert report["memory"]["peak_mb"] >= report["memory"]["max_mb"] - 1
    assert report["start_to_active_s"] > report["configure_to_active_s"]
    assert set(whole["stages_ms"]) >= {"arrival", "wait", "inputs", "lidar", "camera", "radar", "fusion", "publish"}
    assert whole["cpu_pct"] > 0
    assert report["frames"]["unaccounted"] == report["messages"]["unaccounted"] == 0
    assert report["frames"]["published"] > whole["frames"]
    imu = report["messages"]["by_sensor"]["IMU"]
    assert imu["sent"] == pytest.approx(100 * QUICK.seconds, rel=0.05)
    assert report["memory"]["max_mb"] > 100
    assert report["configure_to_active_s"] == pytest.approx(sum(report["transitions_s"].values()), abs=1e-3)
