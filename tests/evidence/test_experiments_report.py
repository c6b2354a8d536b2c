# SPDX-License-Identifier: Apache-2.0
"""The results page says what the JSON files say, and only that."""

import json
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure as PlotFigure

from peft_dml_evidence.cells import EVERY_SUBSET, KEY_SEEDS, MAIN_SUBSETS, TARGET_LOOKS
from peft_dml_evidence.report import gaps, headlines
from peft_dml_evidence.report.page import SUMMARY, render, render_summary, write_report
from peft_dml_evidence.report.plots import draw_ablations
from peft_dml_evidence.report.results import load
from peft_dml_evidence.report.sections import VERDICTS, ablation_changes, bundles_of, bundles_table, verdict_of
from peft_dml_evidence.report.summary import ALL, KEYS, NO_CAMERA, NO_LIDAR, summary_of, targets
from peft_dml_evidence.report.why import why
from peft_dml_evidence.zero_shot import ZERO_SHOT_CLASSES
from peft_dml_ros.core.classes import CLASSES
from peft_dml_tools.sim.corruptions import MULTICORRUPT, RADAR_NOISE

ROOT = Path(__file__).parents[2]
DATA = {"folder": "d", "version": "v1.0-sim", "seed": 7, "simulated": True, "scenes": 3, "keyframes": 9, "hash": "abc"}


def figures(nds, **ap):
    errors = dict.fromkeys(("mate", "mase", "maoe", "mave", "maae"), 0.5)
    return {"map": nds / 2, "nds": nds, **errors, "ap": {c: ap.get(c, 0.0) for c in CLASSES}}


@pytest.fixture
def write(tmp_path):
    def one(command, cell, seed, scores=None, **more):
        record = {
            "command": command, "cell": cell, "config": "tiny", "seed": seed, "commit": "0123456789", "data": DATA,
            "cpu_s": 60.0, "finished": "2026-11-27", "training": {}, **({"scores": scores} if scores else {}), **more,
        }  # fmt: skip
        path = tmp_path / command / f"{cell}.tiny.s{seed}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(record))

    one.folder = tmp_path
    return one


def write_key_rows(write):
    for seed, shift in zip(KEY_SEEDS, (-0.01, 0.0, 0.01), strict=True):
        by_subset = {name: figures(0.1) for name in EVERY_SUBSET}
        by_subset |= {ALL: figures(0.6 + shift), NO_LIDAR: figures(0.45 + shift), NO_CAMERA: figures(0.57 + shift)}
        write("robustness", "subsets", seed, {"clear": by_subset})
        write("baselines", "zero_filled", seed, {"clear": {"no lidar": figures(0.1)}})
        for cell, nds in (("peft", 0.5), ("full", 0.5)):
            scores = {look: {"all": figures(nds)} for look in TARGET_LOOKS}
            parameters = {"share": 0.05, "total": 100, "trained": 5}
            adapted = {"cpu_s": 120.0, "peak_rss_mb": 500.0, "file_bytes": 1e6, "parameters": parameters}
            write("ranks", cell, seed, scores, training={"adapted": adapted})
    looks = {f"{name}/{s}+radar": {"all": figures(0.48)} for name in MULTICORRUPT for s in (1, 2, 3)}
    write("robustness", "multicorrupt_radar", 7, {"clear": {"all": figures(0.6)}, **looks})
    for m in ("lidar", "camera", "radar"):
        for name in ZERO_SHOT_CLASSES:
            write("zero-shot", f"{m}_{name}", 7, {"clear": {f"{m} only": figures(0.2, **{name: 0.3})}})
            without = {"clear": {f"{m} only": figures(0.2, **{name: 0.2})}}
            write("zero-shot", f"{m}_{name}_without_metric_loss", 7, without)


def test_the_page_is_up_to_date():
    found = load(ROOT / "train" / "results")
    page, summary = ROOT / "docs" / "results.md", ROOT / "docs" / "results" / SUMMARY
    assert page.read_text(encoding="utf-8") == render(found, bundles_of(ROOT / "models")), "run peft-dml-train report"
    assert summary.read_text(encoding="utf-8") == render_summary(found), "run peft-dml-train report"


