# SPDX-License-Identifier: Apache-2.0
"""Batch norms and constant factors folded by the graph itself: its first nodes compute weights from parameters.

So a graph's weights are the network's own, by name, and an adapter can replace one of them; a runtime, or the vehicle's
`core.onnx_graph`, computes the folding once when it loads the graph.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from peft_dml_ros.core.typing import AnyArray

Steps: TypeAlias = list[tuple[str, list[str], str]]  #: Operator, inputs and output of each node

#: Operators that a batch norm folds into, with the axis of the output channels in their weight
AXES: Final = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0, "MatMul": 1}


def fold_parameters(model: onnx.ModelProto, ranks: Mapping[str, int]) -> onnx.ModelProto:
    """Move batch norms into the layer before them, and constant factors into the matrix product behind them."""
    graph = model.graph
    folding = _Folding(graph, ranks)
    for node in [n for n in graph.node if n.op_type == "BatchNormalization"]:
        folding.norm(node)
    for node in [n for n in graph.node if n.op_type == "Mul"]:
        folding.factor(node)
    nodes = [*folding.nodes, *(n for n in graph.node if n.name not in folding.moved)]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


class _Folding:
    def __init__(self, graph: onnx.GraphProto, ranks: Mapping[str, int]) -> None:
        self._graph, self._ranks = graph, ranks
        self._producers = {name: node for node in graph.node for name in node.output}
        self._readers = Counter(name for node in graph.node for name in node.input)
        self._constants = {w.name for w in graph.initializer}
        self._done: set[str] = set()
        self.nodes: list[onnx.NodeProto] = []
        self.moved: set[str] = set()

    def norm(self, norm: onnx.NodeProto) -> None:
        """Fold a batch norm that alone reads a layer."""
        layer = self._producers.get(norm.input[0])
        if layer is None or layer.op_type not in AXES or self._readers[norm.input[0]] != 1:
            return
        rank = self._weight_rank(layer.input[1])
        attributes = {a.name: a.i for a in layer.attribute}
        grouped = layer.op_type == "ConvTranspose" and attributes.get("group", 1) != 1
        if not rank or grouped or (layer.op_type == "Gemm" and not attributes.get("transB")):
            return
        gamma, beta, mean, variance = norm.input[1:5]
        stem = f"{layer.input[1]}~{gamma.removesuffix('.weight')}"
        if stem not in self._done:
            shape = [1] * rank
            shape[AXES[layer.op_type]] = -1
            epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
            self._constant(f"{stem}/epsilon", np.array(epsilon, np.float32))
            self._constant(f"{stem}/shape", np.array(shape, np.int64))
            steps: Steps = [
                ("Add", [variance, f"{stem}/epsilon"], f"{stem}/raised"),
                ("Sqrt", [f"{stem}/raised"], f"{stem}/deviation"),
                ("Div", [gamma, f"{stem}/deviation"], f"{stem}/factor"),
                ("Reshape", [f"{stem}/factor", f"{stem}/shape"], f"{stem}/factors"),
                ("Mul", [layer.input[1], f"{stem}/factors"], f"{stem}/weight"),
            ]
            centre = mean
            if len(layer.input) > 2 and layer.input[2]:
                centre = f"{stem}/centre"
                steps.append(("Sub", [mean, layer.input[2]], centre))
            steps.append(("Mul", [centre, f"{stem}/factor"], f"{stem}/shift"))
            steps.append(("Sub", [beta, f"{stem}/shift"], f"{stem}/bias"))
            self._add(steps)
            self._done.add(stem)
        if layer.op_type == "MatMul":
            layer.input[1] = f"{stem}/weight"
            norm.CopyFrom(helper.make_node("Add", [layer.output[0], f"{stem}/bias"], list(norm.output), norm.name))
            return
        layer.input[:] = [layer.input[0], f"{stem}/weight", f"{stem}/bias"]
        layer.output[0] = norm.output[0]
        self._graph.node.remove(norm)

    def factor(self, multiply: onnx.NodeProto) -> None:
        """Fold a product with constants that a matrix product alone reads: x·diag(s)·W = x·(diag(s)·W)."""
        readers = [n for n in self._graph.node if multiply.output[0] in n.input]
        if multiply.input[1] not in self._constants or len(readers) != 1 or readers[0].op_type != "MatMul":
            return
        product = readers[0]
        if product.input[0] != multiply.output[0] or not self._is_constant(product.input[1]):
            return
        stem = f"{product.input[1]}~{multiply.input[1]}"
        self._constant(f"{stem}/shape", np.array([-1, 1], np.int64))
        steps: Steps = [
            ("Reshape", [multiply.input[1], f"{stem}/shape"], f"{stem}/factors"),
            ("Mul", [product.input[1], f"{stem}/factors"], f"{stem}/weight"),
        ]
        self._add(steps)
        product.input[:] = [multiply.input[0], f"{stem}/weight"]
        self._graph.node.remove(multiply)

    def _weight_rank(self, name: str) -> int:
        """Return dimensions of a weight: a parameter, or a transposed one, whose transposing moves to the front."""
        if name in self._ranks:
            return self._ranks[name]
        node = self._producers.get(name)
        if node is None or node.op_type != "Transpose" or node.input[0] not in self._ranks:
            return 0
        if node.name not in self.moved:
            self.moved.add(node.name)
            self.nodes.append(node)
        return self._ranks[node.input[0]]

    def _is_constant(self, name: str) -> bool:
        return any(name in node.output for node in self.nodes) or bool(self._weight_rank(name))

    def _constant(self, name: str, value: AnyArray) -> None:
        self._graph.initializer.append(numpy_helper.from_array(value, name))

    def _add(self, steps: Steps) -> None:
        self.nodes += [helper.make_node(op, inputs, [output], f"fold/{output}") for op, inputs, output in steps]
