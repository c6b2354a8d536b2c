# SPDX-License-Identifier: Apache-2.0
"""Trained weights to a deployable bundle, and measured figures into it."""

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from peft_dml_ros.core.adapter_domain import scene_figures
from peft_dml_ros.core.bundle import ADAPTERS, BASE_WEIGHTS, Bundle, GraphInfo, Manifest, TensorInfo, load_bundle
from peft_dml_ros.core.errors import BundleError
from peft_dml_ros.core.spec import ModelSpec, graph_inputs, graph_outputs
from peft_dml_ros.core.verified_files import CALIBRATION
from peft_dml_ros.engines import load_engines
from peft_dml_tools.bundles.manifest import write_manifest
from peft_dml_train.adapters.base_weights import State, rounded
from peft_dml_train.adapters.lora import load_adapter, merge, weights_digest
from peft_dml_train.config import TrainConfig
from peft_dml_train.evaluation.calibration import calibrate_bundle
from peft_dml_train.evaluation.conditions import CLEAR
from peft_dml_train.evaluation.report import summary
from peft_dml_train.evaluation.subsets import Scores
from peft_dml_train.export.adapter import (
    adapter_in,
    complete_adapter,
    domain_of,
    read_card,
    refuse_other_base,
    write_adapter,
)
from peft_dml_train.export.card import bundle_calibration, write_card
from peft_dml_train.export.graphs import export_graphs
from peft_dml_train.export.parity import parity
from peft_dml_train.export.precision import calibrated_ranges, calibration_frames, graph_feeds
from peft_dml_train.export.subset_parity import subset_parity
from peft_dml_train.export.trained_ranges import trained_ranges
from peft_dml_train.loop.checkpoint import load_checkpoint
from peft_dml_train.loop.domains import BASE_SCENES, read_note, source_domain
from peft_dml_train.loop.stages import (
    DEFAULT_ADAPTER,
    adapter_folder,
    finetune_folder,
    load_base,
    new_network,
    set_threads,
)
from peft_dml_train.network import PeftDmlNetwork

log = logging.getLogger(__name__)
PARITY_FRAMES = 2
VERSION = "0.1.0"
#: Folder in a run that holds an earlier pretraining whose weights it began with; train/recipes/demo.sh makes it
FIRST_ROUND = "first"
NOTE = "note.txt"  #: File in a run that was made in pieces: which, for its model card
RECIPE = "recipe.txt"  #: File next to an adapter's checkpoints: the one command that made it, written by that command
PARTS = "peft-dml-train pretrain, finetune, export"  #: What makes a run that no single command made
IMPORTED = "LiDAR encoder and image backbone from public weights, then trained"
MERGE_TOLERANCE = 1e-5  #: Between torch's merged weights and the vehicle's, in 32 bit
DESCRIPTION = "PEFT-DML on simulated data: LiDAR, camera, radar, IMU, GNSS to 3D boxes, for any subset of sensors."


def graph_infos(spec: ModelSpec) -> dict[str, GraphInfo]:
    """Return the declared shapes of every graph."""

    def infos(entries: dict[str, tuple[tuple[int, ...], str]]) -> dict[str, TensorInfo]:
        return {name: TensorInfo(shape=shape, dtype=dtype) for name, (shape, dtype) in entries.items()}

    inputs, outputs = graph_inputs(spec), graph_outputs(spec)
    return {
        name: GraphInfo(file=f"{name}.onnx", inputs=infos(inputs[name]), outputs=infos(outputs[name]))
        for name in inputs
    }


def export_bundle(config: TrainConfig, data: Path, run: Path, folder: Path, adapter: str = DEFAULT_ADAPTER) -> Path:
    """Write a run's base as a bundle with one of its adapters, or one more adapter into a bundle of the same base.

    The graphs are checked against the network with the adapter, and confidences calibrated on the validation scenes.
    Raises BundleError: graphs and network differ, or the bundle has another base than the run. The result is the
    bundle's folder.

    Args:
        config: Recipe.
        data: nuScenes folder with the validation scenes.
        run: Folder of the training run (base.pt, adapter/, adapters/<name>/).
        folder: The bundle; replaced as a whole by the default adapter, added to by every other.
        adapter: Which of the run's adapters.
    """
    set_threads(config)
    state = rounded(load_base(config, run).state_dict())
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as temporary:
        work = Path(temporary) / folder.name
        if adapter == DEFAULT_ADAPTER:
            base = _network(config, state)
            export_graphs(base, work)
            write_manifest(work, _manifest(config, data, run, adapter, folder.name, weights_digest(state)))
            differences = parity(base, load_engines(load_bundle(work, adapter="none")))
            log.info("base and graphs differ by at most %.1e", max(differences.values()))
        else:
            refuse_other_base(folder, weights_digest(state))
            shutil.copytree(folder, work)
        add_adapter(config, data, run, work, adapter, state)
        if adapter == DEFAULT_ADAPTER:
            _complete(work, adapter)
        load_bundle(work, adapter=adapter)
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    return folder


