# SPDX-License-Identifier: Apache-2.0
"""Trained weights to a deployable bundle, and measured figures into it."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from peft_dml_ros.core.bundle import CALIBRATION, GraphInfo, Manifest, TensorInfo, load_bundle, write_manifest
from peft_dml_ros.core.spec import ModelSpec, graph_inputs, graph_outputs
from peft_dml_train.adapters.lora import merge, weights_digest
from peft_dml_train.config import TrainConfig
from peft_dml_train.evaluation.calibration import calibrate_bundle
from peft_dml_train.export.card import write_card
from peft_dml_train.export.graphs import export_graphs
from peft_dml_train.export.parity import parity
from peft_dml_train.loop.checkpoint import load_checkpoint
from peft_dml_train.loop.stages import load_adapted, set_threads

log = logging.getLogger(__name__)
VERSION = "0.1.0"
DESCRIPTION = "PEFT-DML demo on simulated data: LiDAR, camera, radar, IMU, GNSS to 3D boxes, for any subset of sensors."


def graph_infos(spec: ModelSpec) -> dict[str, GraphInfo]:
    """Declared shapes of every graph."""

    def infos(entries: dict[str, tuple[tuple[int, ...], str]]) -> dict[str, TensorInfo]:
        return {name: TensorInfo(shape=shape, dtype=dtype) for name, (shape, dtype) in entries.items()}

    inputs, outputs = graph_inputs(spec), graph_outputs(spec)
    return {
        name: GraphInfo(file=f"{name}.onnx", inputs=infos(inputs[name]), outputs=infos(outputs[name]))
        for name in inputs
    }


def export_bundle(config: TrainConfig, data: Path, run: Path, folder: Path) -> Path:
    """Merge, export, check against the network, calibrate on the validation scenes, write manifest and card.

    Args:
        config: Recipe.
        data: nuScenes folder with the validation scenes.
        run: Folder of the training run (base.pt, adapter/).
        folder: The bundle; replaced as a whole.

    Returns:
        The bundle's folder.
    """
    set_threads(config)
    adapted = load_adapted(config, run)
    base = weights_digest(load_checkpoint(run / "base.pt"))
    network = merge(adapted.eval()).eval()
    counts = json.loads((run / "parameters.json").read_text())
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as temporary:
        work = Path(temporary) / config.name
        differences = parity(network, export_graphs(network, work))
        log.info("network and graphs differ by at most %.1e", max(differences.values()))
        shutil.copytree(run / "adapter", work / "adapter")
        manifest = Manifest(
            name=config.name,
            version=VERSION,
            description=DESCRIPTION,
            spec=config.spec,
            graphs=graph_infos(config.spec),
            files={},
            base={"name": f"{config.name}-base", "sha256": base, "weights": "trained from scratch, not distributed"},
            adapter={
                "library": "peft",
                "kind": "LoRA on convolutions and linear layers, bottleneck adapters",
                "rank": config.adapters.rank,
                "alpha": config.adapters.alpha,
                "folder": "adapter",
                "merged": True,
            },
            provenance=_provenance(config, data, run),
            parameters=counts,
            trained_share=counts["share"],
            metrics={"onnx_parity": differences},
        )
        write_manifest(work, manifest)
        calibration = calibrate_bundle(work, data, config.splits.val)
        (work / CALIBRATION).write_text(json.dumps(calibration, indent=1) + "\n")
        write_card(work, manifest, calibration)
        write_manifest(work, manifest)
        load_bundle(work)
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    return folder


def _provenance(config: TrainConfig, data: Path, run: Path) -> dict[str, Any]:
    stages = {}
    for stage in ("pretrain", "finetune"):
        last = load_checkpoint(run / stage / "last.pt")
        stages[stage] = {"steps": last["step"], "minutes": round(last["elapsed_s"] / 60, 1)}
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
        "command": "train/recipes/demo.sh",
        "config": config.model_dump(mode="json", exclude={"spec"}),
    }


def record_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Put evaluation figures into the manifest and the model card."""
    bundle = load_bundle(folder)
    merged = {**bundle.manifest.metrics, "test": metrics}
    manifest = bundle.manifest.model_copy(update={"metrics": merged})
    calibration = json.loads((folder / CALIBRATION).read_text()) if (folder / CALIBRATION).is_file() else {}
    write_card(folder, manifest, calibration)
    write_manifest(folder, manifest)
    load_bundle(folder)
