# SPDX-License-Identifier: Apache-2.0
"""Eight bit inside the graph: explicit Quantize/Dequantize pairs, symmetric, calibrated on frames.

The form is the one that TensorRT 10 and 11 read (zero point 0, weights per output channel, biases in float) and that
ONNX Runtime turns into integer kernels (`peft_dml_ros.engines.onnxruntime.for_cpu`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from peft_dml_ros.core.onnx_graph import FOLDED, SCALE, weight_scale
from peft_dml_ros.core.typing import AnyArray
from peft_dml_ros.engines.onnxruntime import RELU_ZERO_POINT
from peft_dml_train.export.weights import folded

#: Share of a tensor's values, in percent, that its range must hold, unless a graph has its own; the few beyond are cut
#: off
PERCENTILE: Final = 99.9

PASSING: Final = {"Resize", "MaxPool"}  #: Operators that pick values and keep their scale
Feeds = Mapping[str, AnyArray]


class _Graph:
    """Look-ups in an ONNX graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.weights = {w.name for w in graph.initializer}
        for node in graph.node:
            if node.input and all(name in self.weights for name in node.input):
                self.weights.update(node.output)
        self.bounds = {w.name: float(numpy_helper.to_array(w)) for w in graph.initializer if not w.dims}
        self.producer = {name: node for node in graph.node for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

    def result(self, node: onnx.NodeProto) -> str:
        """Output of a node, or of the ReLU or ReLU6 that alone reads it."""
        consumers = self.consumers.get(node.output[0], [])
        alone = len(consumers) == 1 and self.rectifies(consumers[0])
        return str(consumers[0].output[0] if alone else node.output[0])

    def rectifies(self, node: onnx.NodeProto) -> bool:
        """Return True of a ReLU, and of a clip at 0 as in a ReLU6."""
        return node.op_type == "Relu" or (node.op_type == "Clip" and self.bounds.get(node.input[1]) == 0.0)

    def activations(self, node: onnx.NodeProto) -> list[str]:
        """Return inputs of a node that are no weights."""
        return [name for name in node.input if name and name not in self.weights]

    def source(self, tensor: str) -> str:
        """Return the tensor whose values a chain of passing operators hands on."""
        while (node := self.producer.get(tensor)) is not None and node.op_type in PASSING:
            tensor = node.input[0]
        return tensor

    def computes_in_8_bit(self, node: onnx.NodeProto, chosen: Container[str], tensors: Container[str]) -> bool:
        """Return True of a chosen convolution, and of a sum or a passing operator whose result is quantised."""
        return node.name in chosen or (node.op_type in {"Add", *PASSING} and self.result(node) in tensors)

    def never_negative(self, tensor: str) -> bool:
        """Return True behind a ReLU or ReLU6."""
        node = self.producer.get(self.source(tensor))
        return node is not None and self.rectifies(node)


def convolutions(model: onnx.ModelProto, exclude: Iterable[str] = ()) -> list[str]:
    """Return names of convolutions that `quantise_graph` takes: all but the last, whose results leave the graph.

    Those whose weights the graph computes in a way that the vehicle does not fold stay in float as well, and depthwise
    ones, whose output TensorRT for RTX then stores thrice (`findings/tensorrt_rtx_int8_depthwise_plan_size.sh`).

    Args:
        model: Float graph.
        exclude: Parts of names of further ones to leave in float.
    """
    exclude = tuple(exclude)
    known = {w.name for w in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in FOLDED and known.issuperset(node.input):
            known.update(node.output)
    needed: set[str] = set()
    taken = []
    for node in reversed(model.graph.node):
        leads_on = bool(needed & set(node.output))
        if leads_on or node.op_type == "Conv":
            needed |= set(node.input)
        wanted = leads_on and node.op_type == "Conv" and node.input[1] in known and not _by_channel(node)
        if wanted and not any(part in node.name for part in exclude):
            taken.append(node.name)
    return taken[::-1]


def _by_channel(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)


def quantised_tensors(model: onnx.ModelProto, names: Iterable[str]) -> list[str]:
    """Return tensors that get a Quantize/Dequantize pair: all around the named convolutions, and between them."""
    graph, chosen = _Graph(model.graph), set(names)
    tensors: dict[str, None] = {}
    for node in model.graph.node:
        if node.name in chosen:
            tensors |= dict.fromkeys((node.input[0], graph.result(node)))
    grown = True
    while grown:
        before = len(tensors)
        for node in model.graph.node:
            inputs = graph.activations(node)
            if (node.op_type == "Add" and len(inputs) == 2) or node.op_type in PASSING:
                if inputs and all(name in tensors for name in inputs):
                    tensors[graph.result(node)] = None
                elif node.op_type in PASSING and node.output[0] in tensors:
                    tensors[inputs[0]] = None
        grown = len(tensors) > before
    return list(tensors)


def activation_ranges(
    model: onnx.ModelProto, frames: Iterable[Feeds], exclude: Iterable[str] = (), percentile: float = PERCENTILE
) -> dict[str, float]:
    """Return the largest magnitude of each tensor that is quantised, without the outliers beyond a percentile.

    Args:
        model: Float graph with all its weights.
        frames: Inputs to calibrate on.
        exclude: As for `quantise_graph`.
        percentile: Share of the values of a frame that lie within, in percent; the largest of all frames counts.
    """
    if not (chosen := convolutions(model, exclude)):
        return {}
    graph, tensors = _Graph(model.graph), quantised_tensors(model, chosen)
    wanted = list(dict.fromkeys(map(graph.source, tensors)))
    largest = _largest(model, wanted, frames, percentile)
    return {tensor: largest[graph.source(tensor)] for tensor in tensors}


def _largest(model: onnx.ModelProto, wanted: list[str], frames: Iterable[Feeds], percentile: float) -> dict[str, float]:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    outputs = {o.name for o in watched.graph.output}
    inputs = {i.name for i in watched.graph.input}
    watched.graph.output.extend(onnx.ValueInfoProto(name=t) for t in wanted if t not in outputs | inputs)
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [t for t in wanted if t not in inputs]
    largest = dict.fromkeys(wanted, 1e-6)
    for feeds in frames:
        found = dict(zip(names, session.run(names, dict(feeds)), strict=True)) | dict(feeds)
        for tensor in wanted:
            # Every third value is as good for a percentile of hundreds of thousands.
            value = float(np.percentile(np.abs(found[tensor].ravel()[::3]), percentile))
            largest[tensor] = max(largest[tensor], value)
    return largest


def quantise_graph(
    model: onnx.ModelProto, largest: Mapping[str, float], exclude: Iterable[str] = ()
) -> tuple[onnx.ModelProto, int]:
    """Return a copy of a float graph with its convolutions in 8 bit, and how many these are.

    What is computed in float is read in float by all that stays in float; only 8-bit operators read it quantised. The
    weights stay in float in the file, with a Quantize behind them: a runtime, or the vehicle when it merges an
    adapter, quantises what they have become, one scale for each channel.

    Args:
        model: Float graph, static shapes, opset 17.
        largest: Magnitude of each tensor, see `activation_ranges`.
        exclude: Parts of names of convolutions to leave in float.
    """
    chosen = set(convolutions(model, exclude))
    if not chosen:
        return model, 0
    graph, tensors = _Graph(model.graph), quantised_tensors(model, chosen)
    nodes: list[onnx.NodeProto] = []
    values = weight_values(model)
    weights = {w.name: w for w in model.graph.initializer}
    weights |= {n: numpy_helper.from_array(np.zeros((), np.int8), n) for n in ("zero_point", RELU_ZERO_POINT.decode())}
    renamed: dict[str, str] = {}
    eight = {n.output[0]: graph.result(n) for n in model.graph.node if graph.computes_in_8_bit(n, chosen, tensors)}
    made = {*eight.values()}

    def pair(tensor: str) -> None:
        scale = f"{tensor}{SCALE}"
        weights[scale] = numpy_helper.from_array(np.array(largest[tensor] / 127, np.float32), scale)
        zero = RELU_ZERO_POINT.decode() if graph.never_negative(tensor) else "zero_point"
        nodes.append(helper.make_node("QuantizeLinear", [tensor, scale, zero], [f"{tensor}_q"], f"{tensor}_Q"))
        nodes.append(
            helper.make_node("DequantizeLinear", [f"{tensor}_q", scale, zero], [f"{tensor}_dq"], f"{tensor}_DQ")
        )
        renamed[tensor] = f"{tensor}_dq"

    for tensor in (i.name for i in model.graph.input if i.name in tensors):
        pair(tensor)
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        whole = node.output[0] in eight
        node.input[:] = [renamed.get(name, name) if whole or name in made else name for name in node.input]
        if node.name in chosen:
            nodes += _weight_pair(node, values, weights)
        nodes.append(node)
        for tensor in (name for name in node.output if name in tensors):
            pair(tensor)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
    result.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    result.graph.initializer.extend(w for name, w in weights.items() if name in used)
    onnx.checker.check_model(result, full_check=True)
    return result, len(chosen)


def weight_values(model: onnx.ModelProto) -> dict[str, AnyArray]:
    """Return every weight of a graph by name, also those that its first nodes compute."""
    weights = (*folded(model).graph.initializer, *model.graph.initializer)
    return {w.name: numpy_helper.to_array(w) for w in weights}


def _weight_pair(
    node: onnx.NodeProto, values: Mapping[str, AnyArray], weights: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """Return Quantize and Dequantize of a convolution's weight, by output channel."""
    name = node.input[1]
    node.input[1] = f"{name}_dq"
    if f"{name}{SCALE}" in weights:
        return []
    scale = weight_scale(values[name])
    for ending, array in ((SCALE, scale), ("_zero", np.zeros(len(scale), np.int8))):
        weights[f"{name}{ending}"] = numpy_helper.from_array(array, f"{name}{ending}")
    by = [f"{name}{SCALE}", f"{name}_zero"]
    return [
        helper.make_node("QuantizeLinear", [name, *by], [f"{name}_q"], f"{name}_Q", axis=0),
        helper.make_node("DequantizeLinear", [f"{name}_q", *by], [f"{name}_dq"], f"{name}_DQ", axis=0),
    ]
