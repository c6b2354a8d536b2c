# SPDX-License-Identifier: Apache-2.0
"""From simulated scenes to a scored bundle, on a tiny network: every command of the recipe."""

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.classes import CLASSES, MODALITIES
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_tools.commands.simulate import write_one
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.nuscenes_scores import open_devkit, result_rows, score
from peft_dml_tools.datasets.nuscenes_writer_tables import finish
from peft_dml_tools.sim.drive import DriveSpec
from peft_dml_tools.sim.vehicle_rig import make_rig
from peft_dml_train.cli import app
from peft_dml_train.data.dataset import load_frames
from peft_dml_train.data.frame import NO_DEPTH
from peft_dml_train.evaluation.calibration import expected_error, fit_temperature, matched
from peft_dml_train.evaluation.conditions import CLEAR, parse_conditions
from peft_dml_train.evaluation.sensors import SUBSETS, parse_sensors
from peft_dml_train.evaluation.subsets import BundleRunner, evaluate_bundle, refuse_other_classes
from peft_dml_train.export.card import write_card
from peft_dml_train.loop.checkpoint import load_checkpoint, save_checkpoint

VERSION = "v1.0-sim"
NAMES = ("scene-5000", "scene-5001", "scene-5002")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three scenes of one keyframe each or two, with small pictures and few radar cycles."""
    root = tmp_path_factory.mktemp("scenes")
    spec = DriveSpec(image_width_px=192, camera_hz=2, lidar_hz=4, radar_hz=4, imu_hz=50, odometry_hz=20)
    for i, name in enumerate(NAMES):
        write_one((str(root), name, 31 + i, 1.5, spec))
    finish(
        root, VERSION, make_rig(192), {f"sim_{s}": [n] for s, n in zip(("train", "val", "test"), NAMES, strict=True)}
    )
    return root


def test_frames_hold_what_the_vehicle_would_see(data):
    frames = load_frames(data, ("sim_train",), ModelSpec())
    assert len(frames) >= 2
    for frame in frames:
        assert frame.mask.tolist() == [1, 1, 1, 1, 1]
        assert len(frame.pillars["lidar"].cells) > 1000
        assert (frame.camera.depth_bins != NO_DEPTH).mean() > 0.3
        assert len(frame.boxes)


@pytest.mark.parametrize(("shift_m", "expected"), [(0.0, 1.0), (1.5, 0.5), (6.0, 0.0)])
def test_truth_scores_as_the_devkit_says(data, tmp_path, shift_m, expected):
    reader = NuScenesReader(data)
    results = {}
    for token in reader.samples("sim_test"):
        boxes = reader.truth(token)
        boxes.centers_m[:, 0] += shift_m
        results[token] = result_rows(token, boxes, reader.global_SE3_base(token))
    metrics = score(open_devkit(data, reader.version), results, tmp_path, {"use_lidar": True})
    present = [c for c in CLASSES if metrics["objects"][c] > 3]
    assert "car" in present
    # Of the distances 0.5, 1, 2 and 4 m, a shift of 1.5 m passes two. Neighbours may stand where a shifted box lands.
    means = [np.mean(list(metrics["ap"][c].values())) for c in present]
    assert np.mean(means) == pytest.approx(expected, abs=0.15)
    near = score(open_devkit(data, reader.version), results, tmp_path, {"use_lidar": True}, (), farthest_m=20.0)
    assert 0 < near["objects"]["car"] < metrics["objects"]["car"]
    assert near["objects"]["car"] == metrics["ranges"]["0-20 m"]["objects"]["car"]


def test_no_boxes_score_nothing(data, tmp_path):
    reader = NuScenesReader(data)
    results = {token: [] for token in reader.samples("sim_test")}
    metrics = score(open_devkit(data, reader.version), results, tmp_path, {"use_lidar": True})
    assert metrics["mean_ap"] == 0


def invoke(*command):
    result = CliRunner().invoke(app, [str(part) for part in command], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    """A run with a base and two adapters, and the first one's bundle."""
    folder = tmp_path_factory.mktemp("made")
    run, bundle = folder / "run", folder / "models" / "tiny"
    common = ["--config", "train/configs/tiny.yaml", "--data", data]
    source = ["--set", "splits.train=[sim_val]"]
    invoke("pretrain", *common, *source, "--out", run / "first", "--set", "pretrain.steps=3")
    invoke("pretrain", *common, *source, "--out", run, "--from", run / "first" / "base.pt")
    invoke("finetune", *common, "--out", run, "--resume")
    invoke("finetune", *common, "--out", run, "--adapter", "rain", "--set", "seed=5", "--set", "finetune.steps=2")
    invoke("export", *common, "--out", run, "--bundle", bundle)
    return run, bundle


