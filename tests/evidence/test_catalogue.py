# SPDX-License-Identifier: Apache-2.0
"""The catalogue holds the cells of every claim."""

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from peft_dml_evidence import redo
from peft_dml_evidence.baseline_cells import CORRUPTED, NOISY
from peft_dml_evidence.budgets import BUDGETS, recipe_file
from peft_dml_evidence.catalog import COMMANDS, by_importance, choose
from peft_dml_evidence.cells import EVERY_SUBSET, KEY_SEEDS, ScenePick, subsets_of
from peft_dml_evidence.frame_conditions import parse_frame_condition
from peft_dml_evidence.gap_cells import FEW_SCENES, FORGETTING, GAPS, TRIED
from peft_dml_evidence.zero_shot import ZERO_SHOT_CLASSES
from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.sim.corruptions import MULTICORRUPT
from peft_dml_tools.sim.vehicle_rig import make_rig
from peft_dml_train.cli import app
from peft_dml_train.config import LossConfig, load_config

ROOT = Path(__file__).parents[2]
ALL_CELLS = [cell for make in COMMANDS.values() for cell in make()]


def cells_of(command):
    return {cell.name: cell for cell in COMMANDS[command]()}


def test_every_cell_has_a_valid_recipe_and_a_name_of_its_own():
    cells = ALL_CELLS
    assert len({(c.command, c.name) for c in cells}) == len(cells)
    for overrides in {(*cell.plan.base, *cell.plan.adapt) for cell in cells}:
        for config in BUDGETS:
            load_config(recipe_file(config), (*BUDGETS[config], *overrides))
    for cell in cells:
        assert all(parse_frame_condition(text) for text in cell.looks)
        assert subsets_of(cell.subsets).keys() == set(cell.subsets)
        assert cell.file_name("tiny", 7).replace(".", "").replace("-", "").replace("_", "").isalnum()


def test_dropout_cells_are_those_of_the_issue():
    cells = cells_of("robustness")
    assert len(set(cells["subsets"].subsets)) == 31
    assert {"imu", "gnss", "imu+gnss", "lidar", "lidar+camera", "+".join(MODALITIES)} <= set(EVERY_SUBSET)
    lost = set(cells["one_lost"].looks)
    assert {f"lost:{s.name}" for m in ("camera", "radar") for s in make_rig().of(m)} == lost - {"clear"}
    assert len(lost) == 12
    assert {f"beamsreducing/{s}" for s in (1, 2, 3)} < set(cells["beams"].looks)
    assert {"field_of_view/1", "field_of_view/2"} < set(cells["field_of_view"].looks)
    assert {f"{k}:{m}" for k in ("frozen", "delayed") for m in DETECTING} < set(cells["late"].looks)
    for kind in ("fog", "rain", "snow"):
        assert sum(look.startswith(kind) for look in cells["weather"].looks) == 3
    for name in MULTICORRUPT:
        for s in (1, 2, 3):
            assert f"{name}/{s}" in cells["multicorrupt"].looks
            assert f"{name}/{s}+radar" in cells["multicorrupt_radar"].looks
    assert sum(look.startswith("radar_") for look in cells["multicorrupt_radar"].looks) == 12


def test_training_cells_are_those_of_the_issue():
    ranks = cells_of("ranks")
    assert {"peft", "full", "head", "scratch", "rank4", "rank8", "rank16"} <= set(ranks)
    parts = {"lora", "adapters", "cross_attention", "neighbourhood", "gate", "disagreement", "metric_loss"}
    parts |= {"shared_classifier", "consistency", "modality_dropout", "gate_supervision", "concatenation"}
    assert {f"no_{part}" for part in parts} | {"complete"} == set(cells_of("ablate"))
    zero = cells_of("zero-shot")
    for m in DETECTING:
        assert f"{m}_together" in zero
        for name in ZERO_SHOT_CLASSES:
            withheld = zero[f"{m}_{name}"].plan.adapt[0]
            assert f"{m}:{name}" in withheld
            assert withheld.count(m) == 1, "no modality lacks more than one class"
            without = zero[f"{m}_{name}_without_metric_loss"].plan
            assert without.adapt[0] == withheld
            assert "losses.alignment=0" in without.base
    domains = cells_of("domains")
    assert len(domains) == len(GAPS) * (2 + len(TRIED) * len(FEW_SCENES) + len(FORGETTING))
    assert {2, 8, 32, 0} == set(FEW_SCENES)
    assert {"peft", "full", "head", "partial", "scratch"} == set(TRIED)
    assert domains["city_peft_8"].plan.target == ScenePick("finetune", "other_city", 8)
    assert domains["rig_none"].test == ScenePick("test", domain="rig")
    assert domains["rig_full_all_source"].test == ScenePick("test")
    assert "finetune.rate=0.0003" in domains["rig_full_all"].plan.adapt, "full fine-tuning has a rate of its own"
    assert not any("rate" in change for change in domains["rig_peft_all"].plan.adapt)
    assert domains["fast_partial_32"].plan.source == ScenePick("train", "slow")
    assert {cell.seeds for cell in domains.values()} == {KEY_SEEDS}
    baselines = cells_of("baselines")
    assert {"zero_filled", "averaging", "only_lidar", "only_camera", "only_radar_camera"} <= set(baselines)
    assert "dropout.lidar=0" in baselines["zero_filled"].plan.base
    assert cells_of("cost")["subsets"].subsets == EVERY_SUBSET
    key = [cells_of("robustness")["subsets"], *ranks.values(), baselines["zero_filled"], *zero.values()]
    key += cells_of("ablate").values()
    assert all(cell.seeds == KEY_SEEDS and len(cell.seeds) == 3 for cell in key)


