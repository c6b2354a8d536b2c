# SPDX-License-Identifier: Apache-2.0
"""A valid bundle with real ONNX graphs but no training: it runs everywhere a trained one does.

Its fusion graph answers with boxes whose scores depend on the latents, so that any change of the input changes them.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from peft_dml_ros.core.bundle import GraphInfo, Manifest, TensorInfo, write_manifest
from peft_dml_ros.core.spec import REGRESSION, ModelSpec, TensorTable, graph_inputs, graph_outputs

_TYPES = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "uint8": TensorProto.UINT8}


def make_random_bundle(folder: Path, spec: ModelSpec | None = None, name: str = "random") -> Path:
    """Write the bundle.

    Args:
        folder: Where; made if it does not exist.
        spec: Model facts; the defaults otherwise.
        name: Name in the manifest.

    Returns:
        The folder.
    """
    spec = spec or ModelSpec()
    folder.mkdir(parents=True, exist_ok=True)
    inputs, outputs = graph_inputs(spec), graph_outputs(spec)
    for graph in inputs:
        make = _fusion if graph == "fusion" else _encoder
        onnx.save(make(graph, inputs[graph], outputs[graph], spec), folder / f"{graph}.onnx")
    graphs = {g: GraphInfo(file=f"{g}.onnx", inputs=_infos(inputs[g]), outputs=_infos(outputs[g])) for g in inputs}
    manifest = Manifest(
        name=name, version="0.0", description="untrained", spec=spec, graphs=graphs, files={}, trained_share=0.0
    )
    write_manifest(folder, manifest)
    return folder


def _infos(table: TensorTable) -> dict[str, TensorInfo]:
    return {name: TensorInfo(shape=shape, dtype=dtype) for name, (shape, dtype) in table.items()}


def _model(nodes: list, inputs: TensorTable, outputs: TensorTable, constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info(n, _TYPES[d], s) for n, (s, d) in inputs.items()],
        [helper.make_tensor_value_info(n, _TYPES[d], s) for n, (s, d) in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _encoder(name: str, inputs: TensorTable, outputs: TensorTable, spec: ModelSpec) -> onnx.ModelProto:
    """Latent = pattern × (1 + mean of all inputs)."""
    shape = outputs["latent"][0]
    seed = sum(map(ord, name))
    pattern = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    nodes, means = [], []
    for key in inputs:
        nodes.append(helper.make_node("Cast", [key], [f"{key}_f"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("ReduceMean", [f"{key}_f"], [f"{key}_m"], keepdims=0))
        means.append(f"{key}_m")
    nodes.append(helper.make_node("Sum", means, ["sum"]))
    nodes.append(helper.make_node("Tanh", ["sum"], ["level"]))
    nodes.append(helper.make_node("Add", ["level", "one"], ["scale"]))
    nodes.append(helper.make_node("Mul", ["pattern", "scale"], ["latent"]))
    return _model(nodes, inputs, outputs, {"pattern": pattern, "one": np.float32(1.0).reshape(())})


def _fusion(name: str, inputs: TensorTable, outputs: TensorTable, spec: ModelSpec) -> onnx.ModelProto:
    """K fixed boxes on a ring; scores fall with K and move with the latents of the present modalities."""
    k = spec.candidates
    rng = np.random.default_rng(7)
    labels = rng.integers(0, len(spec.classes), k).astype(np.int32)
    angle = np.linspace(0, 2 * np.pi, k, endpoint=False)
    radius = rng.uniform(8.0, 0.9 * spec.grid.half_range_m, k)
    column = ((radius * np.cos(angle) + spec.grid.half_range_m) / spec.grid.cell_m).astype(np.int32)
    row = ((radius * np.sin(angle) + spec.grid.half_range_m) / spec.grid.cell_m).astype(np.int32)
    regression = np.zeros((k, len(REGRESSION)), dtype=np.float32)
    regression[:, 2] = 0.9
    regression[:, 3:6] = np.log([4.5, 1.8, 1.6])
    regression[:, 6], regression[:, 7] = np.sin(angle), np.cos(angle)
    regression[:, 10:] = -2.0
    constants = {
        "base": np.linspace(2.0, -4.0, k, dtype=np.float32),
        "labels_c": labels,
        "cells_c": (row * spec.grid.size + column).astype(np.int32),
        "regression_c": regression,
        "attributes_c": rng.normal(size=(k, 8)).astype(np.float32),
        "tiny": np.float32(1e-6).reshape(()),
    }
    nodes = []
    modalities = ("lidar", "camera", "radar", "imu", "gnss")
    for m in modalities:
        nodes.append(helper.make_node("ReduceL2", [m], [f"{m}_l2"], keepdims=0))
        nodes.append(helper.make_node("Tanh", [f"{m}_l2"], [f"{m}_t"]))
    nodes += [
        helper.make_node("Sum", [f"{m}_t" for m in modalities], ["level"]),
        helper.make_node("ReduceMean", ["completeness"], ["whole"], keepdims=0),
        helper.make_node("ReduceMean", ["age_s"], ["old"], keepdims=0),
        helper.make_node("Sum", ["base", "level", "whole", "old"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["scores"]),
        helper.make_node("ReduceSum", ["mask"], ["present"], keepdims=0),
        helper.make_node("Add", ["present", "tiny"], ["divisor"]),
        helper.make_node("Div", ["mask", "divisor"], ["gate"]),
    ]
    nodes += [helper.make_node("Identity", [f"{n}_c"], [n]) for n in ("labels", "cells", "regression", "attributes")]
    return _model(nodes, inputs, outputs, constants)


if __name__ == "__main__":
    import sys

    make_random_bundle(Path(sys.argv[1]))