def _network(config: TrainConfig, state: State) -> PeftDmlNetwork:
    network = new_network(config)
    network.load_state_dict(dict(state))
    return network.eval()


def _complete(work: Path, adapter: str) -> None:
    """Write manifest and card of a bundle again, now that its default adapter is measured."""
    manifest = load_bundle(work, adapter="none").manifest
    folder = adapter_in(work, adapter)
    metrics = {"onnx_parity": read_card(folder).metrics["onnx_parity"]}
    manifest = manifest.model_copy(update={"metrics": metrics})
    write_card(work, manifest, json.loads((folder / CALIBRATION).read_text()))
    write_manifest(work, manifest)


def add_adapter(config: TrainConfig, data: Path, run: Path, bundle: Path, name: str, state: State) -> None:
    """Write an adapter of a run into a bundle: merged as the vehicle does it, checked, calibrated."""
    base = load_bundle(bundle, adapter="none")
    target = bundle / ADAPTERS / name
    about = DESCRIPTION if name == DEFAULT_ADAPTER else f"{DESCRIPTION} Adapter: {name}."
    origin = _provenance(config, data, run, name)
    origin = {k: origin[k] for k in ("data", "seed", "stages", "command") if k in origin}
    origin["weather"] = list(config.finetune.weather)
    write_adapter(adapter_folder(run, name), target, base, name, description=about, provenance=origin)
    adapted = load_bundle(bundle, adapter=name)
    differences = compare_adapter(_network(config, state), adapted, config, data)
    seen: list[dict[str, float]] = []
    calibration = calibrate_bundle(
        bundle, data, config.splits.val, config.finetune.weather, name, lambda frame: seen.append(scene_figures(frame))
    )
    complete_adapter(
        target,
        calibration=calibration,
        domain=domain_of(seen),
        ranges=calibrated_ranges(
            adapted, graph_feeds(adapted, calibration_frames(config.spec, data, config.splits.val))
        ),
        metrics={"onnx_parity": differences},
    )


def compare_adapter(base: PeftDmlNetwork, adapted: Bundle, config: TrainConfig, data: Path) -> dict[str, float]:
    """Return how much torch's merge and the vehicle's differ: weights, every graph, and all subsets on frames.

    Raises BundleError: by more than the tolerance.
    """
    ((adapter, _),) = adapted.adapters.parts
    network = merge(load_adapter(base, adapter.path).eval()).eval()
    engines = load_engines(adapted)
    differences = {"weights": merge_difference(network, adapted), **parity(network, engines)}
    frames = calibration_frames(config.spec, data, config.splits.val, PARITY_FRAMES)
    differences["all subsets, on frames"] = subset_parity(network, engines, frames)
    log.info("%s: network and graphs differ by at most %.1e", adapter.card.name, max(differences.values()))
    return differences


def merge_difference(network: PeftDmlNetwork, adapted: Bundle) -> float:
    """Return how far torch's merge and the vehicle's differ. Raises BundleError: by more than `MERGE_TOLERANCE`."""
    state = network.state_dict()
    merged = adapted.adapters.weights(adapted.base_weights(), [n for n, v in state.items() if v.is_floating_point()])
    worst = max(float(np.abs(state[name].numpy() - value).max()) for name, value in merged.items())
    if worst > MERGE_TOLERANCE:
        raise BundleError(
            f"the vehicle's merge differs from torch's by {worst:.1e}, over {MERGE_TOLERANCE:.0e}; fix: do not ship it"
        )
    return worst


