# SPDX-License-Identifier: Apache-2.0
"""The cells of the evidence: what the issue lists is there, and every command runs, resumes and skips."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from typer.testing import CliRunner

from peft_dml_evidence import runner
from peft_dml_evidence.budgets import BUDGETS, recipe_file
from peft_dml_evidence.cells import Cell, TrainingPlan
from peft_dml_evidence.frame_conditions import parse_frame_condition
from peft_dml_evidence.modes import prepare
from peft_dml_evidence.recipe import LATER, recipe_tree
from peft_dml_evidence.retrieval import recall
from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.measurements import ImuSample
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_train.adapters.lora import parameter_counts
from peft_dml_train.cli import app
from peft_dml_train.config import LossConfig, NetworkConfig, load_config
from peft_dml_train.loop.stages import new_network
from peft_dml_train.network import make_fusion
from tests.support import scenes

QUICK = (
    "spec.grid.size=32",
    "spec.lidar.pillar_grid=64",
    "pretrain.steps=2",
    "finetune.steps=2",
    "pretrain.batch=2",
    "finetune.batch=2",
    "finetune.weather=[]",
    "dropout.degraded_portion=0",
)


def test_no_core_waits_for_the_weights_of_another(monkeypatch):
    needs = {"a": {"base"}, "b": {"base"}, "c": {"other"}, "d": set()}
    cells = [(Cell("ranks", name, "", TrainingPlan(base=(name,))), 7) for name in needs]
    monkeypatch.setattr(runner, "untrained", lambda _, plan, seed: needs[plan.base[0]])
    assert runner._next(None, cells, set()) == (0, {"base"})
    assert runner._next(None, cells[1:], {"base"}) == (1, {"other"})
    assert runner._next(None, cells[1:2], {"base"}) == (None, set())
    assert runner._next(None, cells[3:], {"base"}) == (0, set())


# ---------------------------------------------------------------- what is switched
@pytest.mark.parametrize(
    "changes",
    [
        *({"fusion": kind} for kind in ("gated_attention", "attention", "gate", "average", "concatenate")),
        {"neighbourhood": False},
        {"disagreement": False},
    ],
)
def test_absent_modalities_never_matter_in_any_fusion(changes):
    torch.manual_seed(0)
    fusion = make_fusion(16, NetworkConfig(**changes)).eval()
    names = " ".join(name for name, _ in fusion.named_parameters())
    for part, module in (("neighbourhood", "near."), ("disagreement", "gate.local.")):
        if not changes.get(part, True):
            assert module not in names
            assert module in " ".join(name for name, _ in make_fusion(16, NetworkConfig()).named_parameters())
    latents = {m: torch.randn(1, 16, 4, 4) if m in DETECTING else torch.randn(1, 16) for m in MODALITIES}
    evidence = {m: torch.randn(1, 1, 4, 4) for m in DETECTING}
    mask = torch.tensor([[0.0, 1, 1, 0, 1]])
    first = fusion(latents, mask, mask * 0.1, mask, evidence)
    for m in ("lidar", "imu"):
        latents[m] = latents[m] + 5
    evidence["lidar"] = evidence["lidar"] + 5
    second = fusion(latents, mask, mask * 0.1, mask, evidence)
    torch.testing.assert_close(first.features, second.features, rtol=0, atol=0)
    torch.testing.assert_close(first.gates.sum(1), torch.ones(1, 4, 4))
    assert first.gates[:, 0].abs().max() == 0


@pytest.mark.parametrize(
    ("mode", "trained", "still"),
    [
        ("peft", ("lora_", "adapters.", "fusion.", "head."), ("encoders.lidar.body",)),
        ("no_adapters", ("lora_", "projections."), ("adapters.",)),
        ("no_lora", ("adapters.", "fusion."), ("encoders.",)),
        ("head", ("projections.", "fusion.", "head."), ("encoders.", "adapters.")),
        (
            "partial",
            ("projections.", "encoders.camera", "encoders.lidar", "head."),
            ("adapters.", "encoders.lidar.pillars"),
        ),
        ("full", ("encoders.", "head."), ("adapters.",)),
        ("scratch", ("encoders.", "head."), ("adapters.",)),
    ],
)
def test_each_mode_trains_its_part_and_merges_to_the_same_layout(config, mode, trained, still):
    network = new_network(config)
    keys = set(network.state_dict())
    holder, set_mode = prepare(network, config, TrainingPlan(mode))
    moving = [n for n, p in network.named_parameters() if p.requires_grad]
    for part in trained:
        assert any(part in name for name in moving), part
    for part in still:
        assert not any(name.startswith(part) and "lora_" not in name for name in moving), part
    set_mode(network)
    encoder_norms = [
        m for n, m in network.named_modules() if n.startswith("encoders.") and isinstance(m, torch.nn.BatchNorm2d)
    ]
    assert all(m.training == (mode == "scratch") for m in encoder_norms), "few samples give no statistics"
    merged = holder.merge_and_unload() if holder is not None else network
    assert set(merged.state_dict()) == keys


# ---------------------------------------------------------------- looks
IMU = (ImuSample(scenes.START_NS, np.zeros(3), np.zeros(3)),)


def snapshot(start_ns, age_s=0.0):
    return Snapshot(
        start_ns,
        "LIDAR_TOP",
        lidar={"LIDAR_TOP": (scenes.lidar(start_ns), scenes.lidar(start_ns - 100 * scenes.MS))},
        radars={"RADAR_FRONT": (scenes.radar(start_ns),)},
        cameras={name: scenes.image(start_ns) for name in scenes.CAMERAS},
        odometry=tuple(scenes.odometry(start_ns - k * 100 * scenes.MS) for k in (2, 1, 0)),
        age_s={"lidar": age_s, "camera": age_s, "radar": age_s},
    )


def test_lost_frozen_and_delayed_sensors():
    rig, before, now = scenes.rig(), snapshot(scenes.START_NS), snapshot(scenes.START_NS + 500 * scenes.MS, 0.01)
    lost = parse_frame_condition("lost:CAM_BACK").apply(now, rig, before, None)
    assert set(lost.cameras) == {"CAM_FRONT"}
    assert lost.lidar.keys() == now.lidar.keys()
    frozen = parse_frame_condition("frozen:lidar").apply(now, rig, before, None)
    newest = frozen.lidar["LIDAR_TOP"][0]
    assert newest.stamp_ns == now.lidar["LIDAR_TOP"][0].stamp_ns
    np.testing.assert_array_equal(newest.points, before.lidar["LIDAR_TOP"][0].points)
    assert frozen.age_s == now.age_s
    delayed = parse_frame_condition("delayed:camera").apply(now, rig, before, None)
    assert delayed.cameras == before.cameras
    assert delayed.age_s["camera"] == pytest.approx(0.5)
    assert delayed.age_s["lidar"] == 0.01
    stamps = [pose.stamp_ns for pose in delayed.odometry]
    assert stamps == sorted(set(stamps))
    assert stamps[0] < before.stamp_ns < stamps[-1]
    assert parse_frame_condition("frozen:radar").apply(now, rig, None, None) is now
    blind = parse_frame_condition("lost_odometry:imu").apply(replace(now, imu=IMU), rig, before, None)
    assert (blind.odometry, blind.imu) == ((), ())
    assert parse_frame_condition("lost_odometry").apply(replace(now, imu=IMU), rig, before, None).imu == IMU
    for wrong in ("frozen:imu", "dark/x", "drak/1", "lost_odometry:radar"):
        with pytest.raises(ConfigError):
            parse_frame_condition(wrong)


def test_radar_noise_comes_on_top():
    rig, now = scenes.rig(), snapshot(scenes.START_NS)
    alone, both = (
        parse_frame_condition(text).apply(now, rig, None, None)
        for text in ("pointsreducing/2", "pointsreducing/2+radar")
    )
    np.testing.assert_array_equal(alone.lidar["LIDAR_TOP"][0].points, both.lidar["LIDAR_TOP"][0].points)
    assert alone.radars["RADAR_FRONT"][0] is now.radars["RADAR_FRONT"][0]
    assert len(both.radars["RADAR_FRONT"][0].points) != len(now.radars["RADAR_FRONT"][0].points)


def test_retrieval_finds_itself_and_its_class():
    vectors = np.eye(4, dtype=np.float32)
    labels = np.array([0, 0, 1, 1])
    assert recall(vectors, vectors, labels)["instance"] == 1.0
    swapped = vectors[[1, 0, 3, 2]]
    found = recall(vectors, swapped, labels)
    assert (found["instance"], found["class"]) == (0.0, 1.0)
    assert found["chance_class"] == pytest.approx(1 / 3, abs=1e-3)


# ---------------------------------------------------------------- the runner
@pytest.fixture(scope="module")
def invoke(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")

    def run(command, *cells, more=(), fails=False, start=False):
        options = ["--data", str(data), "--runs", str(folder / "runs"), "--out", str(folder / "results")]
        for name in cells:
            options += ["--cell", name]
        for override in QUICK:
            options += ["--set", override]
        words = [command, *options, "--seeds", "1", "--frames", "1", *more]
        if start:
            code = f"from peft_dml_train.cli import app\nif __name__ == '__main__':\n    app({words})"
            return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        result = CliRunner().invoke(app, words)
        assert (result.exit_code != 0) == fails, result.output
        return result.output

    run.results, run.runs = folder / "results", folder / "runs"
    return run


def test_a_cell_runs_once_and_says_how(invoke):
    assert "late.tiny.s7.json: done" in invoke("robustness", "late")
    path = invoke.results / "robustness" / "late.tiny.s7.json"
    found = json.loads(path.read_text())
    assert found.keys() >= {"seed", "commit", "data", "data_seed", "config_hash", "overrides", "wall_s", "cpu_s"}
    assert found["peak_rss_mb"] > 50
    assert found["data"]["hash"]
    assert "/" not in found["data"]["folder"]
    assert found["training"]["adapted"]["steps"] == found["training"]["base"]["steps"] == 2
    assert 0 < found["training"]["adapted"]["parameters"]["share"] < 0.1
    assert found["scores"].keys() == {"clear", *(f"{k}:{m}" for k in ("frozen", "delayed") for m in DETECTING)}
    figures = found["scores"]["frozen:lidar"]["all"]
    assert figures.keys() == {"map", "nds", "mate", "mase", "maoe", "mave", "maae", "ap"}
    before = path.stat().st_mtime_ns
    assert "done" not in invoke("robustness", "late")
    assert path.stat().st_mtime_ns == before
    assert "s7:done" in invoke("robustness", "late", more=["--list"])
    assert "s7:-" in invoke("robustness", "late", more=["--list", "--set", "finetune.steps=3"])


def test_time_that_is_up_begins_nothing(invoke):
    output = invoke("ranks", "full", more=["--minutes", "0.000001"])
    assert "out of time" in output
    assert not (invoke.results / "ranks").exists()


def test_what_cannot_run_is_told_and_the_rest_goes_on(invoke):
    output = invoke("domains", "rig_none", fails=True)
    assert "give --domains a folder that holds 'rig'" in output


def test_networks_are_shared_between_cells(invoke):
    invoke("robustness", "late")
    bases = set(invoke.runs.glob("base-*"))
    invoke("ranks", "base")
    assert set(invoke.runs.glob("base-*")) == bases


@pytest.mark.slow
def test_the_queue_runs_on_two_cores_and_reads_frames_once(invoke):
    output = invoke("evidence", "peft", "full", "head", more=["--jobs", "2"])
    for cell in ("peft", "full", "head"):
        assert f"ranks/{cell}.tiny.s7.json" in output
        assert (invoke.results / "ranks" / f"{cell}.tiny.s7.json").is_file()
    frames = {p: p.stat().st_ino for p in (invoke.runs / "frames").glob("??/*.safetensors")}
    assert frames
    assert "done" in invoke("evidence", "peft", more=["--jobs", "2", "--set", "finetune.steps=1"])
    assert {p: p.stat().st_ino for p in (invoke.runs / "frames").glob("??/*.safetensors")} == frames
    invoke("evidence", "peeft", fails=True)


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_no_process_behind(invoke):
    run = invoke("ranks", "head", "scratch", more=["--jobs", "2", "--set", "finetune.steps=100000"], start=True)
    try:
        until, journals = time.monotonic() + 60, set()
        while not journals and time.monotonic() < until:
            time.sleep(0.1)
            journals = {p for p in invoke.runs.glob("adapted-*/training") if not (p.parent / "adapted.json").exists()}
        children = psutil.Process(run.pid).children(recursive=True)
        assert len(children) >= 2
    finally:
        run.kill()
        run.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    for process in alive:
        process.kill()
    assert not alive


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "cells"),
    [
        ("ablate", ["no_lora", "no_cross_attention"]),
        ("ranks", ["scratch", "rank4"]),  # the others have run in the queue's test
        ("zero-shot", ["camera_barrier", "camera_barrier_without_metric_loss", "retrieval"]),
        ("domains", ["showers_partial_2", "showers_none_source"]),
        ("baselines", ["zero_filled", "averaging", "only_radar_camera"]),
        ("robustness", ["weather", "beams", "one_lost"]),
        ("weights", ["metric_thrice"]),
        ("cost", ["subsets"]),
    ],
)
def test_each_command_runs_end_to_end(invoke, command, cells):
    output = invoke(command, *cells)
    for cell in cells:
        assert f"{cell}.tiny.s7.json: done" in output
        found = json.loads((invoke.results / command / f"{cell}.tiny.s7.json").read_text())
        assert found.keys() & {"scores", "cost", "retrieval"}
    page = invoke.results.parent / "results.md"
    result = CliRunner().invoke(app, ["report", "--results", str(invoke.results), "--page", str(page)])
    assert result.exit_code == 0, result.output
    assert "not run" in Path(page).read_text()


def test_an_option_that_came_later_leaves_finished_results_valid():
    plain, other = LossConfig(), LossConfig(metric="triplet")
    config = load_config(recipe_file("tiny"))
    assert set(LATER) == set(plain.model_dump()) - set(recipe_tree(config)["losses"])
    changed = recipe_tree(config.model_copy(update={"losses": other}))
    assert changed["losses"]["metric"] == "triplet"
    assert "temperature" not in changed["losses"]
    assert changed["dropout"]["harmed_portion"] == config.dropout.degraded_portion, "as recorded results call it"


@pytest.mark.parametrize("recipe", ["near", "tiny"])
def test_partial_tuning_trains_as_many_parameters_as_peft(recipe):
    config = load_config(recipe_file(recipe), BUDGETS[recipe])
    counts = {}
    for mode in ("peft", "partial"):
        network = new_network(config)
        prepare(network, config, TrainingPlan(mode))
        counts[mode] = parameter_counts(network)["trained"]
    assert 0.98 * counts["peft"] <= counts["partial"] <= counts["peft"]
