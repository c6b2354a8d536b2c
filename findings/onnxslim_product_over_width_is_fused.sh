#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# onnxslim 0.1.98: a convolution whose result is multiplied by a constant.
#
# Guess before the run: it goes into the weights only where the constant runs over the channels, (C, 1, 1) or (1, C, 1, 1); one over
#   columns, rows or the batch stays a Mul, as such an Add does.
# Seen: any constant with one axis of C values is taken for channels: (2,) and (2, 1) give other numbers, (2, 1, 1, 1) one picture
#   instead of two, without a warning. ONNX's reference and ONNX Runtime 1.32.0, which has such a fusion too, agree with each other.
# Matters here: the exporter slims graphs whose parameters are inputs still, so that nothing is fused. A mask over a map with as
#   many columns as channels, slimmed as a constant, would become a scale of the channels.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check onnxslim==0.1.98 onnx==1.23.2 onnxruntime==1.32.0
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
import onnxslim
from onnx import TensorProto as T, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

x, w, scale = np.arange(4, dtype="f").reshape(1, 1, 2, 2), np.ones((2, 1, 1, 1), "f"), np.array([2, 3], "f")


def slimmed(shape, operator):
    """Return how many operators are left, and whether the values are the same."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node(operator, ["c", "k"], ["y"])]
    ends = [helper.make_tensor_value_info("x", T.FLOAT, x.shape)], [helper.make_tensor_value_info("y", T.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", *ends, [numpy_helper.from_array(w, "w"), numpy_helper.from_array(scale.reshape(shape), "k")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    slim, true = onnxslim.slim(model), ReferenceEvaluator(model).run(None, {"x": x})[0]
    before, after = (ort.InferenceSession(m.SerializeToString()).run(None, {"x": x})[0] for m in (model, slim))
    print(operator, shape, true.shape, true.ravel(), "slimmed:", after.shape, after.ravel())
    assert np.array_equal(true, before)
    return len(slim.graph.node), np.array_equal(true, after)


assert slimmed((2, 1, 1), "Mul") == (1, True) and slimmed((2,), "Add") == (2, True), "the behaviour has changed"
assert all(slimmed(s, "Mul") == (1, False) for s in ((2,), (2, 1), (2, 1, 1, 1))), "the behaviour has changed"
PYTHON
