# SPDX-License-Identifier: Apache-2.0
"""All figures of the table of targets: of the bundle, and of runs that were adapted otherwise for comparison."""

import logging
from pathlib import Path
from typing import Any

from nuscenes import NuScenes

from peft_dml_evidence.scoring import NetworkRunner
from peft_dml_evidence.target_measures import measure_alone, measure_frames, measure_scores
from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.atomic_files import write_json
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.nuscenes_scores import open_devkit
from peft_dml_train.adapters.lora import load_adapter, merge
from peft_dml_train.config import TrainConfig, load_config
from peft_dml_train.data.dataset import scenes_of
from peft_dml_train.evaluation.sensors import ALL, parse_sensors
from peft_dml_train.evaluation.subsets import BundleRunner
from peft_dml_train.loop.stages import DEFAULT_ADAPTER, adapter_folder, load_base

log = logging.getLogger(__name__)
Withheld = tuple[Modality, str, list[str]]


def measure(
    bundle: Path,
    data: Path,
    splits: tuple[str, ...],
    out: Path,
    frames: int,
    config: Path | None = None,
    run: Path | None = None,
    withheld: list[Withheld] | None = None,
    concatenation: Path | None = None,
) -> dict[str, Any]:
    """Measure and write `targets.json`; see the options of `peft-dml-train targets`.

    Raises ConfigError: adapters are named without the run that holds them.
    """
    if withheld and run is None:
        msg = "--zero-shot names adapters; fix: give the run that holds them with --run, and its recipe with --config"
        raise ConfigError(msg)
    recipe, reader = load_config(config), NuScenesReader(data)
    scenes, nusc = scenes_of(reader, splits or recipe.splits.test), open_devkit(data, reader.version)
    runner = BundleRunner(bundle, reader, threads=1)
    found: dict[str, Any] = {"bundle": bundle.name, "scenes": len(scenes)}
    found |= measure_scores(runner, nusc, scenes, out)
    found |= measure_frames(runner, scenes, frames)
    if withheld and run is not None:
        clear = found["scores"]["clear"]
        found["zero_shot"] = [_zero_shot(one, recipe, run, reader, nusc, scenes, out, clear) for one in withheld]
    if concatenation is not None:
        joined = load_config(config, ("network.fusion=concatenate",))
        network = _adapted(joined, concatenation, DEFAULT_ADAPTER, reader)
        found["concatenation"] = measure_alone(network, nusc, scenes, out / DEFAULT_ADAPTER, {"all": ALL})["all"]
    write_json(out / "targets.json", found)
    return found


def _adapted(recipe: TrainConfig, run: Path, adapter: str, reader: NuScenesReader) -> NetworkRunner:
    return NetworkRunner(merge(load_adapter(load_base(recipe, run), adapter_folder(run, adapter))), reader)


def _zero_shot(
    pair: Withheld,
    recipe: TrainConfig,
    run: Path,
    reader: NuScenesReader,
    nusc: NuScenes,
    scenes: list[str],
    out: Path,
    together: dict[str, Any],
) -> dict[str, Any]:
    """Return the class's AP by one modality: withheld in the adaptation, also without metric loss, and trained."""
    modality, name, adapters = pair
    found: dict[str, Any] = {"modality": modality, "class": name}
    found["together"] = together[f"{modality} only"]["ap"][name]
    for key, adapter in zip(("withheld", "without_metric"), adapters, strict=False):
        network = _adapted(recipe, run, adapter, reader)
        alone = measure_alone(network, nusc, scenes, out / adapter, {modality: parse_sensors(modality)})
        found[key] = alone[modality]["ap"][name]
    log.info("zero-shot %s", found)
    return found
