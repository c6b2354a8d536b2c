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
from peft_dml_train.loop.checkpoint import load_checkpoint, save_checkpoint
from peft_dml_train.loop.trainer import Trainer
from peft_dml_train.network import PeftDmlNetwork

log = logging.getLogger(__name__)
MOST_TRAINED = 0.10


def new_network(config: TrainConfig) -> PeftDmlNetwork:
    """Network with weights drawn from the recipe's seed."""
    torch.manual_seed(config.seed)
    return PeftDmlNetwork(config.spec, config.network, config.adapters)


def set_threads(config: TrainConfig) -> None:
    """Threads of one operator."""
    torch.set_num_threads(config.threads)


def pretrain(config: TrainConfig, data: Path, out: Path, *, resume: bool, device: str = "cpu") -> Path:
    """Train encoders, projections, fusion and head on the source scenes.

    Returns:
        Weights file of the base network.
    """
    set_threads(config)
    network = new_network(config)
    for parameter in network.adapters.parameters():
        parameter.requires_grad_(requires_grad=False)
    trainer = Trainer(config, config.pretrain, network, out / "pretrain", device=device)
    if resume:
        trainer.resume()
    frames = load_frames(data, config.splits.train, config.spec)
    trainer.run(BatchStream(frames, config, config.pretrain.batch, flip=config.pretrain.flip, seed=config.seed))
    path = out / "base.pt"
    save_checkpoint(path, network.state_dict())
    return path


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
    set_threads(config)
    adapted = adapt(load_base(config, out), config.adapters)
    network = adapted.get_base_model()
    counts = parameter_counts(network)
    log.info("parameters: %s", json.dumps(counts))
    if counts["share"] >= MOST_TRAINED:
        msg = f"the fine-tuning would train {counts['share']:.1%} of all parameters; lower adapters.rank"
        raise ConfigError(msg)
    trainer = Trainer(config, config.finetune, network, out / "finetune", train_mode, device)
    if resume:
        trainer.resume()
    frames = load_frames(data, config.splits.finetune, config.spec)
    stage = config.finetune
    trainer.run(BatchStream(frames, config, stage.batch, flip=stage.flip, seed=config.seed + 1))
    folder = out / "adapter"
    save_adapter(adapted, folder)
    (out / "parameters.json").write_text(json.dumps(counts, indent=1) + "\n")
    return folder


def load_adapted(config: TrainConfig, out: Path) -> peft.PeftModel:
    """The pretrained network with its trained adapter, not merged."""
    return load_adapter(load_base(config, out), out / "adapter")
