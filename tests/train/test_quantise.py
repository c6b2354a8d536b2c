# SPDX-License-Identifier: Apache-2.0
"""What of a graph is taken to 8 bit, and which of its operators read rounded values."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from peft_dml_train.export.quantise import activation_ranges, convolutions, quantise_graph


def test_what_is_computed_in_float_is_read_in_float_but_by_8_bit():
    """`enter` and `side` stay in float: what is between them must not be rounded for `taken`, which reads it too."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], "enter"),
        helper.make_node("Relu", ["c0"], ["r0"], "relu"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], "taken"),
        helper.make_node("Conv", ["r0", "w2"], ["c2"], "side"),
        helper.make_node("Conv", ["c1", "w3"], ["c3"], "after"),
        helper.make_node("Add", ["c2", "c3"], ["sum"], "sum"),
        helper.make_node("Conv", ["sum", "w4"], ["out"], "last"),
    ]
    rng = np.random.default_rng(2)
    weights = [numpy_helper.from_array(rng.normal(size=(3, 3, 1, 1)).astype(np.float32), f"w{i}") for i in range(5)]
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 32, 32]) for name in ("x", "out")]
    graph = helper.make_graph(nodes, "g", shapes[:1], shapes[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    frames = [{"x": rng.normal(size=(1, 3, 32, 32)).astype(np.float32)}]
    exclude = ("enter", "side", "after")
    ranges = activation_ranges(model, frames, exclude)
    quantised, count = quantise_graph(model, ranges, exclude)
    assert count == 1
    read = {n.name: n.input[0] for n in quantised.graph.node if n.op_type == "Conv"}
    assert read == {"enter": "x", "taken": "r0_dq", "side": "r0", "after": "c1_dq", "last": "sum"}
    wide = activation_ranges(model, frames, exclude, percentile=100)
    assert all(wide[tensor] > ranges[tensor] for tensor in ("r0", "c1"))


def test_a_convolution_whose_weight_the_graph_computes_stays_in_float():
    """A norm of the weight is nothing that the vehicle folds; a cast is."""
    nodes = [
        helper.make_node("Cast", ["half"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "wide"], ["y"], "cast"),
        helper.make_node("ReduceL2", ["free"], ["norm"], axes=[1, 2, 3]),
        helper.make_node("Div", ["free", "norm"], ["unit"]),
        helper.make_node("Conv", ["y", "unit"], ["z"], "normed"),
        helper.make_node("Conv", ["z", "free"], ["out"], "last"),
    ]
    values = {"half": np.ones((3, 3, 1, 1), np.float16), "free": np.ones((3, 3, 1, 1), np.float32)}
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("x", "out")]
    weights = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "g", shapes[:1], shapes[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert convolutions(model) == ["cast"]
    frames = [{"x": np.ones((1, 3, 4, 4), np.float32)}]
    quantised, count = quantise_graph(model, activation_ranges(model, frames))
    assert count == 1
    assert {n.input[1] for n in quantised.graph.node if n.op_type == "Conv"} == {"wide_dq", "unit", "free"}
