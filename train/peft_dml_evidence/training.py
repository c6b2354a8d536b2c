# SPDX-License-Identifier: Apache-2.0
"""The network of a cell: a base, shared by all cells that need the same one, and what its second stage makes of it.

Both stages are those of `loop.stages`; this module decides only what may change and keeps the results.
"""

import fcntl
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from peft_dml_evidence.cells import FIRST_SEED, ScenePick, TrainingPlan
from peft_dml_evidence.frame_conditions import CONDITION_SOURCES
from peft_dml_evidence.gauge import gauge
from peft_dml_evidence.given_base import base_identity, bundle_state, refuse_other_base, start_identity, start_state
from peft_dml_evidence.modes import BOTTLENECKS, prepare
from peft_dml_evidence.recipe import recipe_tree
from peft_dml_evidence.scenes import SceneFolder
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_tools.atomic_files import write_json
from peft_dml_train.adapters.lora import encoder_weights, freeze, merge, parameter_counts, train_mode
from peft_dml_train.config import StageConfig, TrainConfig, load_config
from peft_dml_train.data.cache import DEFAULT_GB, FrameCache
from peft_dml_train.data.digest import digest
from peft_dml_train.loop.checkpoint import load_checkpoint, save_checkpoint
from peft_dml_train.loop.stages import new_network, set_threads, stage_stream, train_stage
from peft_dml_train.network import PeftDmlNetwork

log = logging.getLogger(__name__)


FRESH = "fresh"  #: In the identity of a second stage that keeps the encoders alone
NORMS = "norms keep their statistics"  #: In the identity of full fine-tuning, which was once trained without


class OutOfTimeError(Exception):
    """The minutes that the run was given are used up; what is finished is kept."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Settings of a run; goes to other processes as it is."""

    config: str  #: Name of the recipe
    recipe: Path  #: Its file
    data: Path  #: nuScenes folder
    domains: Path | None  #: Folder of other domains, a nuScenes folder each
    runs: Path  #: Folder for trained weights
    out: Path  #: Folder for results
    overrides: tuple[str, ...] = ()  #: Of every cell
    device: str = "cpu"  #: cpu or cuda
    frames: int = 0  #: Keyframes to score at most; 0 for all
    minutes: float = float("inf")  #: After so many no new stage begins
    start: Path | None = None  #: Weights of encoders that bases begin with
    scenes: int = 0  #: Training scenes at most; 0 for all
    cache: Path | None = None  #: Folder of prepared frames; none makes them again for each stage
    cache_gb: float = DEFAULT_GB  #: Its size at most
    base: Path | None = None  #: Bundle whose network is the base of all cells; none trains them


@dataclass(frozen=True, slots=True)
class CellBench:
    """Where a cell is run."""

    setting: RunSettings  #: Settings of the run
    folder: SceneFolder  #: The data, opened
    until: float = float("inf")  #: `time.monotonic()` at which no new stage begins
    cache: FrameCache | None = None  #: Keeps prepared frames for all cells and processes
    domains: dict[str, SceneFolder] = field(default_factory=dict)  #: Those of other domains that are open

    @classmethod
    def open(cls, setting: RunSettings, until: float) -> "CellBench":
        """Open the data of a setting."""
        cache = FrameCache(setting.cache, setting.cache_gb, CONDITION_SOURCES) if setting.cache else None
        return cls(setting, SceneFolder(setting.data), until, cache)

    def config(self, plan: TrainingPlan, seed: int, *, second: bool) -> TrainConfig:
        """Return the recipe of one of the two stages; steps alone set the rate, so that two runs agree."""
        fixed = ("pretrain.minutes=1000000", "finetune.minutes=1000000", "processes=1", f"seed={seed}")
        changes = (*self.setting.overrides, *plan.base, *(plan.adapt if second else ()), *fixed)
        return load_config(self.setting.recipe, changes)

    def data(self, pick: ScenePick) -> SceneFolder:
        """Return the folder that a pick means. Raises DataError: it needs a domain that is not there."""
        if not pick.domain:
            return self.folder
        if pick.domain not in self.domains:
            path = self.setting.domains / pick.domain if self.setting.domains else None
            if path is None or not path.is_dir():
                msg = f"this cell needs scenes of domain '{pick.domain}'; fix: give --domains a folder that holds"
                raise DataError(f"{msg} '{pick.domain}', see train/recipes/evidence.sh")
            self.domains[pick.domain] = SceneFolder(path)
        return self.domains[pick.domain]

    def check_time(self) -> None:
        """Refuse to begin another stage. Raises OutOfTimeError: the time is up."""
        if time.monotonic() > self.until:
            raise OutOfTimeError


