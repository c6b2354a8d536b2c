# SPDX-License-Identifier: Apache-2.0
"""The gain on a domain is measured on its test frames, against the default adapter; none written is said so."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from peft_dml_evidence import gaps
from peft_dml_ros.core.bundle import ADAPTERS
from tests.support.damaged_base import BASE, damaged_base


def test_a_better_adapter_gains_and_one_that_was_not_written_is_said_so(data, tmp_path):
    base, domain, out = damaged_base(tmp_path / "base"), tmp_path / "gaps" / "rain", tmp_path / "gaps.json"
    domain.mkdir(parents=True)
    (domain / "test").symlink_to(data)
    shutil.copytree(BASE / ADAPTERS / "default", domain / "labelled")
    card = json.loads((domain / "labelled" / "adapter.json").read_text())
    card["provenance"]["frames_trained"] = 24
    (domain / "labelled" / "adapter.json").write_text(json.dumps(card))
    said = "adapters/mine: NDS 0.300 -> 0.340, +0.040 (-0.010 to +0.070), undecided on 12 frames; mAP 0.250 -> 0.260"
    (domain / "labelled.txt").write_text(f"{said}\n")
    (domain / "unlabelled.txt").write_text("error: no adapter is written: no step was better than 'default'\n")
    app = gaps.typer.Typer()
    app.command()(gaps.main)
    options = {"base": base, "work": domain.parent, "scenes": 6, "steps": 80, "out": out}
    said = CliRunner().invoke(app, [word for name, value in options.items() for word in (f"--{name}", str(value))])
    assert said.exit_code == 0, said.output
    labelled, unlabelled = json.loads(out.read_text())["rows"]
    assert (labelled["domain"], labelled["labels"], labelled["frames"]) == ("rain", "labelled", 24)
    assert labelled["nds"] > labelled["nds_before"] > 0
    assert labelled["adapt_said"] == "+0.040 (-0.010 to +0.070), undecided"
    low, high = labelled["gain_95_percent"]
    assert low <= labelled["nds"] - labelled["nds_before"] <= high
    assert labelled["map"] != pytest.approx(labelled["map_before"])
    assert (unlabelled["adapted"], unlabelled["adapt_said"]) == (False, "no step was better")
    assert "lidar" not in unlabelled["sensors"]
    assert unlabelled["nds_before"] < labelled["nds_before"]
    assert "nds" not in unlabelled