def _manifest(config: TrainConfig, data: Path, run: Path, adapter: str, name: str, digest: str) -> Manifest:
    counts = json.loads((run / "parameters.json").read_text())
    return Manifest(
        name=name,
        version=VERSION,
        description=DESCRIPTION,
        spec=config.spec,
        graphs=graph_infos(config.spec),
        files={},
        base={
            "sha256": digest,
            "file": BASE_WEIGHTS,
            "weights": IMPORTED if any(run.rglob("import.json")) else read_note(run / BASE_SCENES).get("origin", ""),
        },
        adapter={
            "name": adapter,
            "library": "peft",
            "kind": "LoRA on convolutions and linear layers, bottleneck adapters",
            "rank": config.adapters.rank,
            "alpha": config.adapters.alpha,
            "folder": ADAPTERS,
        },
        provenance=_provenance(config, data, run, adapter),
        parameters=counts,
        trained_ranges=trained_ranges(config, data),
        trained_share=counts["share"],
    )


def _provenance(config: TrainConfig, data: Path, run: Path, adapter: str) -> dict[str, Any]:
    folders = {"pretrain": run / "pretrain", "finetune": finetune_folder(run, adapter)}
    if (run / FIRST_ROUND / "pretrain" / "last.pt").is_file():
        folders = {"pretrain, first round": run / FIRST_ROUND / "pretrain"} | folders
    stages = {}
    for stage, folder in folders.items():
        last = load_checkpoint(folder / "last.pt")
        stages[stage] = {"steps": last["step"], "minutes": round(last["elapsed_s"] / 60, 1)}
    note = {"note": (run / NOTE).read_text().strip()} if (run / NOTE).is_file() else {}
    about = next(iter(sorted(data.glob("*/simulate.json"))), data / "simulate.json")
    simulated, source = about.is_file(), read_note(run / BASE_SCENES)
    domain, recipe = source_domain(source, data), folders["finetune"] / RECIPE
    if simulated and source and not domain:
        log.warning("%s names no domain: keep its folder '%s' next to %s", run / BASE_SCENES, source.get("data"), data)
    return {
        "data": {"simulator": "peft-dml simulate", **json.loads(about.read_text())}
        if simulated
        else {"folder": data.name},
        "simulated": simulated,
        "source": {"domain": domain, "scenes": len(source.get("scenes", ()))},
        "seed": config.seed,
        "splits": config.splits.model_dump(),
        "stages": stages,
        "command": recipe.read_text().strip() if recipe.is_file() else PARTS,
        "config": config.model_dump(mode="json", exclude={"spec"}),
        **note,
    }


def record_metrics(folder: Path, scores: Scores, adapter: str = DEFAULT_ADAPTER) -> None:
    """Put evaluation figures into the manifest and the model card, those of a further adapter into its own card.

    Clear air gives the bundle's own figures (`map`, `nds`, `mate`, `mase`, `maoe`, `mave`, `maae`, `subsets`) and the
    tables behind them (`test`); every other condition adds to `conditions`.
    """
    bundle = load_bundle(folder, adapter=adapter)
    figures = {c: {name: summary(m) for name, m in by_subset.items()} for c, by_subset in scores.items()}
    for part, _ in bundle.adapters.parts:
        short = {c: {n: {k: f[k] for k in ("map", "nds")} for n, f in by.items()} for c, by in figures.items()}
        complete_adapter(part.path, metrics={"test": {**part.card.metrics.get("test", {}), **short}})
    if adapter != DEFAULT_ADAPTER:
        return
    metrics = dict(bundle.manifest.metrics)
    conditions = dict(metrics.get("conditions", {}))
    for condition, by_subset in scores.items():
        if condition != str(CLEAR):
            conditions[condition] = {**conditions.get(condition, {}), **figures[condition]}
            continue
        test = {**metrics.get("test", {}), **by_subset}
        subsets = {name: {k: summary(m)[k] for k in ("map", "nds")} for name, m in test.items()}
        metrics |= {**(summary(test["all"]) if "all" in test else {}), "subsets": subsets, "test": test}
    if conditions:
        metrics["conditions"] = conditions
    manifest = bundle.manifest.model_copy(update={"metrics": metrics})
    write_card(folder, manifest, bundle_calibration(folder))
    write_manifest(folder, manifest)
    load_bundle(folder, adapter=adapter)
