# SPDX-License-Identifier: Apache-2.0
"""`peft-dml-train adapt` from frames to adapter: refused when nothing is gained, resumed, with labels or without."""

import signal
import subprocess
import sys
from inspect import signature

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from peft_dml_ros.core.adapter import CARD, WEIGHTS
from peft_dml_ros.core.adapter_domain import read_domain
from peft_dml_ros.core.bundle import ADAPTERS, BASE_WEIGHTS, load_bundle
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_tools.bundles.manifest import write_manifest
from peft_dml_tools.commands.simulate import write_one
from peft_dml_tools.datasets.nuscenes_writer_tables import finish
from peft_dml_tools.sim.drive import DriveSpec
from peft_dml_tools.sim.vehicle_rig import make_rig
from peft_dml_train.cli import app
from peft_dml_train.cli_adapt import adapt as adapt_command
from peft_dml_train.export.adapter import LARGEST_BYTES
from peft_dml_train.few_shot import adapt as adapting
from peft_dml_train.few_shot.adapt import AdaptOptions, adapt
from peft_dml_train.loop.checkpoint import load_checkpoint
from peft_dml_train.loop.stages import new_network
from tests.support.damaged_base import damaged_base
from tests.support.exported import bundle_of
from tests.support.miniature import simulate_into

OPTIONS = AdaptOptions(start="none", steps=4, minutes=60, seed=3)


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    """Three scenes of three keyframes each."""
    root = tmp_path_factory.mktemp("drive") / "mine"
    made = simulate_into(root, "--scenes", "3")
    assert made.exit_code == 0, made.output
    return root


@pytest.fixture(scope="module")
def base(config, tmp_path_factory):
    """A tiny untrained base that knows its recipe."""
    plain = config.model_copy(update={"dropout": config.dropout.model_copy(update={"corruption": 0.0})})
    bundle = bundle_of(new_network(plain), tmp_path_factory.mktemp("base") / "tiny")
    recipe = {"config": plain.model_dump(mode="json", exclude={"spec"})}
    write_manifest(bundle.path, bundle.manifest.model_copy(update={"provenance": recipe}))
    return bundle.path


def test_an_adapter_that_is_no_better_is_not_written(base, drive, tmp_path):
    out = tmp_path / "mine"
    with pytest.raises(DataError, match=r"no adapter is written: no step was better than 'none' on the \d frames"):
        adapt(base, drive, out, OPTIONS)
    assert not out.exists()
    said = CliRunner().invoke(
        app, ["adapt", "--base", str(base), "--data", str(drive), "--out", str(out), "--class", "x"]
    )
    assert said.exit_code == 2
    assert "--class x is not of the form NAME=CLASS" in said.output


def test_an_interrupted_call_goes_on_where_it_was_and_with_other_frames_not(base, drive, tmp_path, monkeypatch):
    """Scores are set here, rising, so that the best weights are the last; everything else is real."""
    out, scores = tmp_path / "mine", iter([0.1, 0.2, KeyboardInterrupt])

    def score(*_):
        value = next(scores)
        if value is KeyboardInterrupt:
            raise KeyboardInterrupt
        return (value,) * 3

    monkeypatch.setattr(adapting, "half_scores", score)
    with pytest.raises(KeyboardInterrupt):
        adapt(base, drive, out, OPTIONS)
    work = out.with_name(".mine.training")
    assert load_checkpoint(work / "stage" / "last.pt")["step"] == 2
    scores = iter([0.1])
    again = AdaptOptions(start="none", steps=4, minutes=60, seed=3, resume=True)
    with pytest.raises(ConfigError, match="is of other frames or settings"):
        adapt(base, drive, out, AdaptOptions(start="none", steps=4, minutes=60, seed=4, resume=True))
    scores = iter([0.1, 0.3, 0.4])
    with pytest.raises(DataError, match="no adapter is written: NDS"):  # the vehicle's own figures are not set
        adapt(base, drive, out, again)
    assert next(scores, None) is None, "steps 3 and 4 alone were left"
    assert load_checkpoint(work / "stage" / "last.pt")["step"] == 4
    assert load_checkpoint(work / "checks" / "4.pt")["step"] == 4
    assert len(list((work / "checks").iterdir())) == 4 - 1, "what was interrupted is not looked at"


def test_a_model_that_is_sure_of_nothing_labels_nothing(base, drive, tmp_path):
    with pytest.raises(DataError, match="the model is sure of nothing there"):
        adapt(base, drive, tmp_path / "mine", AdaptOptions(start="none", unlabelled=True, steps=1))


def test_the_bundle_that_is_taken_without_being_named_has_a_base(repository):
    """It was models/demo, which has none."""
    default = signature(adapt_command).parameters["base"].default
    assert (repository / default / BASE_WEIGHTS).is_file()


def test_a_bundle_without_a_recipe_cannot_be_adapted(config, drive, tmp_path):
    bundle = bundle_of(new_network(config), tmp_path / "bare")
    with pytest.raises(ConfigError, match="its manifest holds no recipe"):
        adapt(bundle.path, drive, tmp_path / "mine", OPTIONS)


@pytest.mark.slow
def test_a_few_frames_repair_a_damaged_adapter(tmp_path):
    root, out = tmp_path / "drive", tmp_path / "mine"
    write_one((str(root), "scene-6000", 77, 4.1, DriveSpec(image_width_px=352, lidar_hz=10, camera_hz=2)))
    finish(root, "v1.0-sim", make_rig(352), {"sim_train": ["scene-6000"]})
    folder = damaged_base(tmp_path / "base")
    gain = adapt(folder, root, out, AdaptOptions(steps=24, minutes=60, rate=1.0, undecided=True, patience=9))
    assert gain.change > 0
    before, after = (load_file(where / WEIGHTS) for where in (folder / ADAPTERS / "default", out))
    norms = [name for name in before if "running_" in name]
    assert len(norms) > 9
    assert all(torch.equal(before[name], after[name]) for name in norms), "statistics of a few frames"
    bundle = load_bundle(folder, adapter=str(out))
    card, domain = bundle.adapters.parts[0][0].card, read_domain(out)
    assert domain.figures["lidar_points"].mean > 3
    assert card.provenance["seed"] == 7
    assert card.metrics["held_out"]["nds"] == gain.after.nds > card.metrics["held_out"]["nds_before"]
    assert sum(path.stat().st_size for path in out.iterdir()) <= LARGEST_BYTES
    assert (out / CARD).is_file()
    assert not out.with_name(".mine.training").exists()


def test_a_folder_of_something_else_is_not_replaced(base, drive, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds files of something else; fix: "):
        adapt(base, drive, tmp_path, OPTIONS)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_an_interrupt_is_one_line_that_names_resume(base, drive, tmp_path):
    arguments = ["adapt", "--base", base, "--data", drive, "--out", tmp_path / "mine", "--steps", 5000]
    command = [sys.executable, "-c", "from peft_dml_train.cli import app; app()", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        lines = iter(process.stderr)
        assert any("held out" in line for line in lines)
        process.send_signal(signal.SIGINT)
        rest = "".join(lines)
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert rest.splitlines()[-1].startswith("Interrupted; with --resume")