@pytest.mark.slow
def test_recipe_makes_a_bundle(data, made):
    run, bundle = made
    common = ["--config", "train/configs/tiny.yaml", "--data", data, "--bundle", bundle, "--out", run / "evaluation"]
    shown = invoke("evaluate", *common, "--record")
    assert "mAAE" in shown
    assert {p.name for p in (run / "evaluation" / "plots").iterdir()} == {"subsets.png", "classes.png", "ranges.png"}
    options = ["--sensors", "lidar", "--weather", "fog=50", "--corruption", "pointsreducing", "--severity", "3"]
    invoke("evaluate", *common, *options, "--record")
    loaded = load_bundle(bundle)
    assert loaded.manifest.trained_share < 0.10
    assert len(loaded.temperatures) == 28
    low, high = loaded.manifest.trained_ranges["lidar_intensity_median"]
    reader = NuScenesReader(data)
    sweeps = [reader.load(reader.keyframes(token)["LIDAR_TOP"]) for token in reader.samples("sim_train")]
    medians = [np.median(sweep.points[:, 3]) for sweep in sweeps]
    assert (low, high) == pytest.approx((0.3 * min(medians), 2.5 * max(medians)), rel=0.2)
    assert loaded.manifest.trained_ranges["lidar_intensity_maximum"] == pytest.approx((0.3 * 255, 255), rel=0.1)
    metrics = loaded.manifest.metrics
    assert metrics.keys() >= {"map", "nds", "mate", "mase", "maoe", "mave", "maae", "subsets", "test"}
    assert metrics["subsets"].keys() == SUBSETS.keys()
    assert metrics["subsets"]["all"] == {"map": metrics["map"], "nds": metrics["nds"]}
    assert metrics["conditions"].keys() == {"fog=50", "pointsreducing/3"}
    stages = loaded.manifest.provenance["stages"]
    assert {name: stage["steps"] for name, stage in stages.items()} == {
        "pretrain, first round": 3, "pretrain": 4, "finetune": 4
    }  # fmt: skip
    card = (bundle / "MODEL_CARD.md").read_text()
    for text in ("simulated", "| no lidar |", "| fog=50 |", "velocity error (mAVE)", "mAP by distance"):
        assert text in card
    assert "Made in pieces, with `peft-dml-train pretrain, finetune, export`" in card
    assert "Source: 1 scenes; none recorded." in card
    assert json.loads((bundle / "adapters" / "default" / "adapter_config.json").read_text())["r"] == 2


@pytest.mark.slow
def test_the_card_says_what_made_a_run(made, tmp_path):
    manifest = load_bundle(made[1]).manifest
    for facts, text in (
        ({"command": "train/recipes/demo.sh"}, "One command makes it again: `train/recipes/demo.sh`"),
        (
            {"command": "train/recipes/demo.sh", "note": "- 300 steps\n- 20 more"},
            "\n\n- 300 steps\n- 20 more\n\nStages:",
        ),
    ):
        write_card(tmp_path, manifest.model_copy(update={"provenance": {**manifest.provenance, **facts}}), {})
        card = (tmp_path / "MODEL_CARD.md").read_text()
        assert text in card
        assert ("One command" in card) == ("note" not in facts)


