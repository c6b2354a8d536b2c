# SPDX-License-Identifier: Apache-2.0
"""The two stages: pretraining of everything on source scenes, fine-tuning of less than a tenth on target scenes."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import peft
import torch

from peft_dml_ros.core.errors import ConfigError
from peft_dml_train.adapters.lora import adapt, load_adapter, parameter_counts, save_adapter, train_mode
from peft_dml_train.config import TrainConfig
from peft_dml_train.data.batch import BatchStream
from peft_dml_train.data.dataset import load_frames
from peft_dml_train.data.frame import Frame
from peft_dml_train.loop.checkpoint import load_checkpoint, save_checkpoint
from peft_dml_train.loop.parallel import rank, run_parallel, world_size
from peft_dml_train.loop.trainer import Trainer
from peft_dml_train.network import PeftDmlNetwork

log = logging.getLogger(__name__)
MOST_TRAINED = 0.10


def new_network(config: TrainConfig) -> PeftDmlNetwork:
    """Network with weights drawn from the recipe's seed."""
    torch.manual_seed(config.seed)
    return PeftDmlNetwork(config.spec, config.network, config.adapters)


def start_logging() -> None:
    """Progress on the error stream; each process of a parallel run starts with none."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def set_threads(config: TrainConfig) -> None:
    """Threads of one operator."""
    torch.set_num_threads(config.threads)


def pretrain(config: TrainConfig, data: Path, out: Path, *, resume: bool, device: str = "cpu") -> Path:
    """Train encoders, projections, fusion and head on the source scenes.

    Returns:
        Weights file of the base network.
    """
    run_parallel(_pretrain, config.processes, config, data, out, resume, device)
    return out / "base.pt"


def _share(config: TrainConfig, splits: tuple[str, ...], data: Path) -> list[Frame]:
    """Every process holds its own part of the frames."""
    return load_frames(data, splits, config.spec, slice(rank(), None, world_size()))


def _pretrain(config: TrainConfig, data: Path, out: Path, resume: bool, device: str) -> None:  # noqa: FBT001
    start_logging()
    set_threads(config)
    network = new_network(config)
    for parameter in network.adapters.parameters():
        parameter.requires_grad_(requires_grad=False)
    trainer = Trainer(config, config.pretrain, network, out / "pretrain", device=device)
    if resume:
        trainer.resume()
    frames, stage = _share(config, config.splits.train, data), config.pretrain
    trainer.run(BatchStream(frames, config, stage.batch, flip=stage.flip, seed=config.seed + 1000 * rank()))
    if not rank():
        save_checkpoint(out / "base.pt", network.state_dict())


def load_base(config: TrainConfig, out: Path) -> PeftDmlNetwork:
    """The pretrained network."""
    network = new_network(config)
    network.load_state_dict(load_checkpoint(out / "base.pt"))
    return network


def finetune(config: TrainConfig, data: Path, out: Path, *, resume: bool, device: str = "cpu") -> Path:
    """Train low-rank and bottleneck adapters, projections, fusion and head on the target scenes.

    Returns:
        Folder of the adapter, in peft's format.

    Raises:
        ConfigError: the adapters would train a tenth of the parameters or more.
    """
    counts = parameter_counts(adapt(new_network(config), config.adapters).get_base_model())
    log.info("parameters: %s", json.dumps(counts))
    if counts["share"] >= MOST_TRAINED:
        msg = f"the fine-tuning would train {counts['share']:.1%} of all parameters; lower adapters.rank"
        raise ConfigError(msg)
    run_parallel(_finetune, config.processes, config, data, out, resume, device)
    (out / "parameters.json").write_text(json.dumps(counts, indent=1) + "\n")
    return out / "adapter"


def _finetune(config: TrainConfig, data: Path, out: Path, resume: bool, device: str) -> None:  # noqa: FBT001
    start_logging()
    set_threads(config)
    adapted = adapt(load_base(config, out), config.adapters)
    network = adapted.get_base_model()
    trainer = Trainer(config, config.finetune, network, out / "finetune", train_mode, device)
    if resume:
        trainer.resume()
    frames, stage = _share(config, config.splits.finetune, data), config.finetune
    trainer.run(BatchStream(frames, config, stage.batch, flip=stage.flip, seed=config.seed + 1 + 1000 * rank()))
    if not rank():
        save_adapter(adapted, out / "adapter")


def load_adapted(config: TrainConfig, out: Path) -> peft.PeftModel:
    """The pretrained network with its trained adapter, not merged."""
    return load_adapter(load_base(config, out), out / "adapter")