def training_scenes(bench: CellBench, pick: ScenePick, config: TrainConfig) -> tuple[str, ...]:
    """Return scenes of a stage: the picked ones, no more than the bench allows."""
    most = min(pick.most or bench.setting.scenes, bench.setting.scenes or pick.most)
    return bench.data(pick).scenes(replace(pick, most=most), config.splits)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Other processes that want the same weights wait, and then find them."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _identity(bench: CellBench, config: TrainConfig, pick: ScenePick, *more: Any) -> str:
    scenes, data = training_scenes(bench, pick, config), bench.data(pick).identity["hash"]
    tree = {name: value for name, value in recipe_tree(config).items() if name != "name"}
    return digest([tree, data, scenes, *more])


def base_folder(bench: CellBench, plan: TrainingPlan, seed: int) -> Path:
    """Return where the base of a plan lies, trained or not."""
    config = bench.config(plan, seed, second=False).model_copy(update={"finetune": StageConfig()})
    if bench.setting.base:
        refuse_other_base(plan)
        return bench.setting.runs / f"base-{digest([base_identity(bench.setting.base), config.spec.model_dump()])}"
    start = [start_identity(bench.setting.start)] if bench.setting.start else []
    return bench.setting.runs / f"base-{_identity(bench, config, plan.source, *start)}"


def adapted_folder(bench: CellBench, plan: TrainingPlan, seed: int) -> Path:
    """Return where the second stage of a plan lies, trained or not."""
    base = "none" if plan.mode == "scratch" else base_folder(bench, plan, seed).name
    config = bench.config(plan, seed, second=True)
    return bench.setting.runs / f"adapted-{_identity(bench, config, plan.target, plan.mode, base, *way(plan))}"


def way(plan: TrainingPlan) -> list[str]:
    """Return what tells a second stage from one that is trained in another way under the same name."""
    return [FRESH] * plan.fresh + [NORMS] * (plan.mode == "full")


def untrained(bench: CellBench, plan: TrainingPlan, seed: int) -> set[Path]:
    """Return folders of the weights that a plan needs and nobody has trained yet."""
    wanted = set()
    if plan.mode not in {"scratch", "untrained"}:
        wanted.add(base_folder(bench, plan, seed) / "base.json")
    if plan.mode not in {"base", "untrained"}:
        wanted.add(adapted_folder(bench, plan, seed) / "adapted.json")
    return {note.parent for note in wanted if not note.is_file()}


def base_of(bench: CellBench, plan: TrainingPlan, seed: int) -> tuple[Path, dict[str, Any]]:
    """Return the folder with the `base.pt` of a plan, and what its training cost; trained now if it was not."""
    config, folder = bench.config(plan, seed, second=False), base_folder(bench, plan, seed)
    with _alone(folder):
        note = folder / "base.json"
        if bench.setting.base and not note.is_file():
            save_checkpoint(folder / "base.pt", bundle_state(bench.setting.base, config))
            write_json(note, {"bundle": bench.setting.base.name})
        if not note.is_file():
            network, frozen = new_network(config), config.pretrain.frozen if bench.setting.start else ()
            if bench.setting.start:
                load_encoders(network, bench.setting.start, config)
            freeze(network, (BOTTLENECKS, *frozen))
            mode = partial(train_mode, frozen=frozen)
            figures = _train(bench, config, config.pretrain, network, folder, plan.source, mode)
            save_checkpoint(folder / "base.pt", network.state_dict())
            write_json(note, figures)
        return folder, json.loads(note.read_text())


