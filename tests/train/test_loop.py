# SPDX-License-Identifier: Apache-2.0
"""The loop learns, stops, resumes to the same weights, and recipes are checked."""

import pytest
import torch
from typer.testing import CliRunner

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_train.cli import app
from peft_dml_train.config import load_config
from peft_dml_train.data.batch import BatchStream
from peft_dml_train.loop.checkpoint import load_checkpoint, save_checkpoint
from peft_dml_train.loop.schedule import one_cycle
from peft_dml_train.loop.stages import new_network
from peft_dml_train.loop.trainer import Trainer


def stream(frames, config):
    return BatchStream(frames, config, config.pretrain, seed=1)


def test_the_loss_falls(frames, config, tmp_path):
    stage = config.pretrain.model_copy(update={"steps": 25, "rate": 5e-3})
    trainer = Trainer(config, stage, new_network(config), tmp_path)
    losses = []
    step = trainer._step

    def watched(batch):
        record = step(batch)
        losses.append(record["loss"])
        return record

    trainer._step = watched
    trainer.run(stream(frames, config))
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(frames, config, tmp_path):
    whole = Trainer(config, config.pretrain, new_network(config), tmp_path / "whole")
    whole.run(stream(frames, config))

    class StopHereError(Exception):
        pass

    cut = Trainer(config, config.pretrain, new_network(config), tmp_path / "cut")
    step = cut._step

    def failing(batch):
        if cut.step == 2:
            raise StopHereError
        return step(batch)

    cut._step = failing
    with pytest.raises(StopHereError):
        cut.run(stream(frames, config))
    again = Trainer(config, config.pretrain, new_network(config), tmp_path / "cut")
    again.resume()
    assert again.step == 2
    again.run(stream(frames, config))
    for (name, a), b in zip(whole.network.state_dict().items(), again.network.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0.05, msg=name)


def test_damaged_checkpoints_are_refused(tmp_path):
    path = tmp_path / "last.pt"
    with pytest.raises(DataError, match="run the stage before"):
        load_checkpoint(path)
    save_checkpoint(path, {"step": 3})
    assert load_checkpoint(path) == {"step": 3}
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="cannot be read"):
        load_checkpoint(path)


def test_schedule_rises_and_falls():
    rates = [one_cycle(p / 100, 0.1) for p in range(101)]
    assert max(rates) == pytest.approx(rates[10])
    assert rates[0] < 0.05
    assert rates[100] < 0.01


def test_recipes_name_their_mistakes(tmp_path):
    with pytest.raises(ConfigError, match=r"pretrain\.stepz.*'steps'"):
        load_config(None, ("pretrain.stepz=3",))
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load_config(None, ("pretrain",))
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "no.yaml")
    assert load_config(None, ("losses.code=[1,1,1,1,1,1,1,1,0.5,0.5]",)).losses.code[-1] == 0.5


def test_commands_tell_expected_errors_in_one_line(tmp_path):
    result = CliRunner().invoke(app, ["pretrain", "--data", str(tmp_path), "--set", "seeed=1"])
    assert result.exit_code == 1
    assert "did you mean 'seed'" in result.output
