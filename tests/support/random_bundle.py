# SPDX-License-Identifier: Apache-2.0
"""A valid bundle with real ONNX graphs but no training: it runs everywhere a trained one does.

Its fusion graph answers with boxes whose scores depend on the latents, so that any change of the input changes them.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from peft_dml_ros.core.adapter import CARD, CONFIG, PREFIX, WEIGHTS, AdapterCard
from peft_dml_ros.core.bundle import BASE_WEIGHTS, GraphInfo, Manifest, TensorInfo, load_bundle
from peft_dml_ros.core.spec import REGRESSION, ModelSpec, TensorTable, graph_inputs, graph_outputs
from peft_dml_ros.core.verified_files import sha256
from peft_dml_tools.bundles.manifest import write_manifest

BASE_SHAPE = (24, 32)
_MODALITIES = ("lidar", "camera", "radar", "imu", "gnss")
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


def make_random_base(folder: Path, spec: ModelSpec | None = None, name: str = "random") -> Path:
    """Write a bundle whose graphs take their weights from `base.safetensors`; adapters change its boxes.

    Returns:
        The folder.
    """
    manifest = load_bundle(make_random_bundle(folder, spec, name)).manifest
    rng = np.random.default_rng(3)
    base = {f"encoders.{m}.mix.weight": rng.normal(size=BASE_SHAPE).astype(np.float16) for m in _MODALITIES}
    base["head.bias"] = np.zeros(1, np.float32)
    save_file(base, folder / BASE_WEIGHTS)
    for graph in (*_MODALITIES, "fusion"):
        _lean_on_base(folder / f"{graph}.onnx", "head.bias" if graph == "fusion" else f"encoders.{graph}.mix.weight")
    write_manifest(folder, manifest.model_copy(update={"base": {"sha256": sha256(folder / BASE_WEIGHTS)}}))
    return folder


def _lean_on_base(path: Path, weight: str) -> None:
    """Let a graph's main tensor be scaled, or the fusion's logits be shifted, by a weight of the base."""
    model, inner = onnx.load(path), weight == "head.bias"
    target, kind = ("logit", "Add") if inner else ("scale", "Mul")
    shape = [1] if inner else list(BASE_SHAPE)
    tensor = TensorProto(name=weight, data_type=TensorProto.FLOAT if inner else TensorProto.FLOAT16, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=BASE_WEIGHTS)
    model.graph.initializer.append(tensor)
    maker = next(node for node in model.graph.node if target in node.output)
    at = list(model.graph.node).index(maker)
    maker.output[0] = f"{target}_before"
    steps = [
        helper.make_node("Cast", [weight], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide"], ["gain"], keepdims=0),
        helper.make_node(kind, [f"{target}_before", "gain"], [target]),
    ]
    for offset, node in enumerate(steps):
        model.graph.node.insert(at + 1 + offset, node)
    path.write_bytes(model.SerializeToString())


def make_random_adapter(folder: Path, bundle: Path, name: str, *, rank: int = 2, bias: float = 0.5, **card) -> Path:
    """Write an adapter of a random base: low-rank matrices on every encoder, and the head's bias.

    Args:
        folder: Where.
        bundle: The base.
        name: Its name.
        rank: Of the matrices.
        bias: Added to every logit.
        card: Fields of the card to set.

    Returns:
        The folder.
    """
    rng, base = np.random.default_rng(sum(map(ord, name))), load_bundle(bundle, adapter="none").manifest
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{PREFIX}head.bias": np.array([bias], np.float32)}
    for m in _MODALITIES:
        for end, shape in (("A", (rank, BASE_SHAPE[1])), ("B", (BASE_SHAPE[0], rank))):
            stem = f"{PREFIX}encoders.{m}.mix.lora_{end}.weight"
            tensors[stem] = rng.normal(size=shape).astype(np.float16)
    save_file(tensors, folder / WEIGHTS)
    digest = str(base.base["sha256"])
    config = {"r": rank, "lora_alpha": 2 * rank, "base_model_name_or_path": f"sha256:{digest}"}
    (folder / CONFIG).write_text(json.dumps(config))
    files = {file: sha256(folder / file) for file in (WEIGHTS, CONFIG)}
    fields = {"base": digest, "base_name": base.name, "rank": rank, "alpha": 2 * rank, "files": files, **card}
    (folder / CARD).write_text(AdapterCard(name=name, **fields).model_dump_json())
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
    regression[:, 6:10] = np.stack([np.sin(2 * angle), np.cos(2 * angle), np.cos(angle), np.sin(angle)], axis=1)
    regression[:, 12:] = -2.0
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
