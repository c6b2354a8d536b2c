# SPDX-License-Identifier: Apache-2.0
"""Build every graph of every bundle and configuration with TensorRT for RTX, and record what came out.

`python -m peft_dml_train.export.engine_builds` writes `bench/engine_builds.json`; with names (tiny, models/demo) the
rows of these alone. No GPU is needed: what TensorRT does not take fails here, and not on a vehicle.
"""

import json
import logging
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any, Final

import onnx

from peft_dml_ros.core.adapter_mix import DEFAULT
from peft_dml_ros.core.bundle import GraphContent, bundle_folders, load_bundle
from peft_dml_ros.core.engine import PRECISIONS
from peft_dml_ros.core.onnx_graph import filled
from peft_dml_ros.core.spec import ModelSpec, graph_inputs
from peft_dml_ros.engines.cache import EngineKey
from peft_dml_ros.engines.tensorrt_build import build_plan, parse_graph
from peft_dml_ros.engines.tensorrt_library import TensorRtLibrary, load_tensorrt
from peft_dml_train.adapters.base_weights import rounded
from peft_dml_train.adapters.lora import adapt, merge
from peft_dml_train.config import load_config
from peft_dml_train.export.graphs import example_inputs, export_graphs
from peft_dml_train.export.half_precision import to_fp16
from peft_dml_train.export.precision import FLOAT_PARTS
from peft_dml_train.export.quantise import activation_ranges, quantise_graph
from peft_dml_train.loop.stages import new_network

ROOT: Final = Path(__file__).resolve().parents[3]
RECORD: Final = ROOT / "bench" / "engine_builds.json"
CONFIGS: Final = ("tiny", "demo", "nuscenes")
CAPABILITIES: Final = ("8.6", "8.9", "12.0")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class GraphSource:
    """Float graphs with all of their weights."""

    name: str  #: Bundle or configuration
    weights: str  #: Which weights they hold
    spec: ModelSpec  #: Model facts
    graphs: dict[str, bytes]  #: Serialised ONNX models by graph


def converted(content: bytes, graph: str, precision: str, spec: ModelSpec) -> bytes:
    """Return a float graph in another precision; ranges for 8 bit come from one made-up frame."""
    model = onnx.load_from_string(content)
    if precision == "fp16":
        model = to_fp16(model)
    elif precision == "int8":
        inputs = example_inputs(spec, graph, seed=1)
        feeds = {name: value.numpy() for name, value in zip(graph_inputs(spec)[graph], inputs, strict=True)}
        exclude = FLOAT_PARTS[graph]
        model = quantise_graph(model, activation_ranges(model, [feeds], exclude), exclude)[0]
    return bytes(model.SerializeToString())


def build_row(content: bytes, graph: str, library: TensorRtLibrary) -> Row:
    """Return size, layers and types of one graph, after it was built for all of `CAPABILITIES`."""
    network = parse_graph(content, graph, library.trt).network
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    types = {layer.get_output_type(i).name.lower() for layer in layers for i in range(layer.num_outputs)}
    start = monotonic()
    plan = build_plan(GraphContent(Path(f"{graph}.onnx"), content), library, EngineKey("", library.name, CAPABILITIES))
    seconds = round(monotonic() - start, 2)
    sizes = {"onnx_bytes": len(content), "plan_bytes": len(plan), "layers": len(layers), "seconds": seconds}
    return {"graph": graph, **sizes, "types": sorted(types)}


def rows_of(source: GraphSource, library: TensorRtLibrary) -> Iterator[Row]:
    """Yield the rows of one source in every precision."""
    for precision in PRECISIONS:
        for graph, content in source.graphs.items():
            row = build_row(converted(content, graph, precision, source.spec), graph, library)
            yield {"source": source.name, "weights": source.weights, "precision": precision, **row}


def bundle_sources(names: Iterable[str] = ()) -> Iterator[GraphSource]:
    """Yield the shipped bundles, or those named, as bases and with their own adapters."""
    shipped = {path.parent.name for folder in bundle_folders() for path in folder.glob("*/manifest.json")}
    for name in names or sorted(shipped):
        for weights, adapter in (("base", "none"), ("merged", DEFAULT)):
            bundle = load_bundle(name, adapter=adapter)
            if bundle.adapters.parts or weights == "base":
                contents = {graph: bundle.graph(graph, "fp32").content for graph in bundle.manifest.graphs}
                yield GraphSource(f"bundle {name}", weights, bundle.spec, contents)


def config_sources(names: Iterable[str] = CONFIGS, overrides: tuple[str, ...] = ()) -> Iterator[GraphSource]:
    """Yield the graphs of fresh networks, as they are and with low-rank adapters merged."""
    for name in names:
        config = load_config(ROOT / "train" / "configs" / f"{name}.yaml", overrides)
        for weights in ("base", "merged"):
            network = new_network(config).eval()
            network = merge(adapt(network, config.adapters).eval()).eval() if weights == "merged" else network
            network.load_state_dict(rounded(network.state_dict()))
            with tempfile.TemporaryDirectory() as folder:
                paths = export_graphs(network, Path(folder))
                contents = {graph: onnx.load(path).SerializeToString() for graph, path in paths.items()}
            whole = {g: filled(content, {}, {}, {}, g) for g, content in contents.items()}
            yield GraphSource(f"config {name}", weights, config.spec, whole)


def record(source: GraphSource, library: TensorRtLibrary) -> None:
    """Build a source and put its rows into the record, instead of those that it had."""
    stored = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    kept = stored["builds"] if stored.get("library") == library.name else []
    kept = [row for row in kept if (row["source"], row["weights"]) != (source.name, source.weights)]
    rows = sorted([*kept, *rows_of(source, library)], key=lambda row: (row["source"], row["weights"]))
    content = {"library": library.name, "capabilities": CAPABILITIES, "builds": rows}
    RECORD.write_text(json.dumps(content) + "\n")


def main() -> None:
    """Build everything, or the configurations and bundles named, and write the record."""
    logging.basicConfig(level=logging.WARNING)
    library, names = load_tensorrt("tensorrt-rtx"), sys.argv[1:]
    configs = [name for name in names if name in CONFIGS] or ([] if names else CONFIGS)
    bundles = [name.removeprefix("models/") for name in names if name not in CONFIGS]
    sources = chain(config_sources(configs), bundle_sources(bundles) if bundles or not names else ())
    for source in sources:
        record(source, library)


if __name__ == "__main__":
    main()