def test_an_unknown_cell_is_named():
    with pytest.raises(ConfigError, match="did you mean 'rank16'"):
        choose(COMMANDS["ranks"](), ["rank15"])
    with pytest.raises(ConfigError, match="it is called 'complete' now"):
        choose(COMMANDS["ablate"](), ["ours"])


def test_the_most_important_comes_first_and_nothing_is_forgotten():
    order = [(c.command, c.name, s) for c, s in by_importance()]
    assert len(set(order)) == len(order)
    assert set(order) == {(c.command, c.name, s) for c in ALL_CELLS for s in c.seeds}
    every_claim = {("robustness", "subsets"), ("ranks", "peft"), ("ranks", "full"), ("baselines", "zero_filled")}
    every_claim |= {("zero-shot", f"lidar_{ZERO_SHOT_CLASSES[0]}{s}") for s in ("", "_without_metric_loss")}
    every_claim |= {("robustness", "multicorrupt_radar")}
    first = {entry[:2] for entry in order[: [s for *_, s in order].index(8)]}
    assert every_claim <= first, "every claim with one seed before any with more"


def test_every_claim_is_held_against_both_baselines_in_every_cell():
    robust, others = cells_of("robustness"), cells_of("baselines")
    for name in ("multicorrupt", "multicorrupt_radar", "weather"):
        for baseline in ("zero_filled", "averaging"):
            theirs = others[f"{baseline}_{name}"]
            assert (theirs.looks, theirs.subsets, theirs.seeds) == (robust[name].looks, robust[name].subsets, KEY_SEEDS)
    assert len(NOISY) == len(CORRUPTED) == 30
    odometry = robust["odometry"]
    assert odometry.test == ScenePick("test", "fast")
    assert {"lost_odometry", "lost_odometry:imu+gnss"} < set(odometry.looks)
    added = [cell for name, cell in others.items() if name.startswith("added_")]
    assert [cell.subsets for cell in added] == [("+".join(MODALITIES[:n]),) for n in range(1, 5)]
    assert all(f"sensors=[{cell.subsets[0].replace('+', ', ')}]" in cell.plan.base for cell in added)
    assert {"subsets", "concatenate", "average"} == set(cells_of("cost"))


def test_zero_shot_encoders_know_the_class_and_the_adaptation_never_saw_the_pair():
    for name, cell in cells_of("zero-shot").items():
        if "retrieval" not in name:
            assert cell.plan.fresh
            assert cell.plan.mode == "peft"
            assert not any("withheld" in change for change in cell.plan.base)
            assert any("withheld" in change for change in cell.plan.adapt) == (not name.endswith("_together"))


def test_weights_are_swept_around_the_defaults():
    found = {cell.name: cell.plan.base for cell in COMMANDS["weights"]()}
    assert found["metric_thrice"] == (
        f"losses.alignment={3 * LossConfig().alignment:.4g}", f"losses.instance={3 * LossConfig().instance:.4g}"
    )  # fmt: skip
    assert len(found) == 8


def test_the_two_cells_to_redo_exist_and_their_command_parses():
    page = (ROOT / "docs" / "results.md").read_text()
    cells = re.findall(r"^CELLS=(\S+) train/recipes/redo\.sh$", page, re.MULTILINE)
    assert len(cells) == 2
    choose(COMMANDS["domains"](), cells)
    script = (ROOT / "train" / "recipes" / "redo.sh").read_text()
    default = re.search(r"\$\{CELLS:-(.*?)\}", script)
    assert default
    assert default[1].split() == cells
    # What the script calls is parsed by the commands themselves; without scenes they refuse what is behind the parsing.
    call = re.search(r"peft-dml-train (domains .*?)\"\$\{CHOSEN", script, re.MULTILINE | re.DOTALL)
    assert call
    words = shlex.split(call[1].replace("\\\n", " ").replace("$RUN", "nowhere"))
    chosen = [word for cell in cells for word in ("--cell", cell)]
    command = typer.main.get_command(app).commands[words[0]]
    found = command.make_context(words[0], [*words[1:], *chosen]).params
    assert (found["config"].value, found["base"], found["seeds"]) == ("near", Path("nowhere/code/models/base"), 1)
    assert found["cell"] == cells
    simulate = (ROOT / "train" / "recipes" / "evidence.sh").read_text()
    for option in ("--weather fog=40", "--seed 65", "--seconds 3", "--splits 0.5,0,0.5", "--lidar-hz 10"):
        assert option in script, "the same scenes as those of the stored cells"
        assert option in simulate


def test_cells_that_were_run_again_agree_within_the_interval(tmp_path):
    def write(folder, cell, nds):
        scenes = {f"scene-{i}": nds + 0.02 * (i % 5 - 2) for i in range(10)}
        entry = {"map": nds, "nds": nds, "ap": {}}
        record = {
            "command": "domains", "cell": cell, "config": "near", "seed": 7,
            "scores": {"clear": {"all": entry}}, "scenes": {"clear": {"all": scenes}},
        }  # fmt: skip
        path = tmp_path / folder / "domains" / f"{cell}.near.s7.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))

    write("stored", "beams_none", 0.40)
    write("stored", "beams_peft_all", 0.42)
    write("again", "beams_none", 0.405)
    call = [str(tmp_path / "again"), "--stored", str(tmp_path / "stored")]
    command = typer.Typer()
    command.command()(redo.main)
    result = CliRunner().invoke(command, call)
    assert (result.exit_code, "agrees" in result.output) == (0, True), result.output
    write("again", "beams_peft_all", 0.30)
    result = CliRunner().invoke(command, call)
    assert result.exit_code == 1
    assert "beams_peft_all: NDS 0.300, stored 0.420" in result.output
    assert "DIFFERS" in result.output