@pytest.mark.slow
def test_a_second_adapter_goes_into_the_bundle_of_its_base(data, made, tmp_path):
    run, bundle = made[0], tmp_path / "tiny"
    shutil.copytree(made[1], bundle)
    recipe = ("export", "--config", "train/configs/tiny.yaml", "--data", data, "--bundle", bundle)
    invoke(*recipe, "--out", run, "--adapter", "rain")
    clear, rain = (load_bundle(bundle, adapter=name) for name in ("default", "rain"))
    assert clear.manifest == rain.manifest == load_bundle(made[1]).manifest
    assert (str(clear.adapters), str(rain.adapters)) == ("default", "rain")
    assert clear.graph("fusion").sha256 != rain.graph("fusion").sha256
    card = rain.adapters.parts[0][0].card
    assert card.provenance["stages"]["finetune"]["steps"] == 2
    assert card.metrics["onnx_parity"]["weights"] < 1e-5
    assert len(rain.temperatures) == 28
    assert rain.adapters.ranges("lidar")
    other = tmp_path / "other"
    shutil.copytree(run, other)
    state = load_checkpoint(other / "base.pt")
    save_checkpoint(other / "base.pt", {name: value + value.is_floating_point() for name, value in state.items()})
    said = CliRunner().invoke(app, [str(part) for part in (*recipe, "--out", other, "--adapter", "rain")])
    assert said.exit_code == 2
    assert f"has base {card.base[:12]}, the run has" in " ".join(said.output.split())
    invoke("evaluate", *recipe[1:], "--adapter", "rain", "--out", tmp_path / "e", "--sensors", "lidar", "--record")
    assert "nds" in load_bundle(bundle, adapter="rain").adapters.parts[0][0].card.metrics["test"]["clear"]["lidar"]
    assert load_bundle(bundle).manifest == clear.manifest


def adapter_tensors(folder):
    return safetensors.torch.load_file(folder / "adapter_model.safetensors")


@pytest.mark.slow
def test_an_adapter_goes_on_from_another(data, made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made[0], run)
    command = ["finetune", "--config", "train/configs/tiny.yaml", "--data", data, "--out", run]
    invoke(*command, "--set", "finetune.frozen=[encoders.]", "--adapter", "snow", "--from", "rain")
    invoke(*command, "--set", "finetune.steps=1", "--adapter", "new")
    rain, snow, new = (adapter_tensors(run / "adapters" / name) for name in ("rain", "snow", "new"))
    low_rank = [name for name in rain if "lora_B" in name]
    assert len(low_rank) > 10
    assert all(torch.equal(rain[name], snow[name]) for name in low_rank)
    assert not any(torch.equal(rain[name], new[name]) for name in low_rank)
    assert not torch.equal(*(t["base_model.model.head.direct.weight"] for t in (rain, snow)))


@pytest.mark.slow
def test_parts_stay_frozen_only_where_something_gives_them(data, made):
    command = ["finetune", "--config", "train/configs/tiny.yaml", "--data", data, "--out", made[0]]
    said = CliRunner().invoke(app, [*map(str, command), "--set", "finetune.frozen=[encoders.]", "--adapter", "x"])
    assert said.exit_code == 2
    assert "--from" in said.output


def test_a_bundle_is_converted_without_its_run(data, made):
    half, eight = (made[1].with_name(f"tiny_{precision}") for precision in ("fp16", "int8"))
    invoke("convert", "--bundle", made[1], "--precision", "fp16", "--out", half)
    invoke("convert", "--bundle", made[1], "--precision", "int8", "--out", eight, "--data", data)
    for path in (half, eight):
        found = load_bundle(path)
        assert found.manifest.precision == path.name.removeprefix("tiny_")
        sizes = [len(bundle.graph("lidar").content) for bundle in (found, load_bundle(made[1]))]
        assert sizes[0] < 0.6 * sizes[1]
        assert found.graph("lidar").sha256 != load_bundle(path, adapter="none").graph("lidar").sha256


