# SPDX-License-Identifier: Apache-2.0
"""`peft-dml-train adapt`: an adapter from a few frames, trained until frames held out get no better."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import peft
import torch
from pydantic import ValidationError

from peft_dml_ros.core.adapter_domain import scene_figures
from peft_dml_ros.core.bundle import Bundle, load_bundle
from peft_dml_ros.core.classes import MODALITIES, Modality
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.verified_files import CALIBRATION
from peft_dml_ros.engines import load_engines
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.adapters.base_weights import load_base_state
from peft_dml_train.adapters.lora import adapt as add_adapters
from peft_dml_train.adapters.lora import load_adapter, save_adapter, train_mode
from peft_dml_train.config import TrainConfig
from peft_dml_train.data.batch import BatchStream
from peft_dml_train.data.dataset import FrameReader, Wanted
from peft_dml_train.data.digest import digest
from peft_dml_train.data.frame import Frame
from peft_dml_train.evaluation.torch_engine import bundle_in_memory, torch_engines
from peft_dml_train.export.adapter import complete_adapter, domain_of, write_adapter
from peft_dml_train.few_shot.frames import Finder, Parts, hold_out
from peft_dml_train.few_shot.gain import Gain, accuracy, compare
from peft_dml_train.few_shot.labels import LabelledReader
from peft_dml_train.few_shot.pseudo_labels import PseudoLabelledReader
from peft_dml_train.loop.checkpoint import load_checkpoint, save_checkpoint
from peft_dml_train.loop.stages import new_network, set_threads, train_stage
from peft_dml_train.network import PeftDmlNetwork

log = logging.getLogger(__name__)
CHECKS: Final = 10
"""How often the frames held out are looked at."""
WITHOUT_LIDAR: Final[tuple[Modality, ...]] = tuple(m for m in MODALITIES if m != "lidar")
BEST: Final = "best.pt"


@dataclass(frozen=True, slots=True)
class AdaptOptions:
    """How an adapter is trained.

    Attributes:
        labels: JSON files or one export, see `few_shot.labels`; the data's own annotations without it.
        names: Class by the label's name.
        unlabelled: The model's own boxes are the labels; what is measured is the sensors without LiDAR.
        start: Adapter of the bundle to go on from; none begins with the base.
        held_out: Share of the frames that is held out.
        minutes: Wall-clock budget.
        steps: Steps at most.
        rate: Share of the recipe's learning rate.
        patience: Checks without a better result that end the training.
        seed: Of all draws.
        resume: Carry on where the last call was interrupted.
        undecided: Write the adapter too where the interval of its gain holds no gain at all.
    """

    labels: Path | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    unlabelled: bool = False
    start: str = "default"
    held_out: float = 0.25
    minutes: float = 8.0
    steps: int = 300
    rate: float = 0.15
    patience: int = 3
    seed: int = 7
    resume: bool = False
    undecided: bool = False


def adapt(base: Path, data: Path, out: Path, options: AdaptOptions) -> Gain:
    """Train an adapter and write it, if it is better than what the vehicle has on frames that were held out.

    Args:
        base: Bundle with a base.
        data: nuScenes folder.
        out: Folder of the adapter; its name is the adapter's.
        options: See there.

    Returns:
        The gain over the adapter it went on from, by the vehicle's own merge and engines.

    Raises:
        DataError: too few frames, labels that do not fit, or no gain; nothing is written.
        ConfigError: the bundle cannot be trained on.
    """
    bundle = load_bundle(base, adapter=options.start)
    config = recipe_of(bundle, options)
    set_threads(config)
    work = out.with_name(f".{out.name}.training")
    if not options.resume:
        shutil.rmtree(work, ignore_errors=True)
    log.info("reading the frames of %s", data)
    reader = _reader(bundle, data, options)
    parts = hold_out(reader, options.held_out)
    frames = FrameReader(data, config.spec, None, reader)
    trained, held = ([frames.prepared(Wanted(token)) for token in part] for part in parts)
    log.info("%d frames to train on, %d held out", len(trained), len(held))
    sensors = WITHOUT_LIDAR if options.unlabelled else MODALITIES
    before = Finder(bundle, load_engines(bundle), sensors).hits(held)
    adapted, steps = _train(bundle, config, options, trained, held, work, sensors, accuracy(before).nds)
    save_adapter(adapted, work / "peft")
    made = _write(work / out.name, work / "peft", bundle, data, options, parts, steps)
    vehicle = load_bundle(base, adapter=str(made))
    gain = compare(before, Finder(vehicle, load_engines(vehicle), sensors).hits(held), options.seed)
    if gain.change <= 0 or not (options.undecided or gain.verdict == "better"):
        msg = (
            f"no adapter is written: {gain}, against '{bundle.adapters}'; label more frames, or frames that differ more"
        )
        raise DataError(f"{msg}, or take it undecided: --undecided --resume" if gain.change > 0 else msg)
    seen = [scene_figures(reader.snapshot(token, config.spec)) for token in parts.trained]
    domain = domain_of(seen, ("lidar",) if options.unlabelled else ())
    complete_adapter(made, metrics=_metrics(gain, bundle, options), domain=domain)
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    made.rename(out)
    shutil.rmtree(work, ignore_errors=True)
    return gain


def recipe_of(bundle: Bundle, options: AdaptOptions) -> TrainConfig:
    """Return the recipe that a bundle was trained by, with a short second stage.

    Raises:
        ConfigError: the bundle does not say how it was trained.
    """
    found = bundle.manifest.provenance.get("config")
    if not found:
        msg = f"{bundle.path}: its manifest holds no recipe; adapters are trained on bundles of peft-dml-train export"
        raise ConfigError(msg)
    try:
        config = TrainConfig.model_validate({**found, "spec": bundle.spec.model_dump()})
    except ValidationError as error:
        msg = f"{bundle.path}: its recipe is of another version: {error.errors()[0]['loc']} {error.errors()[0]['msg']}"
        raise ConfigError(msg) from error
    few = {
        "minutes": options.minutes,
        "steps": options.steps,
        "rate": options.rate * config.finetune.rate,
        "checkpoint_every": max(1, options.steps // CHECKS),
        "weather": (),
        "frozen": (),
        "ramp": 0.0,
    }
    changes: dict[str, Any] = {"finetune": config.finetune.model_copy(update=few), "processes": 1, "seed": options.seed}
    if options.unlabelled:
        changes["dropout"] = config.dropout.model_copy(update={"lidar": 0.8})
    return config.model_copy(update=changes)


def _reader(bundle: Bundle, data: Path, options: AdaptOptions) -> NuScenesReader:
    if not options.unlabelled:
        return LabelledReader(data, options.labels, options.names) if options.labels else NuScenesReader(data)
    log.info("labelling with '%s' and all sensors", bundle.adapters)
    find, frames = Finder(bundle, load_engines(bundle)), FrameReader(data, bundle.spec)
    return PseudoLabelledReader(data, lambda token: find(frames.prepared(Wanted(token))))


def _train(
    bundle: Bundle,
    config: TrainConfig,
    options: AdaptOptions,
    trained: list[Frame],
    held: list[Frame],
    work: Path,
    sensors: tuple[Modality, ...],
    start: float,
) -> tuple[peft.PeftModel, int]:
    """Return the adapted network with its best weights, and the step that they are from."""
    network = new_network(config)
    network.load_state_dict(load_base_state(bundle.path))
    if bundle.adapters.parts:
        adapted = load_adapter(network, bundle.adapters.parts[0][0].path, trainable=True)
    else:
        adapted = add_adapters(network, config.adapters)
    inner: PeftDmlNetwork = adapted.get_base_model()  # type: ignore[assignment]
    stage, finder = config.finetune, Finder(bundle_in_memory(inner), torch_engines(inner), sensors)
    best = _Best(work / BEST, digest([config.model_dump(mode="json"), [f.token for f in trained]]), start)

    def watch(now: PeftDmlNetwork, step: int) -> bool:
        return best.look(now, step, accuracy(finder.hits(held)).nds) >= options.patience

    stream = BatchStream(trained, config, stage, seed=options.seed)
    # Statistics of a few frames would replace those of thousands within thirty steps: all norms keep the base's.
    keep_norms = partial(train_mode, frozen=("",))
    train_stage(config, stage, inner, stream, work / "stage", keep_norms, resume=options.resume, watch=watch)
    if best.step == 0:
        msg = f"no adapter is written: no step was better than '{bundle.adapters}' on the {len(held)} frames held out"
        raise DataError(f"{msg} (NDS {start:.3f}); label more frames, or frames that differ more")
    inner.load_state_dict(load_checkpoint(best.path)["network"])
    return adapted.eval(), best.step


class _Best:
    """The best weights so far, on disk, so that an interrupted training finds them again."""

    def __init__(self, path: Path, identity: str, start: float) -> None:
        self.path, self.identity, self.score, self.step, self._since = path, identity, start, 0, 0
        if path.is_file():
            kept = load_checkpoint(path)
            if kept["identity"] != identity:
                raise ConfigError(f"{path.parent} is of other frames or settings; remove it, or leave --resume out")
            self.score, self.step = kept["score"], kept["step"]

    def look(self, network: PeftDmlNetwork, step: int, score: float) -> int:
        """Keep better weights; return how many checks have passed since the last better ones."""
        self._since += 1
        if score > self.score:
            self.score, self.step, self._since = score, step, 0
            state = {"network": network.state_dict(), "score": score, "step": step, "identity": self.identity}
            save_checkpoint(self.path, state)
        words = "step %d: NDS on frames held out %.3f, best %.3f at step %d"
        log.info(words, step, score, self.score, self.step)
        return self._since


def _write(
    folder: Path, source: Path, bundle: Bundle, data: Path, options: AdaptOptions, parts: Parts, steps: int
) -> Path:
    labels = "the model's own" if options.unlabelled else options.labels.name if options.labels else "the data's"
    write_adapter(
        source, folder, bundle, folder.name,
        description=f"Adapted to {data.name} from '{bundle.adapters}' by {len(parts.trained)} frames.",
        provenance={
            "command": "peft-dml-train adapt", "data": data.name, "labels": labels, "seed": options.seed,
            "started_from": str(bundle.adapters), "frames_trained": len(parts.trained),
            "frames_held_out": parts.held_out, "steps": steps, "torch": torch.__version__,
        },
    )  # fmt: skip
    for adapter, _ in bundle.adapters.parts:
        if (file := adapter.path / CALIBRATION).is_file():
            complete_adapter(folder, calibration=json.loads(file.read_text()), ranges=adapter.ranges or None)
    return folder


def _metrics(gain: Gain, bundle: Bundle, options: AdaptOptions) -> dict[str, Any]:
    sensors = "camera, radar, IMU, GNSS; against the model's own labels" if options.unlabelled else "all"
    return {
        "held_out": {
            "nds": gain.after.nds, "nds_before": gain.before.nds, "gain_95_percent": [gain.low, gain.high],
            "map": gain.after.mean_ap, "map_before": gain.before.mean_ap, "before": str(bundle.adapters),
            "sensors": sensors, "verdict": gain.verdict, "frames": gain.frames,
        }
    }  # fmt: skip
