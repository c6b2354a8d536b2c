# SPDX-License-Identifier: Apache-2.0
"""What each subset of sensors costs: parameters, multiply-adds, latency and CPU seconds. Weights do not matter here."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from peft_dml_evidence.cells import subsets_of
from peft_dml_evidence.scenes import SceneFolder, keyframes
from peft_dml_ros.core.bundle import Manifest, load_bundle
from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_ros.core.detector import Detector
from peft_dml_ros.core.spec import graph_inputs
from peft_dml_ros.engines import load_engines
from peft_dml_tools.bundles.manifest import write_manifest
from peft_dml_train.evaluation.subsets import DEFAULT_ENGINE
from peft_dml_train.export.bundle import graph_infos
from peft_dml_train.export.graphs import example_inputs, export_graphs, graph_module
from peft_dml_train.network import PeftDmlNetwork

FRAMES = 20
WARM_UP = 2


def graph_flops(network: PeftDmlNetwork) -> dict[str, int]:
    """Return floating-point operations of each graph in convolutions and products, two for a multiply-add."""
    found = {}
    for graph in graph_inputs(network.spec):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            graph_module(network, graph).eval()(*example_inputs(network.spec, graph))
        found[graph] = int(counter.get_total_flops())
    return found


def part_parameters(network: PeftDmlNetwork) -> dict[str, int]:
    """Return parameters of each graph once adapters are merged."""

    def count(*modules: torch.nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    parts = {str(m): count(network.encoders[m], network.adapters[m], network.projections[m]) for m in MODALITIES}
    return {**parts, "fusion": count(network.fusion, network.head)}


def measure_cost(
    network: PeftDmlNetwork, folder: SceneFolder, scenes: tuple[str, ...], names: tuple[str, ...], frames: int
) -> dict[str, Any]:
    """Return costs by subset of sensors, through the exported graphs and the vehicle's own detector on one thread.

    Returns:
        `graphs` (parameters, flops), `subsets` (parameters, flops, p50 and p95 of the latency in ms, CPU seconds a
        frame), and `fusion` (the same of its graph alone, with the last subset, which is that with most sensors).
    """
    parameters, flops = part_parameters(network), graph_flops(network)
    tokens = sorted(keyframes(folder, scenes, min(frames or FRAMES, FRAMES)))
    subsets: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "cost"
        export_graphs(network, path)
        spec = network.spec
        write_manifest(
            path,
            Manifest(
                name="cost", version="0", description="untrained", spec=spec, graphs=graph_infos(spec), files={},
                trained_share=0.0,
            ),
        )  # fmt: skip
        bundle = load_bundle(path)
        engines = load_engines(bundle, DEFAULT_ENGINE, threads=1)
        shots = [folder.reader.snapshot(token, spec) for token in tokens]
        detector = Detector(bundle, folder.reader.rig(tokens[0]), engines, threads=1)
        for name, sensors in subsets_of(names).items():
            wall, cpu, fusing = [], [], []
            for number, shot in enumerate(shots[:WARM_UP] + shots):
                seen = shot.without(*(m for m in MODALITIES if m not in sensors))
                start, start_cpu = time.perf_counter(), time.process_time()
                detector(seen)
                if number >= len(shots[:WARM_UP]):
                    wall.append(1e3 * (time.perf_counter() - start))
                    cpu.append(time.process_time() - start_cpu)
                    fusing.append(engines["fusion"].elapsed_ms)
            blind = not set(sensors) & set(DETECTING)
            graphs = () if blind else (*sensors, "fusion")
            subsets[name] = {
                "parameters": sum(parameters[g] for g in graphs),
                "flops": sum(flops[g] for g in graphs),
                **_percentiles(wall),
                "cpu_s": round(float(np.mean(cpu)), 5),
            }
    fusion = {"parameters": parameters["fusion"], "flops": flops["fusion"], **_percentiles(fusing)}
    by_graph = {g: {"parameters": parameters[g], "flops": flops[g]} for g in flops}
    return {"graphs": by_graph, "subsets": subsets, "fusion": fusion, "keyframes": len(tokens), "threads": 1}


def _percentiles(times_ms: list[float]) -> dict[str, float]:
    return {f"p{share}_ms": round(float(np.percentile(times_ms, share)), 3) for share in (50, 95)}
