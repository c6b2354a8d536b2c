# SPDX-License-Identifier: Apache-2.0
"""The two stages: encoders pretrained on a source domain; less than a tenth of everything adapted to a target."""

import ctypes
import logging
import platform
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import nn

from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.atomic_files import write_json
from peft_dml_train.adapters.base_weights import rounded
from peft_dml_train.adapters.lora import (
    adapt,
    encoder_weights,
    freeze,
    load_adapter,
    parameter_counts,
    save_adapter,
    train_mode,
)
from peft_dml_train.config import StageConfig, TrainConfig
from peft_dml_train.data.batch import BatchStream
from peft_dml_train.data.cache import FrameCache
from peft_dml_train.data.dataset import load_degraded, load_frames
from peft_dml_train.data.frame import Frame
from peft_dml_train.data.preparing import corrupted_portion, process_seed
from peft_dml_train.encoders.camera import LitePyramid
from peft_dml_train.loop.checkpoint import load_checkpoint, save_checkpoint
from peft_dml_train.loop.domains import BASE_SCENES, refuse_shared_scenes, write_scenes
from peft_dml_train.loop.parallel import rank, run_parallel, world_size
from peft_dml_train.loop.trainer import Trainer
from peft_dml_train.network import PeftDmlNetwork
from peft_dml_train.weights.efficientnet import ORIGIN, fill_trunk

log = logging.getLogger(__name__)
MOST_TRAINED = 0.10
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  #: Of glibc's malloc.h
DEFAULT_ADAPTER = "default"
TRUNK = "encoders.camera.image.trunk."


def new_network(config: TrainConfig) -> PeftDmlNetwork:
    """Return the network with weights drawn from the recipe's seed."""
    torch.manual_seed(config.seed)
    return PeftDmlNetwork(config.spec, config.network, config.adapters)