def test_absent_sensors_are_not_computed(data, made):
    reader = NuScenesReader(data)
    runner = BundleRunner(made[1], reader, threads=1)
    calls = []

    class Counted:
        def __init__(self, name, engine):
            self.name, self.engine = name, engine

        def __call__(self, feeds):
            calls.append(self.name)
            return self.engine(feeds)

        def start(self, feeds):
            calls.append(self.name)
            return self.engine.start(feeds)

        def __getattr__(self, name):
            return getattr(self.engine, name)

    runner.engines = {name: Counted(name, engine) for name, engine in runner.engines.items()}
    token = reader.samples("sim_test")[0]
    snapshot = reader.snapshot(token, runner.bundle.spec)
    for sensors in (("radar",), ("lidar", "imu"), ("camera", "radar", "gnss"), MODALITIES):
        calls.clear()
        runner._detectors.clear()  # a detector remembers pictures that it has seen
        detections = runner.detect(token, snapshot, sensors)
        assert sorted(calls[:-1]) == sorted(sensors), "encoders run in parallel"
        assert calls[-1] == "fusion"
        assert [m for m, there in zip(MODALITIES, detections.mask, strict=True) if there] == list(sensors)


def test_subsets_of_a_frame_share_their_encoders_and_nothing_changes(data, made):
    reader = NuScenesReader(data)
    fresh, shared = (BundleRunner(made[1], reader, threads=1) for _ in range(2))
    fresh.engines = {name: getattr(engine, "_engine", engine) for name, engine in fresh.engines.items()}
    for token in reader.samples("sim_test"):
        snapshot = reader.snapshot(token, shared.bundle.spec)
        for sensors in (MODALITIES, ("lidar", "radar"), ("camera",), MODALITIES):
            a, b = (runner.detect(token, snapshot, sensors).boxes for runner in (fresh, shared))
            np.testing.assert_array_equal(a.scores, b.scores)
            np.testing.assert_array_equal(a.centers_m, b.centers_m)


def test_every_second_keyframe_of_a_scene_is_scored(data, made, tmp_path):
    evaluate_bundle(made[1], data, ("sim_test",), {"radar": ("radar",)}, tmp_path, ranges_m=(), every=2)
    scored = json.loads((tmp_path / "clear" / "radar" / "results.json").read_text())["results"]
    reader = NuScenesReader(data)
    scenes = [reader.samples(scene) for scene in reader.splits["sim_test"]]
    assert [*scored] == [token for tokens in scenes for token in tokens[::2]]
    assert len(scored) < sum(map(len, scenes))


def test_the_gate_is_drawn_along_fog_age_and_noise(data, made, tmp_path):
    picture = tmp_path / "gate.png"
    recipe = ["--config", "train/configs/tiny.yaml", "--data", data, "--bundle", made[1]]
    invoke("gate-plot", *recipe, "--out", picture, "--frames", 1)
    measured = json.loads(picture.with_suffix(".json").read_text())
    assert picture.stat().st_size > 10_000
    assert set(measured) == {"fog", *(f"{kind}_{m}" for kind in ("age", "noise") for m in ("lidar", "camera", "radar"))}
    moved = {}
    for name, sweep in measured.items():
        weights = np.array([sweep["weight"][m] for m in MODALITIES])
        assert weights.shape == (5, len(sweep["values"]))
        np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-3)
        moved[name] = np.ptp(weights, axis=1).max()
    # Four steps of training do not teach the gate every sweep; each kind of change reaches it for some sensor.
    for kind in ("fog", "age", "noise"):
        assert max(value for name, value in moved.items() if name.startswith(kind)) > 0, kind


