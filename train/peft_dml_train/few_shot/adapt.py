# SPDX-License-Identifier: Apache-2.0
"""`peft-dml-train adapt`: an adapter from a few frames, trained until frames held out get no better."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, cast

import torch
from pydantic import ValidationError

from peft_dml_ros.core.adapter import CARD
from peft_dml_ros.core.adapter_domain import AdapterDomain, scene_figures
from peft_dml_ros.core.bundle import Bundle, load_bundle
from peft_dml_ros.core.classes import CLASSES, MODALITIES, Modality
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.verified_files import CALIBRATION
from peft_dml_ros.engines import load_engines
from peft_dml_tools.atomic_files import claim_folder
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.adapters.base_weights import load_base_state
from peft_dml_train.adapters.lora import adapt as add_adapters
from peft_dml_train.adapters.lora import load_adapter, save_adapter, train_mode
from peft_dml_train.config import TrainConfig, stored_config
from peft_dml_train.data.batch import BatchStream
from peft_dml_train.data.dataset import FrameReader, FrameRequest
from peft_dml_train.data.digest import digest
from peft_dml_train.data.frame import Frame
from peft_dml_train.evaluation.torch_engine import bundle_in_memory, torch_engines
from peft_dml_train.export.adapter import complete_adapter, domain_of, write_adapter
from peft_dml_train.few_shot.checks import JUDGED, Checks, cross_judged, half_scores
from peft_dml_train.few_shot.frames import FrameDetector, TokenSplit, hold_out
from peft_dml_train.few_shot.gain import FrameHits, Gain, accuracy, common_classes, compare, of_classes
from peft_dml_train.few_shot.labels import LabelledReader
from peft_dml_train.few_shot.pseudo_labels import PseudoLabelledReader
from peft_dml_train.loop.stages import new_network, set_threads, train_stage
from peft_dml_train.network import PeftDmlNetwork

log = logging.getLogger(__name__)
CHECKS: Final = 10
"""How often the frames held out are looked at."""
WITHOUT_LIDAR: Final[tuple[Modality, ...]] = tuple(m for m in MODALITIES if m != "lidar")
MORE: Final = "fix: label more frames, or frames that differ more"


@dataclass(frozen=True, slots=True)
class AdaptOptions:
    """How an adapter is trained."""

    labels: Path | None = None  #: Files or an export, see `few_shot.labels`; the data's annotations without it
    names: Mapping[str, str] = field(default_factory=dict)  #: Class by the label's name
    unlabelled: bool = False  #: The model's own boxes are the labels; what is measured is the sensors without LiDAR
    start: str = "default"  #: Adapter of the bundle to go on from; none begins with the base
    held_out: float = 0.25  #: Share of the frames that is held out
    minutes: float = 8.0  #: Wall-clock budget
    steps: int = 300  #: Steps at most
    rate: float = 0.15  #: Share of the recipe's learning rate
    patience: int = 3  #: Checks without a better result that end the training
    seed: int = 7  #: Of all draws
    resume: bool = False  #: Carry on where the last call was interrupted
    undecided: bool = False  #: Write the adapter too where the interval of its gain holds no gain at all


def adapt(base: Path, data: Path, out: Path, options: AdaptOptions) -> Gain:
    """Train an adapter and write it, if it is better than what the vehicle has on frames that were held out.

    Args:
        base: Bundle with a base.
        data: nuScenes folder.
        out: Folder of the adapter; its name is the adapter's.
        options: See there.

    Returns:
        The gain over the adapter it went on from, by the vehicle's own merge and engines, each half of the frames held
        out with the step that the other half chose.

    Raises:
        DataError: too few frames, labels that do not fit, or no gain; nothing is written.
        ConfigError: the bundle cannot be trained on, or `out` holds something else than an adapter.
    """
    bundle = load_bundle(base, adapter=options.start)
    config = recipe_of(bundle, options)
    set_threads(config)
    if out.exists():  # an adapter of before is replaced in the end, and nothing else
        claim_folder(out, CARD)
    work = out.with_name(f".{out.name}.training")
    if not options.resume:
        shutil.rmtree(work, ignore_errors=True)
    log.info("reading the frames of %s", data)
    reader = _reader(bundle, data, options)
    parts = hold_out(reader, options.held_out)
    work.mkdir(parents=True, exist_ok=True)
    frames = FrameReader(data, config.spec, None, reader)
    trained, held = ([frames.prepared(FrameRequest(token)) for token in part] for part in parts[:2])
    log.info("%d frames to train on, %d held out (%s)", len(trained), len(held), parts.units)
    training = _Training(bundle, config, options, data, parts, held, work)
    training.run(trained)
    gain = training.gain()
    if gain.change <= 0 or not (options.undecided or gain.verdict == "better"):
        msg = f"no adapter is written: {gain}, against '{bundle.adapters}', {JUDGED}; {MORE}"
        raise DataError(f"{msg}, or take it undecided: --undecided --resume" if gain.change > 0 else msg)
    seen = [scene_figures(reader.snapshot(token, config.spec)) for token in parts.trained]
    domain = domain_of(seen, ("lidar",) if options.unlabelled else ())
    made = training.write(out.name, gain, domain)
    shutil.rmtree(out, ignore_errors=True)
    made.rename(out)
    shutil.rmtree(work, ignore_errors=True)
    return gain


def recipe_of(bundle: Bundle, options: AdaptOptions) -> TrainConfig:
    """Return the recipe that a bundle was trained by, its second stage short. Raises ConfigError: it names none."""
    found = bundle.manifest.provenance.get("config")
    if not found:
        raise ConfigError(f"{bundle.path}: its manifest holds no recipe; fix: take a bundle of peft-dml-train export")
    try:
        config = stored_config(found, bundle.spec)
    except ValidationError as error:
        msg = f"{bundle.path}: its recipe is of another version: {error.errors()[0]['loc']} {error.errors()[0]['msg']}"
        raise ConfigError(f"{msg}; fix: export it again") from error
    few = {
        "minutes": options.minutes, "steps": options.steps, "rate": options.rate * config.finetune.rate,
        "checkpoint_every": max(1, options.steps // CHECKS), "weather": (), "frozen": (), "ramp": 0.0,
    }  # fmt: skip
    stage, one = config.finetune.model_copy(update=few), {"processes": 1, "workers": 0}
    changes: dict[str, Any] = {"finetune": stage, "seed": options.seed, **one}
    if options.unlabelled:
        changes["dropout"] = config.dropout.model_copy(update={"lidar": 0.8})
    return config.model_copy(update=changes)


def _reader(bundle: Bundle, data: Path, options: AdaptOptions) -> NuScenesReader:
    if not options.unlabelled:
        return LabelledReader(data, options.labels, options.names) if options.labels else NuScenesReader(data)
    log.info("labelling with '%s' and all sensors", bundle.adapters)
    find, frames = FrameDetector(bundle, load_engines(bundle)), FrameReader(data, bundle.spec)
    return PseudoLabelledReader(data, lambda token: find(frames.prepared(FrameRequest(token))))


@dataclass
class _Training:
    """An adapter in the making: trained, judged and written, with what an interrupted call needs in `folder`."""

    bundle: Bundle
    config: TrainConfig
    options: AdaptOptions
    data: Path
    parts: TokenSplit
    held: list[Frame]
    folder: Path

    def __post_init__(self) -> None:
        bundle, config, cut = self.bundle, self.config, self.parts.cut
        self.sensors = WITHOUT_LIDAR if self.options.unlabelled else MODALITIES
        found = FrameDetector(bundle, load_engines(bundle), self.sensors).hits(self.held)
        self.classes = common_classes(found)
        self.before = of_classes(found, self.classes)
        self.names = [name for name, counts in zip(CLASSES, self.classes, strict=True) if counts]
        log.info("what counts there: %s", ", ".join(self.names))
        identity = digest([config.model_dump(mode="json"), str(bundle.adapters), *self.parts])
        self.checks = Checks(self.folder / "checks", identity, half_scores(self.before, cut), self.options.patience)
        network = new_network(config)
        network.load_state_dict(load_base_state(bundle.path))
        if bundle.adapters.parts:
            self.adapted = load_adapter(network, bundle.adapters.parts[0][0].path, trainable=True)
        else:
            self.adapted = add_adapters(network, config.adapters)
        self.network = cast("PeftDmlNetwork", self.adapted.get_base_model())

    def run(self, frames: list[Frame]) -> None:
        """Train until neither the frames held out nor one of their halves get better.

        Raises:
            DataError: no step was better.
        """
        checks, config, stage = self.checks, self.config, self.config.finetune
        finder = FrameDetector(bundle_in_memory(self.network), torch_engines(self.network), self.sensors)

        def watch(now: PeftDmlNetwork, step: int) -> bool:
            checks.add(now, step, half_scores(of_classes(finder.hits(self.held), self.classes), self.parts.cut))
            return checks.over

        if not checks.over:
            stream = BatchStream(frames, config, stage, seed=self.options.seed)
            # Statistics of a few frames would replace those of thousands within thirty steps: norms keep the base's.
            mode, resume = partial(train_mode, frozen=("",)), self.options.resume
            train_stage(config, stage, self.network, stream, self.folder / "stage", mode, resume=resume, watch=watch)
        if not checks.chosen[0]:
            msg = f"no adapter is written: no step was better than '{self.bundle.adapters}' on the {len(self.held)}"
            raise DataError(f"{msg} frames held out (NDS {accuracy(self.before).nds:.3f}); {MORE}")

    def gain(self) -> Gain:
        """Judge each half of the frames held out with the step that the other half chose, as a vehicle runs it."""
        _, first, second = self.checks.chosen

        @cache
        def finder(step: int) -> FrameDetector:
            _, vehicle = self.save(step, "judged")
            return FrameDetector(vehicle, load_engines(vehicle), self.sensors)

        def hits(step: int, part: slice) -> list[FrameHits]:
            return of_classes(finder(step).hits(self.held[part]), self.classes) if step else self.before[part]

        after = cross_judged(hits, first, second, self.parts.cut)
        return compare(self.before, after, self.options.seed, self.parts.groups, (first != second) * self.parts.cut)

    def write(self, name: str, gain: Gain, domain: AdapterDomain) -> Path:
        """Return the folder of the adapter that all frames held out chose, complete with its card."""
        made, _ = self.save(self.checks.chosen[0], name)
        sensors = "camera, radar, IMU, GNSS; against the model's own labels" if self.options.unlabelled else "all"
        found = {
            "nds": gain.after.nds, "nds_before": gain.before.nds, "gain_95_percent": [gain.low, gain.high],
            "map": gain.after.mean_ap, "map_before": gain.before.mean_ap, "before": str(self.bundle.adapters),
            "sensors": sensors, "verdict": gain.verdict, "frames": gain.frames, "resampled": self.parts.units,
            "classes": self.names, "judged": JUDGED, "steps_of_halves": self.checks.chosen[1:],
        }  # fmt: skip
        complete_adapter(made, metrics={"held_out": found}, domain=domain)
        return made

    def save(self, step: int, name: str) -> tuple[Path, Bundle]:
        """Write the adapter of a step; return its folder, and the bundle with it as a vehicle loads it."""
        bundle, options, parts, source = self.bundle, self.options, self.parts, self.folder / "peft"
        self.checks.restore(self.network, step)
        save_adapter(self.adapted.eval(), source)
        labels = "the model's own" if options.unlabelled else options.labels.name if options.labels else "the data's"
        made = write_adapter(
            source, self.folder / name, bundle, name,
            description=f"Adapted to {self.data.name} from '{bundle.adapters}' by {len(parts.trained)} frames.",
            provenance={
                "command": "peft-dml-train adapt", "data": self.data.name, "labels": labels, "seed": options.seed,
                "started_from": str(bundle.adapters), "frames_trained": len(parts.trained),
                "frames_held_out": parts.held_out, "steps": step, "torch": torch.__version__,
            },
        )  # fmt: skip
        for adapter, _ in bundle.adapters.parts:
            if (file := adapter.path / CALIBRATION).is_file():
                complete_adapter(made, calibration=json.loads(file.read_text()), ranges=adapter.ranges or None)
        return made, load_bundle(bundle.path, adapter=str(made))
