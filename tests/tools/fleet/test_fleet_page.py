# SPDX-License-Identifier: Apache-2.0
"""The page of fleets shows what the files hold, and its night is the formula of the measured inputs."""

import json
import runpy

import pytest


@pytest.fixture(scope="module")
def script(repository):
    return runpy.run_path(str(repository / "docs" / "make_fleet.py"))


def test_pages_are_up_to_date(repository, script):
    for name in script["PAGES"]:
        page = (repository / "docs" / f"{name}.md").read_text(encoding="utf-8")
        assert script["fill"](page, script["load"]()) == page, "run docs/make_fleet.py"


def test_a_night_follows_from_what_was_measured(script):
    report = {
        "machine": {"cores": 2, "processor": "P", "load_at_start": 0.31}, "drive_s": 5.0,
        "speedup_2_cores": 1.9, "overhead_pct": 3.0,
        "frames_per_s_and_core": 8.0, "core_s_per_driven_s": 1.5, "recorded_mb_per_driven_s": 25.0,
        "result_mb_per_driven_s": 0.5, "drives": 1000, "nodes": 3, "nodes_killed": 1, "lost": 0, "counted_twice": 0,
        "drives_per_s": 3.0,
    }  # fmt: skip
    text = script["fleet"](report)
    assert "| two workers against one | 1.90 × the throughput; wanted ≥ 1.8: met |" in text
    missed = script["fleet"]({**report, "speedup_2_cores": 1.5, "overhead_pct": 6.0})
    assert "1.50 × the throughput; wanted ≥ 1.8: **missed** |" in missed
    assert "6.0 % of the work; wanted ≤ 5 %: **missed** |" in missed
    assert "| 2,000 h driven × 1.50 core s a driven s | 3,000 core hours |" in text
    assert "| core hours ÷ 8 h until the morning | 375 cores |" in text
    assert "e.g. 0.04 a core hour | 120 a night |" in text
    assert "| 2,000 h driven × 90 GB | 180 TB to store and to read |" in text
    assert "| TB ÷ 8 h | 50 Gbit/s" in text
    assert "1 of them killed in the middle | 0 lost, 0 counted twice" in text


def test_mined_against_random_is_shown_with_its_verdict(script):
    row = {"seed": 1, "random": 0.3, "mined": 0.34, "frames_95_percent": [-0.01, 0.09]}
    report = {
        "by_seed": [{**row, "adapted": {"random": False, "mined": True}}], "seeds_95_percent": [-0.02, 0.1],
        "frames": 40, "candidates": 300, "steps": 200, "test_frames": 72, "base": 0.29, "difference": 0.04,
        "verdict": "undecided",
    }  # fmt: skip
    text = script["mining"](report)
    change = "+0.040 (-0.010 to +0.090); random: no gain, the adapter before stays"
    assert f"| 1 | 0.300 | 0.340 | {change} |" in text
    assert "Over the seeds +0.040 (95 %: -0.020 to +0.100): **undecided**." in text


def test_each_gap_shows_its_gain_or_that_no_adapter_was_written(script):
    before = {"nds_before": 0.3, "map_before": 0.25, "test_frames": 48}
    made = {"nds": 0.34, "map": 0.26, "gain_95_percent": [0.01, 0.07], "verdict": "better", "frames": 24}
    rows = [
        {"domain": "rain", "labels": "labelled", "sensors": ["lidar", "camera"], **before, "adapted": True, **made},
        {"domain": "city", "labels": "unlabelled", "sensors": ["camera"], **before, "adapted": False},
    ]
    text = script["gaps"]({"base": "base", "scenes": 6, "steps": 80, "rows": rows})
    assert "| all sensors | 0.300 → 0.340 | 0.250 → 0.260 | +0.040 (+0.010 to +0.070), better |" in text
    assert "traffic | none, its own boxes | no LiDAR | 0.300 | 0.250 | no step was better, not written |" in text
    assert "on 48 keyframes of other scenes" in text
    assert text.endswith("Not measured yet: fog, beams.")
    assert "95 % over frames |" in text, "results before there were scenes to resample"
    rows = [row | {"adapt_said": "+0.020 (-0.010 to +0.050), undecided"} for row in rows]
    text = script["gaps"](
        {"base": "base", "scenes": 6, "steps": 80, "over": "scenes and frames", "classes": "seen", "rows": rows}
    )
    assert "better; `adapt` had said +0.020 (-0.010 to +0.050), undecided |" in text
    assert "| +0.020 (-0.010 to +0.050), undecided, not written |" in text
    assert "95 % over scenes and frames |" in text
    assert "NDS and mAP over the classes seen, on" in text


def test_the_measured_run_lost_no_drive_and_its_engine_costs_little(repository):
    path = repository / "bench" / "fleet.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    assert (report["drives"], report["lost"], report["counted_twice"], report["nodes_killed"]) == (1000, 0, 0, 1)
    assert report["results"] == 1000
    assert report["overhead_pct"] <= 5