def test_other_classes_are_refused(made):
    bundle = load_bundle(made[1])
    with pytest.raises(ConfigError, match="has another order"):
        refuse_other_classes(bundle, (*CLASSES[1:], CLASSES[0]), "the recipe")
    with pytest.raises(ConfigError, match=r"than the recipe: it lacks tram and has barrier"):
        refuse_other_classes(bundle, (*CLASSES[:-1], "tram"), "the recipe")


def test_a_base_with_other_classes_is_refused(data, made):
    options = ["--config", "train/configs/tiny.yaml", "--data", str(data), "--out", str(made[0])]
    fewer = f"spec.classes={json.dumps(CLASSES[:7])}"
    result = CliRunner().invoke(app, ["finetune", *options, "--adapter", "other", "--set", fewer])
    assert result.exit_code == 2
    assert "sizes or class list" in result.output
    start = ["--from", str(made[0] / "base.pt"), "--out", str(made[0] / "again"), "--set", fewer]
    result = CliRunner().invoke(app, ["pretrain", *options[:4], *start])
    assert result.exit_code == 2
    assert "sizes or class list" in result.output
    result = CliRunner().invoke(app, ["finetune", *options, "--adapter", "../other"])
    assert result.exit_code == 2
    assert "adapter name '../other'" in result.output


def test_frozen_parts_need_given_weights(data, tmp_path):
    options = ["--config", "train/configs/tiny.yaml", "--data", str(data), "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["pretrain", *options, "--set", "pretrain.frozen=[encoders.lidar.]"])
    assert result.exit_code == 2
    assert "--from" in result.output


def test_conditions_are_checked():
    assert parse_conditions() == (CLEAR,)
    names = [str(c) for c in parse_conditions(("fog=50", "clear"), ("dark",), (1, 3))]
    assert names == ["fog=50", "clear", "dark/1", "dark/3"]
    with pytest.raises(ConfigError, match="did you mean 'dark'"):
        parse_conditions(corruptions=("drak",))
    with pytest.raises(ConfigError, match="choose 1, 2 or 3"):
        parse_conditions(corruptions=("dark",), severities=(4,))


def test_metrics_by_range_see_only_that_range(data, tmp_path):
    reader = NuScenesReader(data)
    results = {}
    for token in reader.samples("sim_test"):
        boxes = reader.truth(token)
        near = np.linalg.norm(boxes.centers_m[:, :2], axis=1) < 20
        results[token] = result_rows(token, boxes[near], reader.global_SE3_base(token))
    ranges = score(open_devkit(data, reader.version), results, tmp_path, {"use_lidar": True})["ranges"]
    assert ranges["0-20 m"]["mean_ap"] > 0.9
    assert ranges["30-50 m"]["mean_ap"] < 0.05


def test_sensors_are_checked():
    assert parse_sensors("radar, lidar") == ("lidar", "radar")
    with pytest.raises(ConfigError, match="did you mean 'camera'"):
        parse_sensors("camra")
    with pytest.raises(ConfigError, match="alone see objects"):
        parse_sensors("imu")


def test_temperature_is_found():
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 2, 20000)
    hits = draw.random(20000) < 1 / (1 + np.exp(-logits / 2.5))
    scores = 1 / (1 + np.exp(-logits))
    temperature = fit_temperature(scores, hits)
    assert temperature == pytest.approx(2.5, rel=0.08)
    after = 1 / (1 + np.exp(-logits / temperature))
    assert expected_error(after, hits) < 0.02 < expected_error(scores, hits)


def test_each_truth_box_is_found_once():
    truth = Boxes3D.make(np.array([[0.0, 0, 0], [10, 0, 0]]), np.ones((2, 3)), np.zeros(2), np.array([0, 1]))
    boxes = Boxes3D.make(
        np.array([[0.5, 0, 0], [0.1, 0, 0], [10, 0, 0], [10, 1, 0]]),
        np.ones((4, 3)),
        np.zeros(4),
        np.array([0, 0, 0, 1]),
    )
    assert matched(boxes, truth).tolist() == [True, False, False, True]
