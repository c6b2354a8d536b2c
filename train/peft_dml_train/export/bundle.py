# SPDX-License-Identifier: Apache-2.0
"""Trained weights to a deployable bundle, and measured figures into it."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

from peft_dml_ros.core.bundle import CALIBRATION, GraphInfo, Manifest, TensorInfo, load_bundle, write_manifest
from peft_dml_ros.core.spec import ModelSpec, graph_inputs, graph_outputs
from peft_dml_train.adapters.lora import ADAPTER_FILES, merge, weights_digest
from peft_dml_train.config import TrainConfig
from peft_dml_train.evaluation.calibration import calibrate_bundle
from peft_dml_train.evaluation.conditions import CLEAR
from peft_dml_train.evaluation.report import summary
from peft_dml_train.evaluation.subsets import Scores
from peft_dml_train.export.card import write_card
from peft_dml_train.export.graphs import export_graphs
from peft_dml_train.export.parity import parity
from peft_dml_train.export.precision import calibration_frames
from peft_dml_train.export.storage import pack_files
from peft_dml_train.export.subset_parity import subset_parity
from peft_dml_train.loop.checkpoint import load_checkpoint
from peft_dml_train.loop.stages import DEFAULT_ADAPTER, adapter_folder, finetune_folder, load_adapted, set_threads

log = logging.getLogger(__name__)
PARITY_FRAMES = 2
VERSION = "0.1.0"
FIRST_ROUND = "first"
"""Folder in a run that holds an earlier pretraining whose weights it began with; train/recipes/demo.sh makes it."""
NOTE = "note.txt"
"""File in a run with what else its model card has to tell."""
IMPORTED = "LiDAR encoder and image backbone from public weights, then trained; not distributed"
DESCRIPTION = "PEFT-DML on simulated data: LiDAR, camera, radar, IMU, GNSS to 3D boxes, for any subset of sensors."


def graph_infos(spec: ModelSpec) -> dict[str, GraphInfo]:
    """Declared shapes of every graph."""

    def infos(entries: dict[str, tuple[tuple[int, ...], str]]) -> dict[str, TensorInfo]:
        return {name: TensorInfo(shape=shape, dtype=dtype) for name, (shape, dtype) in entries.items()}

    inputs, outputs = graph_inputs(spec), graph_outputs(spec)
    return {
        name: GraphInfo(file=f"{name}.onnx", inputs=infos(inputs[name]), outputs=infos(outputs[name]))
        for name in inputs
    }


def export_bundle(
    config: TrainConfig,
    data: Path,
    run: Path,
    folder: Path,
    adapter: str = DEFAULT_ADAPTER,
    weights: Literal["fp32", "fp16"] = "fp32",
) -> Path:
    """Merge, export, check against the network, calibrate on the validation scenes, write manifest and card.

    Args:
        config: Recipe.
        data: nuScenes folder with the validation scenes.
        run: Folder of the training run (base.pt, adapter/, adapters/<name>/).
        folder: The bundle; replaced as a whole.
        adapter: Which of the base's adapters.
        weights: How they are stored; see `export.storage`.

    Returns:
        The bundle's folder.
    """
    set_threads(config)
    network = merge(load_adapted(config, run, adapter).eval()).eval()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as temporary:
        work = Path(temporary) / folder.name
        paths = export_graphs(network, work)
        shutil.copytree(adapter_folder(run, adapter), work / "adapter")
        if weights == "fp16":
            pack_files(paths, work / "adapter" / ADAPTER_FILES[1])
        differences = parity(network, paths)
        frames = calibration_frames(config.spec, data, config.splits.val, PARITY_FRAMES)
        differences["all subsets, on frames"] = subset_parity(network, paths, frames)
        log.info("network and graphs differ by at most %.1e", max(differences.values()))
        manifest = _manifest(config, data, run, adapter, folder.name)
        manifest = manifest.model_copy(update={"metrics": {"onnx_parity": differences}})
        # The calibration runs the bundle, so there must be one that loads before it.
        write_manifest(work, manifest)
        calibration = calibrate_bundle(work, data, config.splits.val, config.finetune.weather)
        (work / CALIBRATION).write_text(json.dumps(calibration, indent=1) + "\n")
        write_card(work, manifest, calibration)
        write_manifest(work, manifest)
        load_bundle(work)
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    return folder


def _manifest(config: TrainConfig, data: Path, run: Path, adapter: str, name: str) -> Manifest:
    counts = json.loads((run / "parameters.json").read_text())
    return Manifest(
        name=name,
        version=VERSION,
        description=DESCRIPTION if adapter == DEFAULT_ADAPTER else f"{DESCRIPTION} Adapter: {adapter}.",
        spec=config.spec,
        graphs=graph_infos(config.spec),
        files={},
        base={
            "sha256": weights_digest(load_checkpoint(run / "base.pt")),
            "weights": IMPORTED if any(run.rglob("import.json")) else "trained from scratch, not distributed",
        },
        adapter={
            "name": adapter,
            "library": "peft",
            "kind": "LoRA on convolutions and linear layers, bottleneck adapters",
            "rank": config.adapters.rank,
            "alpha": config.adapters.alpha,
            "folder": "adapter",
            "merged": True,
        },
        provenance=_provenance(config, data, run, adapter),
        parameters=counts,
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
    simulated = about.is_file()
    return {
        "data": {"simulator": "peft-dml simulate", **json.loads(about.read_text())}
        if simulated
        else {"folder": data.name},
        "simulated": simulated,
        "seed": config.seed,
        "splits": config.splits.model_dump(),
        "stages": stages,
        "command": f"train/recipes/{'demo' if adapter == DEFAULT_ADAPTER else adapter}.sh",
        "config": config.model_dump(mode="json", exclude={"spec"}),
        **note,
    }


def record_metrics(folder: Path, scores: Scores) -> None:
    """Put evaluation figures into the manifest and the model card.

    Clear air gives the bundle's own figures (`map`, `nds`, `mate`, `mase`, `maoe`, `mave`, `maae`, `subsets`) and the
    tables behind them (`test`); every other condition adds to `conditions`.
    """
    bundle = load_bundle(folder)
    metrics = dict(bundle.manifest.metrics)
    conditions = dict(metrics.get("conditions", {}))
    for condition, by_subset in scores.items():
        figures = {name: summary(m) for name, m in by_subset.items()}
        if condition != str(CLEAR):
            conditions[condition] = {**conditions.get(condition, {}), **figures}
            continue
        test = {**metrics.get("test", {}), **by_subset}
        subsets = {name: {k: summary(m)[k] for k in ("map", "nds")} for name, m in test.items()}
        metrics |= {**(summary(test["all"]) if "all" in test else {}), "subsets": subsets, "test": test}
    if conditions:
        metrics["conditions"] = conditions
    manifest = bundle.manifest.model_copy(update={"metrics": metrics})
    calibration = json.loads((folder / CALIBRATION).read_text()) if (folder / CALIBRATION).is_file() else {}
    write_card(folder, manifest, calibration)
    write_manifest(folder, manifest)
    load_bundle(folder)
