# SPDX-License-Identifier: Apache-2.0
"""From simulated scenes to a scored bundle, on a tiny network: every command of the recipe."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.datasets.nuscenes import NuScenesReader
from peft_dml_ros.datasets.nuscenes_writer import write_scene
from peft_dml_ros.datasets.nuscenes_writer_tables import finish
from peft_dml_ros.sim.drive import Drive, DriveSpec
from peft_dml_ros.sim.vehicle_rig import make_rig
from peft_dml_train.cli import app
from peft_dml_train.data.dataset import load_frames
from peft_dml_train.data.frame import NO_DEPTH
from peft_dml_train.evaluation.calibration import expected_error, fit_temperature, matched
from peft_dml_train.evaluation.official import open_devkit, result_rows, score
from peft_dml_train.evaluation.subsets import parse_sensors

VERSION = "v1.0-sim"
NAMES = ("scene-5000", "scene-5001", "scene-5002")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three scenes of one keyframe each or two, with small pictures and few radar cycles."""
    root = tmp_path_factory.mktemp("scenes")
    spec = DriveSpec(image_width_px=192, camera_hz=2, lidar_hz=4, radar_hz=4, imu_hz=50, odometry_hz=20)
    for i, name in enumerate(NAMES):
        drive = Drive(31 + i, 1.5, spec, name=name)
        stamps = {}
        for event in drive.events:
            stamps.setdefault(event.sensor, []).append(event.stamp_ns)
        write_scene(root, VERSION, name, drive, stamps)
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


def test_no_boxes_score_nothing(data, tmp_path):
    reader = NuScenesReader(data)
    results = {token: [] for token in reader.samples("sim_test")}
    metrics = score(open_devkit(data, reader.version), results, tmp_path, {"use_lidar": True})
    assert metrics["mean_ap"] == 0


def test_recipe_makes_a_bundle(data, tmp_path):
    config = "train/configs/tiny.yaml"
    run, bundle = tmp_path / "run", tmp_path / "models" / "tiny"
    common = ["--config", config, "--data", str(data)]
    for command in (
        ["pretrain", *common, "--out", str(run)],
        ["finetune", *common, "--out", str(run), "--resume"],
        ["export", *common, "--out", str(run), "--bundle", str(bundle)],
        ["evaluate", *common, "--bundle", str(bundle), "--out", str(run / "evaluation"), "--record"],
    ):
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    loaded = load_bundle(bundle)
    assert loaded.manifest.trained_share < 0.10
    assert len(loaded.temperatures) == 28
    assert set(loaded.manifest.metrics["test"]) >= {"all", "no lidar", "no camera"}
    assert loaded.manifest.provenance["stages"]["pretrain"]["steps"] == 4
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "simulated" in card
    assert "| no lidar |" in card
    assert json.loads((bundle / "adapter" / "adapter_config.json").read_text())["r"] == 2
    shutil.rmtree(bundle)


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
