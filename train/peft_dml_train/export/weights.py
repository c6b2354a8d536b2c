# SPDX-License-Identifier: Apache-2.0
"""How a graph refers to the base's weights: as ONNX's external data in `base.safetensors`, cast to 32 bit.

A bundle without a base keeps large weights in `weights.safetensors` in the same way, see `compact`.

Other tools read such a graph as it is; the vehicle fills in what an adapter changes, see `core.onnx_graph`.
"""

import json
import struct
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import TensorProto, helper

from peft_dml_ros.core.errors import BundleError
from peft_dml_ros.core.onnx_graph import filled

KINDS: Final = {"F16": TensorProto.FLOAT16, "F32": TensorProto.FLOAT, "I8": TensorProto.INT8, "I64": TensorProto.INT64}


def refer_to_base(model: onnx.ModelProto, base: Path) -> onnx.ModelProto:
    """Let a graph take its parameters, inputs or constants by name, from the base's file next to it; changed in place.

    Raises BundleError: a parameter is stored in a way that no graph knows.
    """
    header, start = _header(base)
    graph, casts = model.graph, []
    for value in [v for v in graph.input if v.name in header]:
        graph.initializer.append(TensorProto(name=value.name))
        graph.input.remove(value)
        if header[value.name]["dtype"] == "F16":
            wide = f"{value.name}/float"
            for node in graph.node:
                node.input[:] = [wide if name == value.name else name for name in node.input]
            casts.append(helper.make_node("Cast", [value.name], [wide], f"cast/{value.name}", to=TensorProto.FLOAT))
    for tensor in [t for t in graph.initializer if t.name in header]:
        entry = header[tensor.name]
        if entry["dtype"] not in KINDS:
            raise BundleError(f"{base}: '{tensor.name}' is of {entry['dtype']}; fix: write F16")
        begin, end = entry["data_offsets"]
        tensor.CopyFrom(TensorProto(name=tensor.name, data_type=KINDS[entry["dtype"]], dims=entry["shape"]))
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in (("location", base.name), ("offset", start + begin), ("length", end - begin)):
            tensor.external_data.add(key=key, value=str(text))
    nodes = [*casts, *graph.node]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return model


def with_weights(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Return a copy of a graph that holds its weights, as checks and conversions want it."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    onnx.load_external_data_for_model(whole, str(folder))
    return whole


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph as the vehicle gives it to a runtime: what is computed from weights alone is a weight."""
    return onnx.load_from_string(filled(model.SerializeToString(), {}, {}, {}, model.graph.name))


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the table of a safetensors file, and where its values begin."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        table = json.loads(file.read(length))
    table.pop("__metadata__", None)
    return table, 8 + length
