# SPDX-License-Identifier: Apache-2.0
"""Sixteen bit inside the graph, with explicit casts: what a strongly typed TensorRT network needs."""

from typing import Final

import onnx
from onnx import TensorProto, helper

#: Operators that run in 16 bit. Norms, softmax, sigmoid and top-K stay in 32 bit.
HALF_OPERATORS: Final = frozenset(
    {"Add", "Concat", "Conv", "Expand", "Flatten", "Gather", "Gemm", "MatMul", "MaxPool", "Mul", "Pad", "ReduceMax"}
    | {"Relu", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Sub", "Transpose", "Unsqueeze"}
)

#: Operators whose first inputs alone are data; the others say how
DATA_INPUTS: Final = {"Expand": 1, "Gather": 1, "Reshape": 1, "Resize": 1, "Slice": 1, "Split": 1, "Unsqueeze": 1}

DOT_PRODUCTS: Final = frozenset({"Conv", "Gemm", "MatMul"})


class _Writer:
    """Nodes of the new graph, with a cast wherever a tensor is wanted in the other width."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.weights = {w.name: w for w in model.graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        values = [*inferred.value_info, *inferred.input, *inferred.output]
        self.is_float = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
        self.is_float |= {n for n, w in self.weights.items() if w.data_type == TensorProto.FLOAT}
        self.nodes: list[onnx.NodeProto] = []
        self.half: set[str] = set()
        self._made: set[str] = set()

    def as_half(self, name: str) -> str:
        """Return the tensor in 16 bit."""
        # Also of weights, which an adapter may change: whoever loads the graph casts them once.
        whole = name not in self.half and name in self.is_float
        return self._cast(name, f"{name}_half", TensorProto.FLOAT16) if whole else name

    def as_float(self, name: str) -> str:
        """Return the tensor in 32 bit."""
        return self._cast(name, f"{name}_float", TensorProto.FLOAT) if name in self.half else name

    def _cast(self, name: str, new: str, to: int) -> str:
        if new not in self._made:
            self._made.add(new)
            self.nodes.append(helper.make_node("Cast", [name], [new], f"{new}_cast", to=to))
        return new


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return 16-bit copy of a float graph; its inputs and outputs keep their types.

    What comes before the first convolution or gather stays in 32 bit, since pillars hold coordinates of 50 m and
    offsets of centimetres; so does what comes after the last convolution, where boxes are made.
    """
    writer, outputs = _Writer(model), {o.name for o in model.graph.output}
    middle = _middle(model)
    for index, original in enumerate(model.graph.node):
        node = onnx.NodeProto()
        node.CopyFrom(original)
        floats = any(name in writer.is_float for name in original.output)
        if floats and node.op_type in HALF_OPERATORS and index in middle and not outputs & set(node.output):
            data = DATA_INPUTS.get(node.op_type, len(node.input))
            node.input[:] = [writer.as_half(n) if n and i < data else n for i, n in enumerate(node.input)]
            writer.half |= set(node.output)
        else:
            node.input[:] = [writer.as_float(n) for n in node.input]
        writer.nodes.append(node)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
    result.graph.node.extend(writer.nodes)
    used = {name for node in writer.nodes for name in node.input}
    result.graph.initializer.extend(w for name, w in writer.weights.items() if name in used)
    onnx.checker.check_model(result, full_check=True)
    return result


def _middle(model: onnx.ModelProto) -> set[int]:
    """Return nodes from the first convolution, gather or motion window to the last dot product, by index."""
    behind: set[str] = set()
    late = set()
    first = {"Conv", "Gather", "Gemm"}
    for index, node in enumerate(model.graph.node):
        if node.op_type in first or behind & set(node.input):
            behind |= set(node.output)
            late.add(index)
    needed: set[str] = set()
    middle = set()
    for index, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type in DOT_PRODUCTS or needed & set(node.output):
            needed |= set(node.input)
            middle.add(index)
    return middle & late
