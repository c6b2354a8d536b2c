# SPDX-License-Identifier: Apache-2.0
"""The page of speed shows what the benchmark's files hold."""

import re
import runpy

import pytest

from peft_dml_tools.bench.against import compared, demo_figures_of
from peft_dml_tools.bench.live import live_report
from peft_dml_tools.bench.live_run import CONDITIONS, condition_figures
from peft_dml_tools.bench.summary import AGAINST, ENGINES, LIVE, judge, summarise
from tests.tools.bench.test_against import session
from tests.tools.bench.test_live import DriveSection, ProcessSample, S, frame, live_run


@pytest.fixture(scope="module")
def script(repository):
    return runpy.run_path(str(repository / "docs" / "make_bench_plots.py"))


@pytest.fixture(scope="module")
def reports():
    """A live run and engines as the benchmarks write them, small."""
    stretches = (DriveSection("all", (), 0, 5), DriveSection("no LiDAR", ("lidar",), 5, 9))
    frames = [frame(i * S // 10) for i in range(50)] + [frame(i * S // 10, present=("camera",)) for i in range(50, 90)]
    samples = [ProcessSample(i * S, 0.5 * i, 400.0) for i in range(10)]
    seen = live_run(frames, stretches, samples, {"IMU": 900})
    about = {
        "machine": {"processor": "P", "cores": 2},
        "bundle": "demo 1",
        "node": {"engine": "onnxruntime", "threads": 2},
        "vehicle": {"minutes": 10.0, "image_width_px": 704},
        "load_average": {"before": 0.2, "after": [1.5, 1.4, 1.0]},
    }
    line = {"1": 1.0, "2": 2.0}
    grown = {"points": {"pillars_ms": line}, "lidar_sweeps": {"inputs_ms": line}, "cameras": {"frame_ms": line}}
    grown["boxes"] = {"decode_and_nms_ms": line}
    engines = {"bundle": "demo 1", "engines": {"lidar": {"p50": 22.1, "p95": 23.0, "p99": 24.0}}, "growth": grown}
    engines["summary"] = {"jpeg6_ms": 30.0}
    live = about | live_report(seen)
    whole = live["stretches"]["all"] | {"cpu_pct_by_process": {"node": 120.0, "recorder": 6.0, "replay": 5.0}}
    whole["given_up"] = {"cameras at 2.5 Hz, up to 0.4 s old": 0.4}
    live["conditions"] = {name: {"frames_share": 0.9, **whole} for name in CONDITIONS}
    live["runs"] = "demo 1, int8 on onnxruntime, 1 threads"
    live["summary"] |= condition_figures(live["conditions"])
    sessions = {side: [session(frames) for frames in (one, one + 2)] for side, one in (("other", 60), ("this", 119))}
    loads = {"alone": compared(sessions)}
    sides = {"other": {"commit": "aaa", "bundle": "demo"}, "this": {"commit": "bbb", "bundle": "demo"}}
    against = {"machine": about["machine"], "sides": sides, "pairs": 2, "seconds": 12.0, "loads": loads}
    against["summary"] = demo_figures_of(loads)
    every = {LIVE: live, ENGINES: engines, AGAINST: against}
    figures = summarise(every)
    return {**every, "summary": figures, "verdicts": judge(figures, every)}


def test_page_is_up_to_date(repository, script):
    page = (repository / "docs" / "speed.md").read_text(encoding="utf-8")
    text = script["section"](script["load"](repository / "bench"))
    assert f"{script['BEGIN']}\n{text}\n{script['END']}" in page, "run docs/make_bench_plots.py"
    for name in re.findall(r"\]\(images/([^)]+)\)", page):
        assert (repository / "docs" / "images" / name).stat().st_size > 5000, name


def test_readme_is_up_to_date(repository, script):
    readme = (repository / "README.md").read_text(encoding="utf-8")
    words = script["readme_words"](script["load"](repository / "bench")["live"])
    assert f"{script['README_BEGIN']}\n{words}\n{script['README_END']}" in readme, "run docs/make_bench_plots.py"


def test_section_shows_figures_targets_and_misses(script, reports):
    text = script["section"](reports)
    assert "| all | 10.00 | 100 / 100 / 100 | 80.0 | 1.25 | 1.25 | 50 % |" in text
    assert "| `overhead_ratio_p50` | 1.25 | <= 1.15 | **missed** |" in text
    assert "| `hz_held` | 10 | >= 9.95 | met |" in text
    assert "| `int8_over_fp32` | – | <= 0.65 | the bundle holds no 8 bit graphs, and none were given: --int8 |" in text
    assert "| pillars and pictures | 8.00 |" in text
    assert "Load average 0.2 before, 1.5 after" in text
    assert "slowest hundredth of the frames (ratio from 1.25 on) 20.0 ms go beyond the engines" in text
    assert "`bench/verdicts.json` holds a profile" in text
    assert "Bundle demo 1, int8 on onnxruntime, 1 threads; 2 cores of P" in text
    given_up = "cameras at 2.5 Hz, up to 0.4 s old (40%)"
    assert f"| recorder, one core taken | 10.00 | 100 / 100 / 100 | 120 / 6 / 5 | {given_up} |" in text
    assert "| load | figure | aaa | bbb | change, 95 % interval |" in text
    assert "| alone | `frames` | 61.0 | 120.0 | × 1.97 (" in text
    assert "| alone | `map_full` | 0.700 | 0.700 | +0.000 (0.00 to 0.00) |" in text
    assert "| `demo_frames` | 120 | >= 120 | met |" in text
    assert "| `weak_demo_frames` | – | >= 115 | the comparison was --quick" in text
    assert "| `weak_frames_share` | 0.9 | >= 0.95 | **missed** |" in text
    assert "| `recorder_replay_cores` | 0.11 | <= 0.15 | met |" in text
    assert script["section"]({}) == script["NOTHING"]


def test_readme_quotes_the_weak_case(script, reports):
    words = " ".join(script["readme_words"](reports["live"]).split())
    assert "Live on 2 cores of P" in words
    assert "10.00 Hz of boxes, 100 ms from stamp to publication in the median and 100 ms in 99 of 100" in words
    weak = "With one core taken by another program: 10.0 Hz, 95 % within 100 ms; the node says what it gave up"
    assert f"{weak}: cameras at 2.5 Hz, up to 0.4 s old (40%)." in words
    assert "With one core" not in script["readme_words"](reports["live"] | {"conditions": {}})


def test_pictures_are_drawn(script, reports, tmp_path):
    script["draw"](reports, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {script["BUDGET"], script["GROWTH"]}
    assert all(5000 < path.stat().st_size < 200_000 for path in tmp_path.iterdir())