def test_nothing_is_invented(tmp_path):
    text = render(load(tmp_path))
    assert "not run" in text
    assert " holds |" not in text
    found = json.loads(render_summary([]))
    assert all(found[key] is None for key in KEYS if key != "seeds")
    assert found["seeds"] == []


def test_the_summary_has_its_keys_from_the_right_cells(write):
    write_key_rows(write)
    (results,) = load(write.folder)
    found = summary_of(results)
    assert set(KEYS) < set(found)
    assert found["seeds"] == list(KEY_SEEDS)
    expected = {
        "nds_full": 0.6, "nds_no_lidar": 0.45, "nds_no_camera": 0.57, "nds_peft": 0.5, "nds_full_finetune": 0.5,
        "trained_share": 0.05, "mra": 0.8, "nds_zero_filled_no_lidar": 0.1, "zero_shot_ap": 0.3,
        "zero_shot_ap_without_metric_loss": 0.2,
    }  # fmt: skip
    for key, value in expected.items():
        assert found[key] == pytest.approx(value), key
    assert found["spread"]["nds_full"] == pytest.approx(0.01)
    verdicts = {t.claim: t.verdict for t in targets(results)}
    decided = ["holds", "holds", "missed", "holds", "undecided"]
    assert list(verdicts.values()) == [*decided, *["not run"] * 4, "undecided"]
    # One seed of the last two: whatever it shows, nothing is decided.
    assert {len(t.found.by_seed) for t in list(targets(results))[4::5]} == {1}


def test_imu_and_gnss_show_a_use_where_odometry_is_lost(write):
    for seed in KEY_SEEDS:
        looks = {"clear": 0.44, "lost_odometry": 0.44, "lost_odometry:imu+gnss": 0.39}
        write("robustness", "odometry", seed, {look: {"all": figures(nds)} for look, nds in looks.items()})
    (found,) = (t for t in targets(load(write.folder)[0]) if "IMU and GNSS" in t.claim)
    assert (found.found.value, found.verdict) == (pytest.approx(0.05), "holds")


def test_a_missing_pair_or_corruption_leaves_the_mean_open(write):
    write_key_rows(write)
    (write.folder / "zero-shot" / "radar_barrier.tiny.s7.json").unlink()
    path = write.folder / "robustness" / "multicorrupt_radar.tiny.s7.json"
    record = json.loads(path.read_text())
    del record["scores"]["fog/2+radar"]
    path.write_text(json.dumps(record))
    found = summary_of(load(write.folder)[0])
    assert found["zero_shot_ap"] is None
    assert found["mra"] is None


def test_figures_reach_the_page_with_their_spread(write):
    write_key_rows(write)
    page = write.folder / "results.md"
    made = write_report(write.folder, page)
    text = page.read_text()
    assert "| lidar + camera + radar + imu + gnss | 0.600 ± 0.010 | 100.0% |" in text
    assert "| subsets" not in text
    assert (write.folder / "images" / "results_tiny_subsets.png") in made
    for line in text.splitlines():
        if line.startswith("!["):
            assert (write.folder / line.split("(")[1].rstrip(")")).is_file()
    # A changed result changes the page: what the test above compares is made of the figures.
    path = write.folder / "robustness" / "subsets.tiny.s7.json"
    path.write_text(path.read_text().replace("0.59", "0.31"))
    assert render(load(write.folder)) != text


def test_what_was_not_run_is_one_line_and_long_tables_are_folded(write):
    write_key_rows(write)
    text = render(load(write.folder))
    assert "### Cost" not in text
    assert re.search(r"### Not run\n\nWith this recipe nothing is known yet of: .*; Cost\.\n", text)
    assert "<summary>The figures, 31 rows</summary>" in text
    fusions = text[text.index("### Other fusions") : text.index("### MultiCorrupt")]
    assert "| Zero-filled concatenation | " in fusions
    assert "\nNot run: Averaging.\n" in fusions
    assert "| Averaging" not in fusions


