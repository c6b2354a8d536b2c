# SPDX-License-Identifier: Apache-2.0
"""One stage of training: batches in, averaged weights out, resumable at any time."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from peft_dml_train.config import StageConfig, TrainConfig
from peft_dml_train.data.batch import Batch, BatchStream
from peft_dml_train.loop.average import WeightAverage
from peft_dml_train.loop.checkpoint import load_checkpoint, save_checkpoint
from peft_dml_train.loop.parallel import agree, rank
from peft_dml_train.loop.schedule import one_cycle
from peft_dml_train.losses.total import TotalLoss
from peft_dml_train.network import PeftDmlNetwork

log = logging.getLogger(__name__)
LOG_EVERY = 20


@dataclass
class Trainer:
    """Runs one stage.

    Attributes:
        config: Recipe.
        stage: The stage's own settings.
        network: Network; only parameters that require a gradient are trained.
        out: Folder for `last.pt` and `log.jsonl`.
        set_mode: Puts the network into training mode.
    """

    config: TrainConfig
    stage: StageConfig
    network: PeftDmlNetwork
    out: Path
    set_mode: Callable[[nn.Module], None] = field(default=lambda network: network.train())
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.step, self.elapsed_s = 0, 0.0
        precision = "bf16" if self.config.bfloat16 else "no"
        self.accelerator = Accelerator(cpu=self.device == "cpu", mixed_precision=precision)
        self.network.to(memory_format=torch.channels_last)
        trained = [p for p in self.network.parameters() if p.requires_grad]
        # Decay pulls weights, not biases and norms, towards zero.
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.stage.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.stage.rate, betas=(0.9, 0.99))
        self.model, self.optimizer = self.accelerator.prepare(self.network, optimizer)
        self.average = WeightAverage(self.network, self.stage.ema)
        self.loss = TotalLoss(self.config.spec, self.config.losses)

    @property
    def progress(self) -> float:
        """0 to 1, by steps or by time, whichever is further."""
        return max(self.step / self.stage.steps, self.elapsed_s / (60 * self.stage.minutes))

    def resume(self) -> None:
        """Carry on from the last checkpoint of this stage, if there is one."""
        path = self.out / "last.pt"
        if path.is_file():
            state = load_checkpoint(path)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average.state, self.average.updates = state["average"], state["step"]
            self.step, self.elapsed_s = state["step"], state["elapsed_s"]
            log.info("resumed at step %d", self.step)

    def save(self) -> None:
        """Write a checkpoint; the first process does."""
        if rank():
            return
        save_checkpoint(
            self.out / "last.pt",
            {
                "network": self.network.state_dict(),
                "average": self.average.state,
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "elapsed_s": self.elapsed_s,
                "done": self.progress >= 1,
            },
        )

    def run(self, stream: BatchStream) -> None:
        """Train until the steps or the minutes are used up, then leave the averaged weights in the network."""
        torch.manual_seed(self.config.seed + self.step)
        self.set_mode(self.network)
        self.out.mkdir(parents=True, exist_ok=True)
        ramp = int(self.stage.ramp * self.stage.steps)
        with (self.out / f"log{rank() or ''}.jsonl").open("a") as journal:
            start = time.monotonic() - self.elapsed_s
            for _, batch in stream.run(self.step, self.stage.steps, ramp):
                if self.progress >= 1:
                    break
                record = self._step(batch)
                self.step += 1
                self.elapsed_s = agree(time.monotonic() - start)
                if self.step % LOG_EVERY == 0:
                    journal.write(json.dumps({**record, "elapsed_s": round(self.elapsed_s, 1)}) + "\n")
                    journal.flush()
                    log.info("step %d loss %.3f %.2f s/step", self.step, record["loss"], self.elapsed_s / self.step)
                if self.step % self.stage.checkpoint_every == 0:
                    self.save()
        self.save()
        self.network.load_state_dict(self.average.state)

    def _step(self, batch: Batch) -> dict[str, Any]:
        rate = self.stage.rate * one_cycle(self.progress, self.stage.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        latents, passes = self.model(batch.feeds, (batch.mask, batch.dropped), batch.age_s, batch.completeness)
        loss, parts = self.loss(self.network, batch, latents, passes)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), self.stage.clip)
        value = float(loss.detach())
        if torch.isfinite(norm):
            self.optimizer.step()
            if not rank():
                self.average.update(self.network)
        else:
            log.warning("step %d skipped: gradient norm %s", self.step, norm)
        self.optimizer.zero_grad(set_to_none=True)
        rounded = {name: round(part, 4) for name, part in parts.items()}
        return {"step": self.step, "rate": rate, "loss": value, "norm": float(norm), **rounded}
