# SPDX-License-Identifier: Apache-2.0
"""The table of targets: what it compares, what it refuses, and every row of it on a tiny bundle."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from peft_dml_evidence.target_measures import car_errors, headings
from peft_dml_evidence.targets import (
    BEGIN,
    END,
    TARGETS,
    fill_page,
    parse_withheld,
    read_previous,
    target_rows,
    target_table,
)
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_train.cli import app

RECIPE = "train/configs/tiny.yaml"


def test_axis_and_front_are_measured_apart():
    truth = Boxes3D.make(
        np.array([[5.0, 0, 0], [15, 0, 0], [25, 0, 0], [35, 0, 0]]),
        np.ones((4, 3)),
        np.array([0.0, 1.0, -3.0, 0.0]),
        np.array([0, 0, 0, 5]),
        velocities_mps=np.array([[0.0, 0], [3, 4], [0, 0.1], [0, 0]]),
    )
    found = replace(truth, yaws_rad=np.array([0.1, 1.0 + np.pi - 0.2, 3.0, 1.0]))  # the third crosses ±π
    errors = car_errors(found, truth)
    np.testing.assert_allclose(errors[:, 0], [0.1, 0.2, 2 * np.pi - 6.0], atol=1e-9)
    assert errors[:, 1].tolist() == [0, 1, 0]
    summary = headings(errors)
    assert summary["cars"] == 3
    assert summary["axis_error_moving"] == pytest.approx(0.2)
    assert summary["turned_round"] == pytest.approx(1 / 3, abs=1e-3)
    assert headings(np.zeros((0, 3)))["axis_error_still"] is None


def shown(*figures):
    console = Console(width=130, record=True)
    console.print(target_table(target_rows(*figures)))
    return console.export_text()


def test_a_row_says_whether_its_target_is_met():
    clear = {"all": {"map": 0.75, "nds": 0.7, "maoe": 0.4}, "no radar": {"nds": 0.6}}
    figures = {"scores": {"clear": clear}, "gate": {"clear": 0.3, "radar_noise/3": 0.1}}
    lines = {line.split("│")[1].strip(): line for line in shown(figures).splitlines() if line.count("│") > 2}
    assert lines["mAP, all sensors"].split("│")[3:6] == [" 0.750       ", " ≥ 0.74 ", " yes "]
    assert " no " in lines["mAOE in rad"]
    assert " 0.333 " in lines["radar's gate weight ÷ clean: four noises at once"]
    assert lines["NDS kept without LiDAR"].count(" - ") == 3
    assert len(lines) == len(TARGETS)


def test_the_table_of_a_page_is_replaced(tmp_path):
    page, rows = tmp_path / "page.md", target_rows({"scores": {"clear": {"all": {"map": 0.5}}}})
    page.write_text(f"# Page\n\n{BEGIN}\nold\n{END}\nrest\n")
    for _ in range(2):
        fill_page(page, rows, "demo:")
    text = page.read_text()
    assert "old" not in text
    assert text.endswith(f"{END}\nrest\n")
    assert "| mAP, all sensors | - | 0.500 | ≥ 0.74 | no |" in text
    assert text.count("mAP, all sensors") == 1
    with pytest.raises(DataError, match=r"lacks the lines .*fix: put them"):
        fill_page(tmp_path / "none.md", rows, "")


def test_mistakes_are_named(tmp_path):
    assert parse_withheld("radar:barrier=a,b") == ("radar", "barrier", ["a", "b"])
    for text, reason in (
        ("radr:car=a", "mean 'radar'"),
        ("radar:cat=a", "'car'"),
        ("radar:car", "one adapter"),
    ):
        with pytest.raises(ConfigError, match=reason):
            parse_withheld(text)
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(DataError, match=r"other\.json holds no figures.*fix: name a targets\.json"):
        read_previous(tmp_path / "other.json")
    command = ["targets", "--data", str(tmp_path), "--zero-shot", "radar:car=a"]
    assert "give the run that holds them with --run" in CliRunner().invoke(app, command).output


def invoke(*command):
    result = CliRunner().invoke(app, [str(part) for part in command], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_every_row_is_measured(data, tmp_path):
    run, other, bundle, out = (tmp_path / name for name in ("run", "other", "bundle", "targets"))
    common = ["--config", RECIPE, "--data", data, "--set", "dropout.degraded_portion=0"]
    invoke("pretrain", *common, "--out", run, "--set", "splits.train=[sim_val]", "--set", "pretrain.steps=2")
    steps = ["--set", "finetune.steps=2"]
    for name in ("default", "withheld", "no_metric"):
        less = ["--set", "withheld=[radar:car]"] if name != "default" else []
        less += ["--set", "losses.alignment=0", "--set", "losses.instance=0"] if name == "no_metric" else []
        invoke("finetune", *common, "--out", run, "--adapter", name, *steps, *less)
    joined = ["--set", "network.fusion=concatenate"]
    other.mkdir()
    for name in ("base.pt", "base.json"):
        shutil.copyfile(run / name, other / name)
    invoke("finetune", *common, "--out", other, *steps, *joined)
    invoke("export", *common, "--out", run, "--bundle", bundle)
    options = ["--config", RECIPE, "--run", run, "--zero-shot", "radar:car=withheld,no_metric"]
    command = ["targets", "--data", data, "--bundle", bundle, "--out", out, "--frames", 1]
    text = invoke(*command, *options, "--concatenation", other)
    figures = json.loads((out / "targets.json").read_text())
    assert figures["turned"].keys() == {"0", "45", "90"}
    assert figures["retrieval"]["objects"] > 3
    assert figures["zero_shot"][0].keys() == {"modality", "class", "together", "withheld", "without_metric"}
    assert 0 <= figures["concatenation"]["nds"] <= 1
    assert figures["scores"].keys() == {"clear", *(look for look in figures["gate"] if look != "clear")}
    assert len(figures["gate"]) == 6
    assert np.std(list(figures["gate"].values())) > 0, "the noises reach the gate"
    assert all(target.name in text for target in TARGETS)
    again = shown({}, read_previous(out / "targets.json"))
    assert f"{figures['scores']['clear']['all']['nds']:.3f}" in again
