# SPDX-License-Identifier: Apache-2.0
"""Gradients of one step on this process's share of four frames, as torchrun starts it; the first process keeps them.

torchrun --nproc-per-node 2 -m tests.support.parallel_gradients FILE
"""

import sys
from pathlib import Path

import torch

from peft_dml_train.config import load_config
from peft_dml_train.data.batch import collate
from peft_dml_train.loop.parallel import rank, run_parallel, world_size
from peft_dml_train.loop.stages import new_network
from peft_dml_train.loop.trainer import Trainer
from tests.support.train_frames import some_frame

CONFIG = Path(__file__).parents[2] / "train" / "configs" / "tiny.yaml"


def gradients(out: Path) -> dict[str, torch.Tensor]:
    """By parameter name.

    The batch norms keep to their statistics, as those of frozen encoders do, and triplets are off: both look at the
    samples of one process together.
    """
    torch.set_num_threads(1)
    config = load_config(CONFIG, ("losses.alignment=0", "losses.instance=0"))
    network = new_network(config)
    trainer = Trainer(config, config.pretrain, network, out, lambda n: n.eval())
    trainer.set_mode(network)
    frames = [some_frame(config.spec, seed) for seed in range(4)]
    # One process has fewer objects than the other, and a modality that no sample of it holds.
    frames[1] = some_frame(config.spec, 1, objects=1, without="camera")
    frames[3] = some_frame(config.spec, 3, objects=1, without="camera")
    trainer.gradients(collate(frames[rank() :: world_size()], config.spec))
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def main(file: str) -> None:
    """Run and keep."""
    found = gradients(Path(file).parent)
    if not rank():
        torch.save(found, file)


if __name__ == "__main__":
    run_parallel(main, 1, sys.argv[1])
