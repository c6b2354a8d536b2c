# SPDX-License-Identifier: Apache-2.0
"""The large weights of a bundle without a base in 8 bit, in one file that all of its graphs share.

Every first index of a weight, an output channel of a convolution, has its own step; the graphs multiply the codes with
it and compute as before, in float. Runtimes get the products, see `core.onnx_graph`.
"""

from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from peft_dml_ros.core.bundle import WEIGHTS, load_bundle
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.onnx_graph import weight_scale
from peft_dml_ros.core.typing import AnyArray, Float32Array, Int8Array
from peft_dml_train.adapters.base_weights import READABLE
from peft_dml_train.export.operators import require_operators
from peft_dml_train.export.rewriting import describe, rewritten
from peft_dml_train.export.weights import folded, refer_to_base

LEAST: Final = 16_384  #: Weights of fewer values stay as they are: first and last layers, a few percent of all


def rounded_codes(values: AnyArray) -> tuple[Int8Array, Float32Array]:
    """Return the codes of a weight, and their steps, which broadcast over it."""
    wide = values.astype(np.float32)
    steps = weight_scale(wide).reshape(-1, *[1] * (wide.ndim - 1))
    return np.rint(wide / steps).astype(np.int8, order="C"), steps  # safetensors writes memory as it lies


def compact_bundle(bundle: Path, out: Path) -> Path:
    """Make a bundle that stores its large weights in 8 bit; return `out`, which is replaced and may be the old one.

    Raises ConfigError: its weights are in a file already, or it has none that are large.
    """
    source = load_bundle(bundle)
    if source.weights_file.is_file():
        fix = f"merge an adapter first: peft-dml adapter merge default --bundle {bundle} --out FOLDER"
        fix = fix if source.has_base else "none needed, it is compact already"
        raise ConfigError(f"{source.path} keeps its weights in {source.weights_file.name}; fix: {fix}")
    with rewritten(source, out) as work:
        models, stored = {}, dict[str, Int8Array]()
        for precision in source.precisions:
            for graph in source.manifest.graphs:
                file = work / source.graph_file(graph, precision).name
                models[file] = _stored(onnx.load(file), graph, stored)
        if not stored:
            raise ConfigError(f"{source.path} has no weight of {LEAST} values or more; hint: it is as small as it gets")
        save_file(stored, work / WEIGHTS)
        (work / WEIGHTS).chmod(READABLE)
        for file, model in models.items():
            require_operators(folded(model), file.stem)
            onnx.save(refer_to_base(model, work / WEIGHTS), file)
        about = {"weights": len(stored), "values": sum(codes.size for codes in stored.values())}
        provenance = {**source.manifest.provenance, "compact": {**about, "from": dict(source.manifest.files)}}
        describe(work, source.manifest.model_copy(update={"provenance": provenance}))
    return out


def _stored(model: onnx.ModelProto, graph: str, stored: dict[str, Int8Array]) -> onnx.ModelProto:
    """Put codes and steps in the place of a graph's large weights, and the codes into `stored` by their new names."""
    decoding = []
    for tensor in [t for t in model.graph.initializer if t.data_type in {TensorProto.FLOAT, TensorProto.FLOAT16}]:
        values = numpy_helper.to_array(tensor)
        if values.ndim < 2 or values.size < LEAST:
            continue
        codes, steps = rounded_codes(values)
        name, key = tensor.name, f"{graph}/{tensor.name}"
        if not np.array_equal(stored.setdefault(key, codes), codes):
            msg = f"'{name}' of graph '{graph}' has other values in another precision"
            raise ConfigError(f"{msg}; fix: convert it again")
        wide, step, product = f"{name}/wide", f"{name}/step", name
        if tensor.data_type == TensorProto.FLOAT16:
            product = f"{name}/float"
            decoding.append(helper.make_node("Cast", [product], [name], f"{product}_cast", to=TensorProto.FLOAT16))
        decoding += [
            helper.make_node("Mul", [wide, step], [product], f"{name}/scale"),
            helper.make_node("Cast", [key], [wide], f"{name}/widen", to=TensorProto.FLOAT),
        ]
        model.graph.initializer.remove(tensor)
        model.graph.initializer.extend([numpy_helper.from_array(codes, key), numpy_helper.from_array(steps, step)])
    nodes = [*reversed(decoding), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model
