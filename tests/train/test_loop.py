# SPDX-License-Identifier: Apache-2.0
"""The loop learns, stops, resumes to the same weights, and recipes are checked."""

import json
import logging
import platform
import resource
import subprocess
import sys

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_train.cli import app
from peft_dml_train.config import load_config
from peft_dml_train.data.batch import BatchStream
from peft_dml_train.loop.checkpoint import load_checkpoint, save_checkpoint
from peft_dml_train.loop.schedule import one_cycle
from peft_dml_train.loop.stages import load_base, new_network
from peft_dml_train.loop.trainer import Trainer


def stream(frames, config):
    return BatchStream(frames, config, config.pretrain, seed=1)


def test_the_loss_falls(frames, config, tmp_path):
    stage = config.pretrain.model_copy(update={"steps": 60, "rate": 5e-3})
    trainer = Trainer(config, stage, new_network(config), tmp_path)
    losses = losses_of(trainer)
    trainer.run(stream(frames, config))
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def losses_of(trainer):
    """Where the losses of a run will be."""
    losses, step = [], trainer._step

    def watched(batch):
        record = step(batch)
        losses.append(record["loss"])
        return record

    trainer._step = watched
    return losses


class StopHereError(Exception):
    """Stops training where a killed process would stop."""


def test_a_resumed_run_has_the_losses_and_weights_of_an_unbroken_one(frames, config, tmp_path):
    whole = Trainer(config, config.pretrain, new_network(config), tmp_path / "whole")
    wanted = losses_of(whole)
    whole.run(stream(frames, config))

    cut = Trainer(config, config.pretrain, new_network(config), tmp_path / "cut")
    first = losses_of(cut)
    step = cut._step

    def failing(batch):
        if cut.step == 3:
            raise StopHereError
        return step(batch)

    cut._step = failing
    with pytest.raises(StopHereError):
        cut.run(stream(frames, config))
    again = Trainer(config, config.pretrain, new_network(config), tmp_path / "cut")
    again.resume()
    assert again.step == 2, "the last checkpoint is one of every second step"
    rest = losses_of(again)
    again.run(stream(frames, config))
    assert first == wanted[:3]
    assert rest == wanted[2:]
    for (name, a), b in zip(whole.network.state_dict().items(), again.network.state_dict().values(), strict=True):
        assert a.equal(b), name


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's memory")
def test_memory_of_a_step_is_used_again_by_the_next():
    """Given back to the system, each page of 16 MB would be zeroed and mapped again every time: 4096 faults."""
    code = """
import resource, sys, torch
from peft_dml_train.config import load_config
from peft_dml_train.loop.stages import set_threads
if sys.argv[1] == "kept":
    set_threads(load_config(None))
for _ in range(40):
    if _ == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    several = [torch.zeros(4_000_000) for _ in range(3)]
    del several
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

    def faults(how):
        done = subprocess.run(
            [sys.executable, "-c", code, how], capture_output=True, text=True, timeout=120, check=True
        )
        return int(done.stdout)

    assert faults("kept") < 1000
    assert faults("as it was") > 100_000


def test_damaged_checkpoints_are_refused(tmp_path):
    path = tmp_path / "last.pt"
    with pytest.raises(DataError, match="run the stage before"):
        load_checkpoint(path)
    save_checkpoint(path, {"step": 3})
    assert load_checkpoint(path) == {"step": 3}
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="cannot be read"):
        load_checkpoint(path)


def test_a_base_from_behind_another_fusion_gets_a_fresh_one(config, tmp_path):
    plain = config.model_copy(update={"network": config.network.model_copy(update={"fusion": "average"}), "seed": 3})
    given = new_network(plain).state_dict()
    save_checkpoint(tmp_path / "base.pt", given)
    found, own = load_base(config, tmp_path).state_dict(), new_network(config).state_dict()
    assert found.keys() == own.keys()
    for name, value in found.items():
        wanted = own[name] if name.startswith("fusion.") else given[name]
        torch.testing.assert_close(value, wanted, atol=1e-3, rtol=1e-3)
    save_checkpoint(tmp_path / "base.pt", {n: v for n, v in given.items() if not n.startswith("head.")})
    with pytest.raises(ConfigError, match="another network than the recipe's"):
        load_base(config, tmp_path)


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
    assert result.exit_code == 2
    assert "did you mean 'seed'" in result.output


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_last_checkpoint(frames, config, tmp_path):
    trainer = Trainer(config, config.pretrain, new_network(config), tmp_path)
    trainer.run(stream(frames, config))
    good = (tmp_path / "last.pt").read_bytes()
    trainer.step, trainer.elapsed_s = 0, 0.0
    with torch.no_grad():
        trainer.network.head.direct.weight[0] = float("nan")
    with pytest.raises(
        DataError, match=r"step 0: the loss is nan in full/heatmap.*token.*last\.pt holds the last good"
    ):
        trainer.run(stream(frames, config))
    assert (tmp_path / "last.pt").read_bytes() == good


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 3})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(DataError, match=r"cannot be written.*the one before it is as it was.*make room"):
            save_checkpoint(path, {"step": 4, "weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(path) == {"step": 3}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_every_term_is_logged(frames, config, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("peft_dml_train.loop.trainer.LOG_EVERY", 2)
    monkeypatch.setattr("peft_dml_train.loop.trainer.NORMS_EVERY", 2)
    with caplog.at_level(logging.INFO):
        Trainer(config, config.pretrain, new_network(config), tmp_path).run(stream(frames, config))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert {"loss", "rate", "norm", "elapsed_s", "alignment", "instance", "dropped/gate", "single/radar"} <= set(
        lines[0]
    )
    assert "left) loss" in caplog.text
    # The depth's loss is none of the projections' concern: so does a dead term show.
    alive = ("instance", "single/radar", "dropped/heatmap", "dropped/box")
    assert min(lines[0][f"gradient/{name}"] for name in alive) > 0 == lines[0]["gradient/depth"]
    accumulator = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in accumulator.Scalars("dropped/heatmap")] == [2, 4]
