# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from peft_dml_ros.core.errors import DataError
from peft_dml_tools.bench.summary import AGAINST, ENGINES, LIVE, TARGETS, judge, read_report, summarise

ISSUE = (
    "overhead_ratio_p50, overhead_ratio_p99, latency_p99_ms, hz_held, drops_unaccounted, rss_mb, rss_growth_pct, "
    "weak_frames_share, weak_p95_ms, recorder_replay_cores, demo_frames, demo_p50_ms, demo_p95_ms, demo_cpu_ratio, "
    "weak_demo_frames, int8_over_fp32, int8_nds_loss, ort_over_eager, cloud_decode_ms, pillars_270k_ms, jpeg6_ms, "
    "nms500_ms, configure_to_active_s"
)
GOOD = {
    LIVE: {
        "overhead_ratio_p50": 1.1,
        "overhead_ratio_p99": 1.9,
        "latency_p99_ms": 140.0,
        "hz_held": 10.0,
        "drops_unaccounted": 0,
        "rss_mb": 500.0,
        "rss_growth_pct": -0.4,
        "weak_frames_share": 0.97,
        "weak_p95_ms": 110.0,
        "recorder_replay_cores": 0.1,
        "configure_to_active_s": 3.0,
    },
    AGAINST: {
        "demo_frames": 121,
        "demo_p50_ms": 70.0,
        "demo_p95_ms": 110.0,
        "demo_cpu_ratio": 0.3,
        "weak_demo_frames": 116,
    },
    ENGINES: {
        "int8_over_fp32": 0.5,
        "int8_nds_loss": 0.2,
        "ort_over_eager": 0.59,
        "cloud_decode_ms": 0.2,
        "pillars_270k_ms": 6.0,
        "jpeg6_ms": 18.0,
        "nms500_ms": 0.3,
        # What the frame without ROS has of its own is not what the node has.
        "rss_mb": 440.0,
    },
}


def reports(**changed):
    return {source: {"summary": figures | changed, "bundle": "demo"} for source, figures in GOOD.items()}


def test_every_figure_that_is_asked_for_is_there_and_meets_its_target():
    found = summarise(reports())
    assert list(found) == ISSUE.split(", ")
    assert found["rss_mb"] == 500.0
    judged = judge(found, reports())
    assert judged["met"] == dict.fromkeys(TARGETS, True)
    assert judged["missing"] == judged["misses"] == {}
    assert judged["conditions"][LIVE] == {"bundle": "demo"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("overhead_ratio_p99", 2.1), ("hz_held", 9.9), ("rss_growth_pct", -2.5), ("drops_unaccounted", 1)],
)
def test_a_miss_is_a_miss(name, value):
    missed = reports(**{name: value})
    judged = judge(summarise(missed), missed)
    assert {n for n, met in judged["met"].items() if not met} == judged["misses"].keys() == {name}


def test_a_miss_comes_with_where_it_goes():
    missed = reports(overhead_ratio_p99=3.0, jpeg6_ms=40.0)
    missed[LIVE] |= {"profile": {"slowest_percent": {"frames": 60}}, "stretches": {"all": {"stages_ms": {"wait": {}}}}}
    missed[ENGINES]["hot_path"] = {"jpeg6": {"p50": 40.0}, "nms500": {"p50": 0.3}}
    assert judge(summarise(missed), missed)["misses"] == {
        "overhead_ratio_p99": {
            "stretches.all.stages_ms": {"wait": {}},
            "profile": {"slowest_percent": {"frames": 60}},
        },
        "jpeg6_ms": {"hot_path.jpeg6": {"p50": 40.0}},
    }


def test_what_is_missing_is_null_and_says_why():
    given = {LIVE: None, ENGINES: reports(int8_over_fp32=None)[ENGINES]}
    found = summarise(given)
    assert found["hz_held"] is None
    judged = judge(found, given)
    assert judged["missing"]["hz_held"] == "live was not measured: peft-dml bench live"
    assert "--int8" in judged["missing"]["int8_over_fp32"]
    assert "hz_held" not in judged["met"]
    assert found["jpeg6_ms"] == 18.0


def test_command_writes_the_file_and_tells_misses(tmp_path):
    live, none, out, verdicts = (tmp_path / f"{name}.json" for name in ("live", "none", "summary", "verdicts"))
    live.write_text(json.dumps(reports(hz_held=8.0)[LIVE]))
    call = ["bench", "summary", "--live", str(live), "--engines", str(none), "--against", str(none), "--out", str(out)]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert said.endswith(
        f"missed: hz_held is 8, wanted >= 9.95 Where the time of each goes is in {verdicts}, under 'misses'."
    )
    assert list(json.loads(out.read_text())) == ISSUE.split(", ")
    assert json.loads(verdicts.read_text())["met"]["hz_held"] is False


def test_another_file_is_refused_by_name(tmp_path):
    path = tmp_path / "other.json"
    path.write_text("[1]")
    with pytest.raises(DataError, match=r"other\.json is no benchmark's file"):
        read_report(path)
    assert read_report(tmp_path / "none.json") is None