def test_every_comparison_stands_once_at_the_top_with_the_misses_first(write):
    write_key_rows(write)
    text = render(load(write.folder))
    top = text[text.index("## What holds") : text.index("## Recipe")]
    rows = [line for line in top.splitlines() if line.startswith("| ") and "| `tiny` |" in line]
    ran = [t for t in targets(load(write.folder)[0]) if t.found is not None]
    assert sorted(row.split(" | ")[0].removeprefix("| ") for row in rows) == sorted(t.claim for t in ran)
    words = [row.split(" | ")[-1].removesuffix(" |") for row in rows]
    assert words == sorted(words, key=["missed", "undecided", "holds"].index)
    assert {"missed", "holds"} <= set(words), "both kinds are tried"
    said = ", ".join(f"{words.count(word)} {verb}" for word, verb in VERDICTS.items())
    assert f"**{len(rows)} comparisons: {said}.**" in top
    assert "Not run with any recipe: " in top
    assert "less that of averaging;" in top


def test_a_baseline_that_finds_nothing_is_beaten_and_nothing_over_nothing_is_no_claim(write):
    write_key_rows(write)
    for seed in KEY_SEEDS:
        write("baselines", "zero_filled", seed, {"clear": {"no lidar": figures(0.0)}})
    for m in ("lidar", "camera", "radar"):
        for name in ZERO_SHOT_CLASSES:
            for suffix, ap in (("", 0.004), ("_without_metric_loss", 0.0)):
                by_one = {"clear": {f"{m} only": figures(0.2, **{name: ap})}}
                write("zero-shot", f"{m}_{name}{suffix}", 7, by_one)
    found = {t.claim: t for t in targets(load(write.folder)[0])}
    beaten = found["No-LiDAR NDS, times the zero-filled baseline's"]
    assert (beaten.found.value, beaten.verdict) == (float("inf"), "holds")
    claim = "Zero-shot AP with the metric loss, times that without"
    assert found[claim].verdict.startswith("missed: next to nothing")
    for m in ("lidar", "camera", "radar"):
        together = {"clear": {f"{m} only": figures(0.2, **dict.fromkeys(ZERO_SHOT_CLASSES, 0.001))}}
        write("zero-shot", f"{m}_together", 7, together)
    assert "too weak" in {t.claim: t for t in targets(load(write.folder)[0])}[claim].verdict


def test_headlines_say_what_the_figures_say(write):
    write_key_rows(write)
    (results,) = load(write.folder)
    assert headlines.subsets(results).startswith("3 of the 28 subsets that see anything keep 70% of NDS")
    assert headlines.baselines(results) == ""  # averaging has no figures, zero-filled none with all sensors
    zero_filled = {"clear": {"no lidar": figures(0.1), "all": figures(0.5)}}
    write("baselines", "zero_filled", 7, zero_filled)
    assert "PEFT-DML keeps 75% of its NDS, zero-filled concatenation 20%" in headlines.baselines(load(write.folder)[0])
    assert headlines.ranks(results).startswith("With 5.0% of the parameters PEFT reaches 100.0% of full")
    assert headlines.zero_shot(results) == ""
    for m in ("lidar", "camera", "radar"):
        together = {"clear": {f"{m} only": figures(0.2, **dict.fromkeys(ZERO_SHOT_CLASSES, 0.4))}}
        write("zero-shot", f"{m}_together", 7, together)
    found = headlines.zero_shot(load(write.folder)[0])
    assert found.startswith("Mean AP 0.300 with the metric loss, 0.200 without, 0.400 when trained together;")
    assert found.endswith("helps in 6 of 6 pairs.")
    assert headlines.multicorrupt(results) == ""
    looks = {f"{name}/{s}": {"all": figures(0.54)} for name in MULTICORRUPT for s in (1, 2, 3)}
    write("robustness", "multicorrupt", 7, {"clear": {"all": figures(0.6)}, **looks})
    path = write.folder / "robustness" / "multicorrupt_radar.tiny.s7.json"
    record = json.loads(path.read_text())
    record["scores"] |= {f"{name}/{s}": {"all": figures(0.3)} for name in RADAR_NOISE for s in (1, 2, 3)}
    path.write_text(json.dumps(record))
    found = headlines.multicorrupt(load(write.folder)[0])
    assert found.startswith("mRA 0.900 as MultiCorrupt has it, 0.786 with four kinds of radar noise as more types,")
    assert "0.800 with all four on top" in found


