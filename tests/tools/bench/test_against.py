# SPDX-License-Identifier: Apache-2.0
"""Two builds, or two bundles, are compared pair by pair; a short real comparison has every figure of both."""

import json
import math
import os
import subprocess
import sys

import pytest

from peft_dml_ros.core.errors import BundleError, ConfigError, DataError
from peft_dml_tools.bench import against
from peft_dml_tools.bench.against import (
    DIFFERENCES,
    RATIOS,
    Build,
    ComparisonPlan,
    change,
    compare_builds,
    compared,
    flat,
    sides,
)
from peft_dml_tools.bench.demo_session import DemoSession, demo_figures, figures
from peft_dml_tools.evaluation.student_interval import student_interval
from peft_dml_tools.live.process_monitor import ProcessSample
from tests.support.random_bundle import make_random_bundle

S = 1_000_000_000


def session(frames=100, p50=80.0, accuracy=0.7):
    shared = {"p95_ms": 120.0, "node_cpu_s_per_frame": 0.2, "recorder_replay_cores": 0.1}
    return {"frames": frames, "p50_ms": p50, "map_full": accuracy, **shared}


def test_ratios_are_taken_within_pairs():
    """The second pair ran on a busier machine: both sides are slower, their ratio is the same."""
    found = change([(100.0, 50.0), (200.0, 100.0), (120.0, 60.0)], ratio=True)
    assert found == {"ratio": 0.5, "low": 0.5, "high": 0.5, "pairs": 3}


def test_interval_is_students_of_the_logarithms():
    found = change([(1.0, 2.0), (1.0, 8.0)], ratio=True)
    half = 12.706 * math.log(2)  # of two values an octave each side of the mean
    assert found["ratio"] == 4.0
    assert found["low"] == pytest.approx(math.exp(math.log(4) - half), abs=1e-4)
    assert found["high"] == pytest.approx(math.exp(math.log(4) + half), rel=1e-4)
    assert student_interval([1.0, 2.0, 3.0]).high == pytest.approx(2 + 4.303 / math.sqrt(3))
    with pytest.raises(ValueError, match="no value"):
        student_interval([])


def test_one_pair_has_no_interval_and_unmeasured_pairs_do_not_count():
    assert change([(0.7, 0.68)], ratio=False) == {"difference": -0.02, "low": None, "high": None, "pairs": 1}
    assert change([(None, 0.5), (0.7, 0.7), (0.7, 0.6)], ratio=False)["pairs"] == 2
    assert change([(0.0, 10.0)], ratio=True) == {"ratio": None, "low": None, "high": None, "pairs": 0}


def test_each_figure_of_both_sides_is_shown_with_its_change():
    before, now = [session(60, 250.0), session(70, 230.0)], [session(120, 75.0), session(121, 70.0, None)]
    report = compared({"other": before, "this": now})
    assert set(report["figures"]) == {*RATIOS, *DIFFERENCES}
    assert report["figures"]["frames"]["other"] == 65
    assert report["figures"]["frames"]["ratio"] == pytest.approx(math.sqrt(2 * 121 / 70), abs=1e-3)
    assert report["figures"]["map_full"] == {
        "other": 0.7, "this": 0.7, "difference": 0.0, "low": None, "high": None, "pairs": 1,
    }  # fmt: skip
    line = flat({"alone": report})["frames, alone"]
    assert line.startswith("65.0 -> 120.5 (x 1.8")
    assert flat({"alone": report})["map_full, alone"] == "0.7 -> 0.7 (change 0.0; one pair)"


def test_a_side_is_a_checkout_or_a_bundle(repository, tmp_path):
    bundle = make_random_bundle(tmp_path / "bundle")
    assert sides(bundle, repository, "demo") == {
        "other": Build(repository, str(bundle)),
        "this": Build(repository, "demo"),
    }
    checkout = tmp_path / "before"
    (checkout / "peft_dml_ros" / "cli").mkdir(parents=True)
    (checkout / "peft_dml_ros" / "cli" / "main.py").touch()
    # A name is looked up by each checkout; a folder is the same for both, wherever they run.
    assert sides(checkout, repository, "demo")["other"] == Build(checkout, "demo")
    given = sides(checkout, repository, str(bundle))
    assert given["other"].bundle == given["this"].bundle == str(bundle)


