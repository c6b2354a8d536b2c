# SPDX-License-Identifier: Apache-2.0
"""Cells begin with a bundle's network as it is: its adapter merged, no first stage, no seed of its own."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from peft_dml_evidence import record, runner
from peft_dml_evidence.budgets import recipe_file
from peft_dml_evidence.catalog import COMMANDS, choose
from peft_dml_evidence.cells import TrainingPlan
from peft_dml_evidence.given_base import bundle_state, on_given_base
from peft_dml_evidence.training import CellBench, RunSettings, adapted_folder, network_of
from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.atomic_files import write_json
from peft_dml_train.adapters.base_weights import load_base_state
from peft_dml_train.config import load_config

BASE = Path(__file__).parents[2] / "models" / "base"


@pytest.fixture
def bench(data, tmp_path):
    setting = RunSettings("near", recipe_file("near"), data, None, tmp_path / "runs", tmp_path / "out", base=BASE)
    return CellBench.open(setting, float("inf"))


def test_the_base_of_a_cell_is_the_bundles_network_with_its_adapter(bench):
    network, costs = network_of(bench, TrainingPlan("base"), 7)
    assert costs == {"base": {"bundle": "base"}}
    config = load_config(recipe_file("near"))
    state, raw = bundle_state(BASE, config), load_base_state(BASE)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert any(not torch.equal(value, raw[name]) for name, value in state.items()), "the adapter is merged"
    with pytest.raises(ConfigError, match="another network than recipe 'tiny', at "):
        bundle_state(BASE, load_config(recipe_file("tiny")))
    with pytest.raises(ConfigError, match=r"at network\.level_features; fix: --base models/base goes with"):
        bundle_state(BASE, load_config(recipe_file("near"), ("network.level_features=false",)))


def test_a_cell_with_a_base_of_its_own_is_refused(bench):
    (zero_filled,) = choose(COMMANDS["baselines"](), ["zero_filled"])
    with pytest.raises(ConfigError, match=r"a base of its own, with network\.fusion=concat"):
        adapted_folder(bench, zero_filled.plan, 7)
    (fast,) = choose(COMMANDS["domains"](), ["fast_peft_all"])
    with pytest.raises(ConfigError, match="scenes of kind 'slow'"):
        adapted_folder(bench, fast.plan, 7)


def test_robustness_is_that_of_the_given_network(bench):
    subsets, zero_filled = COMMANDS["robustness"]()[0], COMMANDS["baselines"]()[0]
    assert on_given_base(subsets).plan == TrainingPlan("base")
    assert on_given_base(zero_filled) is zero_filled
    assert record.header(bench, on_given_base(subsets), 7)["steps"] == {"base": 0, "adapted": 0}
    assert record.header(bench, on_given_base(subsets), 7)["range_m"] == 25.6


def test_a_given_network_is_measured_once_for_all_seeds(bench, monkeypatch):
    (cell,) = choose(COMMANDS["domains"](), ["showers_none"])
    first = {**record.header(bench, cell, 7), "scores": {"rain=40": {"all": {"nds": 0.4}}}, "wall_s": 1.0}
    write_json(runner.result_path(bench.setting, cell, 7), first)
    monkeypatch.setattr(runner, "network_of", lambda *_: pytest.fail("measured again"))
    found = runner.run_cell(bench, cell, 8)
    assert (found["seed"], found["scores"]) == (8, first["scores"])
    assert runner.finished(bench, cell, 8)
    assert not runner.finished(replace(bench, setting=replace(bench.setting, frames=3)), cell, 8)