def load_encoders(network: PeftDmlNetwork, path: Path, config: TrainConfig) -> None:
    """Fill the encoders from a file or a bundle and leave the rest, which differs from cell to cell.

    Raises ConfigError: the file holds encoders of other sizes.
    """
    given = encoder_weights(bundle_state(path, config) if path.is_dir() else start_state(path))
    wanted = {name: value.shape for name, value in encoder_weights(network.state_dict()).items()}
    if wrong := sorted(n for n in wanted.keys() | given.keys() if n not in given or given[n].shape != wanted.get(n)):
        msg = f"{path} holds other encoders than the recipe's, at {', '.join(wrong[:3])}"
        raise ConfigError(f"{msg}; fix: import them with this recipe")
    network.load_state_dict(given, strict=False)


def _train(
    bench: CellBench,
    config: TrainConfig,
    stage: StageConfig,
    network: PeftDmlNetwork,
    folder: Path,
    pick: ScenePick,
    set_mode: Callable[[nn.Module], None],
) -> dict[str, Any]:
    bench.check_time()
    set_threads(config)
    # Seeds differ in the network and in the order of its samples; the weather is drawn once for all of them.
    scenes, root = training_scenes(bench, pick, config), bench.data(pick).root
    stream = stage_stream(config, stage, scenes, root, config.seed, bench.cache, FIRST_SEED)
    with gauge() as cost:
        device = bench.setting.device
        trainer = train_stage(config, stage, network, stream, folder / "training", set_mode, device, resume=True)
    network.to("cpu")
    return {
        **cost.as_json(),
        "steps": trainer.step,
        "cpu_s_per_step": round(cost.cpu_s / max(trainer.step - trainer.first_step, 1), 4),
        "frames": len(stream.frames),
        "batch": stage.batch,
    }


def network_of(bench: CellBench, plan: TrainingPlan, seed: int) -> tuple[PeftDmlNetwork, dict[str, Any]]:
    """Return the trained network of a plan, nothing left to merge, and what it cost by stage."""
    config = bench.config(plan, seed, second=True)
    if plan.mode == "untrained":
        return new_network(config).eval(), {}
    costs: dict[str, Any] = {}
    network = new_network(config)
    if plan.mode != "scratch":
        folder, costs["base"] = base_of(bench, plan, seed)
        given = load_checkpoint(folder / "base.pt")
        network.load_state_dict(encoder_weights(given) if plan.fresh else given, strict=not plan.fresh)
    if plan.mode == "base":
        return network.eval(), costs
    folder = adapted_folder(bench, plan, seed)
    with _alone(folder):
        note = folder / "adapted.json"
        if not note.is_file():
            _adapt(bench, config, plan, network, folder)
        costs["adapted"] = json.loads(note.read_text())
    network = new_network(config)
    network.load_state_dict(load_checkpoint(folder / "network.pt"))
    return network.eval(), costs


def _adapt(bench: CellBench, config: TrainConfig, plan: TrainingPlan, network: PeftDmlNetwork, folder: Path) -> None:
    holder, set_mode = prepare(network, config, plan)
    counts = parameter_counts(network)
    figures = _train(bench, config, config.finetune, network, folder, plan.target, set_mode)
    figures |= {"parameters": counts, "file_bytes": _file_bytes(network)}
    whole = merge(holder) if holder is not None else network
    save_checkpoint(folder / "network.pt", whole.state_dict())
    write_json(folder / "adapted.json", figures)


def _file_bytes(network: nn.Module) -> int:
    """Return the size of a file that holds what was trained, and nothing else."""
    changed = {n: p.detach().contiguous() for n, p in network.named_parameters() if p.requires_grad}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trained.safetensors"
        save_file({n: p.clone(memory_format=torch.contiguous_format) for n, p in changed.items()}, path)
        return path.stat().st_size
