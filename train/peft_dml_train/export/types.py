# SPDX-License-Identifier: Apache-2.0
"""Walks the types of a graph as a strongly typed TensorRT network does: nothing is converted unless a cast says so.

TensorRT 10 builds such networks when asked to, TensorRT 11 builds no other.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import onnx
from onnx import TensorProto

FLOATS: Final = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})
INDICES: Final = frozenset({TensorProto.INT32, TensorProto.INT64})
#: What the graphs of a bundle may hold. No float64: TensorRT has none.
KNOWN: Final = FLOATS | INDICES | {TensorProto.BOOL, TensorProto.INT8, TensorProto.UINT8}

#: Operators whose data must all be of one type: every input, or the two branches of `Where`, data and updates of
#: `ScatterND`
EQUAL: Final = frozenset(
    """
    Add And BatchNormalization Concat Conv ConvTranspose Div Equal Gemm Greater GreaterOrEqual InstanceNormalization
    LayerNormalization Less LessOrEqual MatMul Max Mean Min Mod Mul Or PRelu ScatterND Sub Sum Where Xor
    """.split()  # noqa: SIM905 (a table to read)
)


def type_problems(model: onnx.ModelProto) -> list[str]:
    """Return everything that a strongly typed network would refuse; empty when it may go out."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        return [f"types do not fit: {str(error).strip().splitlines()[-1]}"]
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.input, *inferred.output)}
    types |= {w.name: w.data_type for w in inferred.initializer}
    given = {v.name for v in inferred.input}
    return [problem for node in inferred.node for problem in _problems(node, types, given)]


def _problems(node: onnx.NodeProto, types: Mapping[str, int], given: set[str]) -> Iterator[str]:
    name = f"{node.op_type} '{node.name}'"
    inputs = [types.get(i, TensorProto.UNDEFINED) for i in node.input if i]
    for tensor in (*node.input, *node.output):
        if tensor and types.get(tensor) not in KNOWN:
            yield f"{name}: '{tensor}' is {_word(types.get(tensor, TensorProto.UNDEFINED))}"
    data = _data(node, inputs)
    if len(set(data)) > 1:
        yield f"{name} mixes {', '.join(map(_word, data))}; a cast must say which it is"
    if TensorProto.INT8 in inputs[:1] and node.op_type != "DequantizeLinear":
        yield f"{name} reads 8 bit; only DequantizeLinear may"
    if any(types.get(o) == TensorProto.INT8 for o in node.output) and node.op_type != "QuantizeLinear":
        yield f"{name} makes 8 bit; only QuantizeLinear may"
    if any(types.get(i) == TensorProto.UINT8 and i not in given for i in node.input):
        yield f"{name} reads unsigned 8 bit that is no input of the graph"


def _data(node: onnx.NodeProto, inputs: list[int]) -> list[int]:
    """Return types that must be the same."""
    if node.op_type == "QuantizeLinear":
        return inputs[:2]
    if node.op_type not in EQUAL:
        return []
    if node.op_type == "Where":
        return inputs[1:]
    return [inputs[0], inputs[2]] if node.op_type == "ScatterND" else inputs


def _word(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind)).lower()