def start_logging() -> None:
    """Log progress on the error stream; each process of a parallel run starts with none."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def set_threads(config: TrainConfig) -> None:
    """Set the threads of one operator, and keep freed memory: glibc gives it back and zeroes it again in every step."""
    torch.set_num_threads(config.threads)
    if platform.libc_ver()[0] == "glibc":
        for parameter, value in ((M_TRIM_THRESHOLD, 2**31 - 1), (M_MMAP_THRESHOLD, 2**25)):
            ctypes.CDLL(None).mallopt(parameter, value)


def pretrain(
    config: TrainConfig,
    data: Path,
    out: Path,
    *,
    resume: bool,
    device: str = "cpu",
    start: Path | None = None,
    cache: FrameCache | None = None,
) -> Path:
    """Pretrain the encoders on the source scenes, behind projections, fusion and head that are then thrown away.

    The camera's trunk begins with ImageNet's weights and keeps them.

    Args:
        config: Recipe.
        data: nuScenes folder.
        out: Folder of the run.
        resume: Carry on from the last checkpoint.
        device: cpu or cuda.
        start: Weights to begin with, e.g. imported ones; random ones without it.
        cache: Keeps prepared frames on disk; without it each process holds its frames in memory.

    Returns:
        Weights file of the base: the encoders, and fresh weights for what lies behind them.

    Raises:
        ConfigError: parts are to stay frozen, but nothing gives their weights.
    """
    if config.pretrain.frozen and start is None:
        msg = f"pretrain.frozen keeps {', '.join(config.pretrain.frozen)} as given; fix: give weights with --from"
        raise ConfigError(msg)
    run_parallel(_pretrain, config.processes, config, data, out, resume, device, start, cache)
    return out / "base.pt"


def stage_stream(
    config: TrainConfig,
    stage: StageConfig,
    splits: tuple[str, ...],
    data: Path,
    seed: int,
    cache: FrameCache | None = None,
    weather_seed: int | None = None,
) -> BatchStream:
    """Return the batches of a stage; every process holds its own part of the frames.

    `seed` decides the order of samples and what is dropped, and without `weather_seed` also the weather of each frame.
    """
    share, mine = slice(rank(), None, world_size()), process_seed(seed, rank())
    drawn = mine if weather_seed is None else weather_seed
    frames = load_frames(data, splits, config.spec, share, stage.weather, drawn, cache, config.workers)
    portion = corrupted_portion(config, stage)
    corrupted: Sequence[Frame] = []
    if portion:
        corrupted = load_degraded(data, splits, config.spec, share, portion, drawn, cache, config.workers)
    return BatchStream(frames, config, stage, seed=mine, degraded=corrupted, cache=cache)


def train_stage(
    config: TrainConfig,
    stage: StageConfig,
    network: PeftDmlNetwork,
    stream: BatchStream,
    out: Path,
    set_mode: Callable[[nn.Module], None],
    device: str = "cpu",
    *,
    resume: bool,
    watch: Callable[[PeftDmlNetwork, int], bool] | None = None,
) -> Trainer:
    """Train what requires a gradient in a network, which holds the averaged weights afterwards; see `Trainer`."""
    trainer = Trainer(config, stage, network, out, set_mode, device, watch)
    if resume:
        trainer.resume()
    trainer.run(stream)
    return trainer


def _pretrain(
    config: TrainConfig, data: Path, out: Path, resume: bool, device: str, start: Path | None, cache: FrameCache | None  # noqa: FBT001
) -> None:  # fmt: skip
    start_logging()
    set_threads(config)
    network = new_network(config)
    frozen = config.pretrain.frozen
    if imagenet := from_imagenet(config):
        fill_trunk(cast("LitePyramid", network.camera.image).trunk)
        frozen = (*frozen, TRUNK)
    if start is not None:
        load_weights(network, start)
    log.info("camera trunk: %s", ORIGIN if imagenet else "random")
    freeze(network, ("adapters.", *frozen))
    stream = stage_stream(config, config.pretrain, config.splits.train, data, config.seed, cache)
    set_mode = partial(train_mode, frozen=frozen)
    train_stage(config, config.pretrain, network, stream, out / "pretrain", set_mode, device, resume=resume)
    if not rank():
        # As bundles store it: adapters are trained on what vehicles have.
        # The encoders alone are kept; what lies behind them starts fresh on every target, and is part of the base.
        fresh = new_network(config)
        fresh.load_state_dict(encoder_weights(network.state_dict()), strict=False)
        save_checkpoint(out / "base.pt", rounded(fresh.state_dict()))
        weights = "given weights" if start else "scratch"
        origin = f"trained from {weights}; camera trunk: {ORIGIN if imagenet else 'likewise'}"
        write_scenes(out / BASE_SCENES, data, config.splits.train, origin)


def from_imagenet(config: TrainConfig) -> bool:
    """Return whether the camera's trunk begins with ImageNet's weights."""
    camera = config.network.camera
    return camera.backbone == "efficientnet_lite0" and camera.weights == "imagenet"


def load_base(config: TrainConfig, out: Path) -> PeftDmlNetwork:
    """Return the pretrained encoders with fresh projections, classifier, fusion and head, as bundles store them.

    A base that was pretrained behind another kind of fusion gets this recipe's, with weights from its seed.
    """
    network = new_network(config)
    load_weights(network, out / "base.pt", fresh=("fusion.",))
    network.load_state_dict(rounded(network.state_dict()))
    return network


def load_weights(network: PeftDmlNetwork, path: Path, fresh: tuple[str, ...] = ()) -> None:
    """Fill a network, or its encoders where the file holds these alone.

    Args:
        network: Changed in place.
        path: Checkpoint of weights.
        fresh: Beginnings of names that keep the network's own values where the file holds other ones.

    Raises:
        DataError: no such file, or it is damaged.
        ConfigError: it holds a network of other sizes or another list of classes.
    """
    state = load_checkpoint(path)
    wanted = network.state_dict()
    if state.keys() == encoder_weights(state).keys():
        wanted = encoder_weights(wanted)
    wrong = sorted(n for n in wanted.keys() | state.keys() if _shape(state, n) != _shape(wanted, n))
    if replaced := [n for n in wrong if n.startswith(fresh)] if fresh else []:
        log.info("%s: fresh weights for %s", path, ", ".join(sorted({n.split(".")[0] for n in replaced})))
        state = {n: v for n, v in state.items() if not n.startswith(fresh)}
        wrong = [n for n in wrong if not n.startswith(fresh)]
    if wrong:
        msg = f"{path} holds another network than the recipe's (sizes or class list), at {', '.join(wrong[:3])}"
        raise ConfigError(f"{msg}; fix: use the recipe that it was trained with")
    network.load_state_dict(state, strict=False)


def _shape(state: dict[str, torch.Tensor], name: str) -> tuple[int, ...]:
    return tuple(state[name].shape) if name in state else (-1,)


def adapter_folder(out: Path, name: str = DEFAULT_ADAPTER) -> Path:
    """Return where a run keeps an adapter; several share its base.

    Raises:
        ConfigError: the name is no plain folder name.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ConfigError(f"adapter name '{name}'; fix: letters, digits, '_', '-' and '.' only, e.g. rain")
    return out / "adapter" if name == DEFAULT_ADAPTER else out / "adapters" / name


