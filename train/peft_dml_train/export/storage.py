# SPDX-License-Identifier: Apache-2.0
"""Weights of a float graph stored in 16 bit: half the file, the same time and nearly the same numbers.

Each large weight becomes a 16-bit constant with a cast behind it. ONNX Runtime and TensorRT fold the cast when they
load the graph, so that everything is still computed in 32 bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnx
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper

LEAST: Final = 16384
"""Weights of fewer values stay as they are: there are few in all, and rounded they would cost most of the accuracy."""
ADAPTER_LEAST: Final = 1024
"""The same for the adapter's file, whose matrices are small."""
SUFFIX: Final = "_stored"
LARGEST: Final = 60000.0
"""Where float16 ends, with room for rounding."""


def pack(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the large weights in 16 bit; a weight that 16 bit cannot hold stays in 32."""
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        if values.size < LEAST or np.abs(values).max() > LARGEST:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + SUFFIX))
        casts.append(helper.make_node("Cast", [name + SUFFIX], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def unpack(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every stored weight in 32 bit again, as the conversions to other precisions want it."""
    weights = {w.name: w for w in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        source = node.input[0] if node.op_type == "Cast" else ""
        if source.endswith(SUFFIX) and source in weights:
            values = numpy_helper.to_array(weights[source]).astype(np.float32)
            weights[source].CopyFrom(numpy_helper.from_array(values, node.output[0]))
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def pack_files(graphs: dict[str, Path], adapter: Path) -> None:
    """Rewrite graphs and an adapter in place."""
    for path in graphs.values():
        onnx.save(pack(onnx.load(path)), path)
    weights = safetensors.torch.load_file(adapter)
    stored = {k: v.half() if v.dtype == torch.float32 and v.numel() >= ADAPTER_LEAST else v for k, v in weights.items()}
    safetensors.torch.save_file(stored, adapter, {"format": "pt"})
