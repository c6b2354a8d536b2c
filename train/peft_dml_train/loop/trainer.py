# SPDX-License-Identifier: Apache-2.0
"""One stage of training: batches in, averaged weights out, resumable at any time."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from torch import nn

from peft_dml_ros.core.errors import DataError
from peft_dml_train.config import StageConfig, TrainConfig
from peft_dml_train.data.batch import Batch, BatchStream
from peft_dml_train.loop.average import WeightAverage
from peft_dml_train.loop.checkpoint import load_checkpoint, save_checkpoint
from peft_dml_train.loop.journal import Journal
from peft_dml_train.loop.parallel import agree, rank, world_size
from peft_dml_train.loop.pictures import PictureFeatures
from peft_dml_train.loop.schedule import one_cycle
from peft_dml_train.losses.total import TotalLoss
from peft_dml_train.network import Detection, Latents, PeftDmlNetwork

log = logging.getLogger(__name__)
LOG_EVERY = 20
NORMS_EVERY = 200
"""Steps between two looks at the losses' gradients; a multiple of `LOG_EVERY`."""
MOST_SKIPPED = 5


@dataclass
class Trainer:
    """Runs one stage.

    Attributes:
        config: Recipe.
        stage: The stage's own settings.
        network: Network; only parameters that require a gradient are trained.
        out: Folder for `last.pt`, `log.jsonl` and TensorBoard's files.
        set_mode: Puts the network into training mode.
        device: cpu or cuda.
        watch: Called at every checkpoint with the averaged network and the step; True ends the stage.
    """

    config: TrainConfig
    stage: StageConfig
    network: PeftDmlNetwork
    out: Path
    set_mode: Callable[[nn.Module], None] = field(default=lambda network: network.train())
    device: str = "cpu"
    watch: Callable[[PeftDmlNetwork, int], bool] | None = None

    def __post_init__(self) -> None:
        self.step, self.first_step, self.elapsed_s, self.skipped = 0, 0, 0.0, 0
        precision = "bf16" if self.config.bfloat16 else "no"
        self.accelerator = Accelerator(cpu=self.device == "cpu", mixed_precision=precision)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch does not declare it
        if not self.config.losses.single:
            # Processes wait for the gradient of every parameter that wants one.
            self.network.classifier.requires_grad_(requires_grad=False)
        trained = [p for p in self.network.parameters() if p.requires_grad]
        # Decay pulls weights, not biases and norms, towards zero.
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.stage.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.stage.rate, betas=(0.9, 0.99))
        self.model, self.optimizer = self.accelerator.prepare(self.network, optimizer)
        self.average = WeightAverage(self.network, self.stage.ema)
        self.loss = TotalLoss(self.config.spec, self.config.losses, self.config.withheld)
        self.pictures = PictureFeatures(self.network.camera, self.config.features_gb)

    @property
    def progress(self) -> float:
        """0 to 1, by steps, or by time where that is limited and further."""
        timed = self.elapsed_s / (60 * self.stage.minutes) if self.stage.minutes else 0.0
        return max(self.step / self.stage.steps, timed)

    def resume(self) -> None:
        """Carry on from the last checkpoint of this stage, if there is one."""
        path = self.out / "last.pt"
        if path.is_file():
            state = load_checkpoint(path)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            device = self.accelerator.device
            self.average.state = {name: value.to(device) for name, value in state["average"].items()}
            self.average.updates = state["updates"]
            self.step, self.elapsed_s = state["step"], state["elapsed_s"]
            self.first_step = self.step
            self.loss.memory.load(state["memory"])
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
                "updates": self.average.updates,
                "optimizer": self.optimizer.state_dict(),
                "memory": self.loss.memory.state(),
                "step": self.step,
                "elapsed_s": self.elapsed_s,
                "done": self.progress >= 1,
            },
        )

    def run(self, stream: BatchStream) -> None:
        """Train until the steps or the minutes are used up, then leave the averaged weights in the network.

        Raises:
            DataError: a loss or many gradients are not finite, or a checkpoint cannot be written; the last good
                checkpoint stays.
        """
        self.set_mode(self.network)
        self.out.mkdir(parents=True, exist_ok=True)
        ramp = int(self.stage.ramp * self.stage.steps)
        self.pictures.cache = stream.cache
        journal, start = Journal(self.out), time.monotonic() - self.elapsed_s
        try:
            for _, made in stream.run(self.step, self.stage.steps, ramp):
                if self.progress >= 1:
                    break
                batch = made.to(self.accelerator.device)
                norms = {} if (self.step + 1) % NORMS_EVERY or world_size() > 1 else self.gradient_norms(batch)
                record = self._step(batch) | norms
                self.step += 1
                self.elapsed_s = agree(time.monotonic() - start)
                if self.step % LOG_EVERY == 0:
                    journal.write({**record, "elapsed_s": round(self.elapsed_s, 1)}, self.progress)
                if self.step % self.stage.checkpoint_every == 0:
                    self.save()
                    if self._watched():
                        break
        finally:
            journal.close()
        self.save()
        self.network.load_state_dict(self.average.state)

    def _watched(self) -> bool:
        """Show the averaged network to whoever watches; the weights in training come back afterwards."""
        if self.watch is None:
            return False
        training = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average.state)
        enough = self.watch(self.network, self.step)
        self.network.load_state_dict(training)
        self.set_mode(self.network)
        return enough

    def gradients(self, batch: Batch) -> tuple[float, dict[str, float]]:
        """Forward and backward of one batch.

        Returns:
            Loss and its terms; the gradients lie in the network, averaged over the processes.

        Raises:
            DataError: the loss is not finite.
        """
        latents, passes = self._passes(batch)
        loss, parts = self.loss(self.network, batch, latents, passes)
        value = float(loss.detach())
        if not math.isfinite(value):
            bad = [name for name, part in parts.items() if not math.isfinite(part)]
            msg = f"step {self.step}: the loss is {value} in {', '.join(bad)}, on samples {', '.join(batch.tokens)}"
            self._give_up(msg)
        self.accelerator.backward(loss)
        return value, parts

    def _passes(self, batch: Batch) -> tuple[Latents, list[Detection]]:
        """Forward of one batch: with all sensors and with some dropped, or the latter alone."""
        # Draws within the losses depend on the step alone, so that a resumed run makes the same ones.
        torch.manual_seed(self.config.seed + self.step)
        self.pictures.fill(batch)
        if not self.config.losses.compares(self.step):
            masks: tuple[torch.Tensor, ...] = (batch.dropped,)
        else:
            # Where nothing is dropped, the second pass would repeat the first.
            masks = (batch.mask,) if batch.dropped.equal(batch.mask) else (batch.mask, batch.dropped)
        latents, passes = self.model(batch.feeds, masks, batch.age_s, batch.completeness, batch.mask)
        return latents, [passes[0], passes[-1]] if self.config.losses.compares(self.step) else passes

    def gradient_norms(self, batch: Batch) -> dict[str, float]:
        """Return the length of each loss term's gradient on the projections: a dead term shows here.

        The memory and the weights stay as they were.
        """
        memory = self.loss.memory.state()
        latents, passes = self._passes(batch)
        weights = [p for n, p in self.network.named_parameters() if "projections." in n and p.requires_grad]
        norms = {}
        for name, part in self.loss.parts(self.network, batch, latents, passes).items():
            found: tuple[torch.Tensor | None, ...] = ()
            if part.requires_grad:
                found = torch.autograd.grad(part, weights, retain_graph=True, allow_unused=True)
            norms[f"gradient/{name}"] = math.sqrt(math.fsum(float(g.square().sum()) for g in found if g is not None))
        self.loss.memory.load(memory)
        return norms

    def _give_up(self, what: str) -> NoReturn:
        last = self.out / "last.pt"
        kept = f"{last} holds the last good state" if last.is_file() else "no checkpoint was written yet"
        raise DataError(f"{what}; {kept}; fix: carry on from it with --resume and a lower rate, or with bfloat16=false")

    def _step(self, batch: Batch) -> dict[str, Any]:
        rate = self.stage.rate * one_cycle(self.progress, self.stage.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        value, parts = self.gradients(batch)
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), self.stage.clip)
        if torch.isfinite(norm):
            self.skipped = 0
            self.optimizer.step()
            if not rank():
                self.average.update(self.network)
        else:
            self.skipped += 1
            log.warning("step %d skipped: gradient norm %s", self.step, norm)
            if self.skipped >= MOST_SKIPPED:
                self._give_up(f"step {self.step}: {self.skipped} gradients one after the other were not finite")
        self.optimizer.zero_grad(set_to_none=True)
        rounded = {name: round(part, 4) for name, part in parts.items()}
        return {"step": self.step + 1, "rate": rate, "loss": value, "norm": float(norm), **rounded}