def finetune_folder(out: Path, name: str = DEFAULT_ADAPTER) -> Path:
    """Return where a run keeps the checkpoints of an adapter's training."""
    return out / "finetune" if name == DEFAULT_ADAPTER else out / f"finetune-{adapter_folder(out, name).name}"


def finetune(
    config: TrainConfig,
    data: Path,
    out: Path,
    *,
    resume: bool,
    device: str = "cpu",
    adapter: str = DEFAULT_ADAPTER,
    start: str = "",
    cache: FrameCache | None = None,
) -> Path:
    """Adapt to the target scenes: low-rank and bottleneck adapters, fresh projections, classifier, fusion and head.

    Args:
        config: Recipe.
        data: nuScenes folder.
        out: Folder of the run; `base.pt` in it is the base.
        resume: Carry on from the last checkpoint.
        device: cpu or cuda.
        adapter: Its name, where the base gets more than one.
        start: Name of a trained adapter of this run to go on from; a new one without it.
        cache: As in `pretrain`.

    Returns:
        Folder of the adapter, in peft's format.

    Raises:
        ConfigError: the adapters would train a tenth of the parameters or more, parts are to stay frozen that nothing
            gives, or a target scene is one of the source's.
    """
    refuse_shared_scenes(out / BASE_SCENES, data, config.splits.finetune)
    if config.finetune.frozen and not start:
        msg = f"finetune.frozen keeps {', '.join(config.finetune.frozen)} of another adapter; fix: name it with --from"
        raise ConfigError(msg)
    counts = parameter_counts(adapt(new_network(config), config.adapters).get_base_model())
    log.info(
        "trained: %s of %s parameters (%.1f %%); without projections, fusion and head: %.1f %%",
        *(f"{counts[k]:,}" for k in ("trained", "total")),
        *(100 * counts[k] for k in ("share", "share_without_projections_fusion_head")),
    )
    if counts["share"] >= MOST_TRAINED:
        msg = f"the fine-tuning would train {counts['share']:.1%} of all parameters"
        raise ConfigError(f"{msg}; fix: lower adapters.rank")
    run_parallel(_finetune, config.processes, config, data, out, resume, device, adapter, start, cache)
    write_json(out / "parameters.json", counts)
    return adapter_folder(out, adapter)


def _finetune(
    config: TrainConfig, data: Path, out: Path, resume: bool, device: str, adapter: str, start: str,  # noqa: FBT001
    cache: FrameCache | None,
) -> None:  # fmt: skip
    start_logging()
    set_threads(config)
    base = load_base(config, out)
    adapted = load_adapter(base, adapter_folder(out, start), trainable=True) if start else adapt(base, config.adapters)
    network = cast("PeftDmlNetwork", adapted.get_base_model())
    freeze(network, config.finetune.frozen)
    stream = stage_stream(config, config.finetune, config.splits.finetune, data, config.seed + 1, cache)
    folder = finetune_folder(out, adapter)
    train_stage(config, config.finetune, network, stream, folder, train_mode, device, resume=resume)
    if not rank():
        save_adapter(adapted, adapter_folder(out, adapter))