def test_what_is_no_side_is_refused(repository, tmp_path):
    with pytest.raises(ConfigError, match=r"neither a checkout of this software nor a bundle.*fix: name one"):
        sides(tmp_path, repository, "demo")
    bundle = make_random_bundle(tmp_path / "bundle")
    (bundle / "lidar.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"lidar\.onnx"):
        sides(bundle, repository, "demo")


def test_processor_time_is_that_of_the_drive():
    """A second of start before the drive of two, half a core each; the replay ends with the drive."""
    node = [ProcessSample(i * S // 10, 0.5 * min(i, 30) / 10 + (3.0 if i > 30 else 0.0), 1.0) for i in range(40)]
    replay = [ProcessSample(i * S // 10, 0.01 * i, 1.0) for i in range(10, 31)]
    metrics = {"frames_published": 20, "frames_expected": 21, "latency_ms": {"p50": 80.0}, "map_full": None}
    found = figures(metrics, {"node": node, "recorder": node[::2], "replay": replay}, 2.0)
    assert found["cores"] == {"node": 0.5, "recorder": 0.5, "replay": 0.1}
    assert found["node_cpu_s_per_frame"] == pytest.approx(0.05)
    assert found["recorder_replay_cores"] == pytest.approx(0.6)
    assert found["p95_ms"] is None
    nothing = figures(metrics | {"frames_published": 0}, {"node": [], "recorder": [], "replay": []}, 2.0)
    assert nothing["node_cpu_s_per_frame"] is None


def test_a_session_that_fails_shows_its_last_lines(repository, tmp_path):
    wrong = DemoSession(repository, "demo", tmp_path / "nowhere.mcap", 2.0, 229, tmp_path / "out")
    with pytest.raises(DataError, match=r"(?s)ended with status 2.*nowhere\.mcap"):
        demo_figures(wrong)


def test_sides_take_turns_and_pairs_give_an_interval(tmp_path, monkeypatch):
    played = []

    def figures_of(one):
        played.append((one.bundle, one.out.name))
        return session(frames=60 + 10 * len(played))

    monkeypatch.setattr(against, "demo_figures", figures_of)
    plan = ComparisonPlan(pairs=2, seconds=3.0, loads={"alone": False})
    both = {name: Build(tmp_path, name) for name in ("other", "this")}
    report = compare_builds(both, plan, 78, tmp_path, lambda _: None, tmp_path / "drive.mcap")
    assert played == [("other", "other-0"), ("this", "this-0"), ("this", "this-1"), ("other", "other-1")]
    figures = report["loads"]["alone"]["figures"]["frames"]
    assert (figures["other"], figures["this"], figures["pairs"]) == (85, 85, 2)
    assert figures["low"] < figures["ratio"] < figures["high"]


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_short_comparison_of_two_bundles_has_every_figure(tmp_path):
    pytest.importorskip("embreex")
    one, other = (make_random_bundle(tmp_path / name, name=name) for name in ("one", "other"))
    domain = str(100 + int(os.environ["ROS_DOMAIN_ID"]) % 100)
    command = ["bench", "live", "--quick", "--against", other, "--bundle", one, "--pairs", "1", "--domain-id", domain]
    run = subprocess.run(
        [sys.executable, "-m", "peft_dml_ros.cli.main", *map(str, command), "--out", str(tmp_path / "against.json")],
        check=False,
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    report = json.loads((tmp_path / "against.json").read_text())
    assert report["sides"]["other"]["bundle"] == str(other)
    (load,) = report["loads"].values()
    for side in ("other", "this"):
        assert len(load["sessions"][side]) == 1
        for figures_of_one in load["sessions"][side]:
            assert figures_of_one["frames_due"] == 31
            assert 0 < figures_of_one["frames"] <= 32
            assert figures_of_one["cores"]["node"] > 0
            assert figures_of_one["cores"]["recorder"] > 0
    assert load["figures"]["frames"]["pairs"] == 1
    assert load["figures"]["frames"]["low"] is load["figures"]["frames"]["high"] is None
    assert report["summary"]["demo_frames"] == load["figures"]["frames"]["this"]
    assert report["summary"]["weak_demo_frames"] is None
    assert "frames, alone" in " ".join(run.stdout.split())