def test_components_earn_their_place_by_the_interval_of_the_change(write):
    write_key_rows(write)
    for cell, nds in (("complete", 0.5), ("no_lora", 0.4), ("no_gate", 0.505), ("no_adapters", 0.52)):
        looks = {look: {"all": figures(nds)} for look in TARGET_LOOKS}
        looks["clear"] |= {"no lidar": figures(nds), "no camera": figures(nds)}
        # Luck of a seed is everyone's: it does not blur the change.
        for seed, luck in zip(KEY_SEEDS, (0.05, 0.0, -0.05), strict=True):
            lucky = {look: {s: figures(f["nds"] + luck) for s, f in by.items()} for look, by in looks.items()}
            write("ablate", cell, seed, lucky)
    write("ablate", "no_consistency", 7, looks)
    (results,) = load(write.folder)
    changes, noise = ablation_changes(results)
    names = ("no_lora", "no_gate", "no_adapters", "no_consistency", "no_metric_loss")
    assert {name: verdict_of(changes[name], noise) for name in names} == {
        "no_lora": "earned", "no_gate": "not earned", "no_adapters": "not earned", "no_consistency": "undecided",
        "no_metric_loss": "not run",
    }  # fmt: skip
    assert changes["no_metric_loss"] is None
    assert headlines.ablations(results) == ""


def test_bundles_show_what_their_manifests_hold():
    found = bundles_of(ROOT / "models")
    assert set(found) == {"base", "demo"}
    row = next(line for line in bundles_table(found) if line.startswith("| `demo` |"))
    assert f"{found['demo']['subsets']['all']['nds']:.3f}" in row
    assert f"| {sum(stage['steps'] for stage in found['demo']['stages'].values())} |" in row


def test_a_missed_target_comes_with_its_reason(write):
    write_key_rows(write)
    assert "### Why targets are missed" not in render([])
    scores = {f"{name}/{s}+radar": {"all": figures(0.48)} for name in MULTICORRUPT for s in (1, 2, 3)}
    scores["dark/3+radar"] = {"all": figures(0.05)}
    write("robustness", "multicorrupt_radar", 7, {"clear": {"all": figures(0.6)}, **scores})
    (reason,) = (line for line in why(load(write.folder)[0]) if line.startswith("- **mRA"))
    assert "NDS is 0.050, that of the network without any radar 0.100 \u00b1 0.000." in reason
    assert reason.endswith("does not turn away from a radar that lies.")
    assert "### Why targets are missed" in render(load(write.folder))


def test_plots_name_every_mode_and_only_cells_that_were_run(write):
    for seed in (7, 8):
        for cell in ("rig_none", "rig_peft_all", "fog_none", "fog_peft_all", "fog_head_all"):
            write("domains", cell, seed, {look: {"all": figures(0.4)} for look in ("clear", "fog=50")})
        for cell in ("complete", "no_gate"):
            write("ablate", cell, seed, {look: {s: figures(0.4) for s in MAIN_SUBSETS} for look in TARGET_LOOKS})
    (results,) = load(write.folder)
    gain, places = (PlotFigure().subplots() for _ in range(2))
    gaps.draw(gain, results)
    assert [text.get_text() for text in gain.get_legend().get_texts()] == [gaps.WORDS[m] for m in ("peft", "head")]
    draw_ablations(places, results)
    assert [text.get_text() for text in places.get_xticklabels()] == ["complete", "no gate"]


def test_the_cost_names_the_fusion(write):
    def cost(p50_ms):
        return {"subsets": {"lidar": {"p50_ms": 20.0}, "imu": {"p50_ms": 1.0}}, "fusion": {"p50_ms": p50_ms}}

    write("cost", "subsets", 7, cost=cost(8.3))
    (alone,) = load(write.folder)
    assert headlines.cost(alone) == "From 20 ms (lidar) to 20 ms (lidar) a frame on one thread."
    write("cost", "concatenate", 7, cost=cost(5.9))
    (found,) = load(write.folder)
    assert headlines.cost(found).endswith("; 8.3 ms of it is attention, gate and head, 5.9 with plain concatenation.")
