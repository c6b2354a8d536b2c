#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ONNX Runtime 1.32.0, CPU, x86-64, float32: ReduceMax and MaxPool over numbers of which one is NaN.
#
# Guess before the run: NaN, wherever it stands, as in numpy and PyTorch; or else the greatest of the others.
# Seen: ReduceMax over 0 to 7 gives NaN if it comes first; 7 if it stands third; and 6, which is neither, if it is second or
#   fourth: 7 is lost with it. MaxPool over the eight gives 7 unless NaN comes last. ONNX's reference of ReduceMax gives NaN each time.
# Matters here: outputs that are finite do not show that the features were; and one broken channel can lower the strength of
#   a place whose other channels are right. Sensors' NaN are dropped before the network.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 "numpy<2.5"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto as T, helper as h, numpy_helper as nh
from onnx.reference import ReferenceEvaluator


def model(node, shape):
    graph = h.make_graph([node], "g", [h.make_tensor_value_info("x", T.FLOAT, shape)], [h.make_tensor_value_info("y", T.FLOAT, None)],
                         [nh.from_array(np.array([1]), "axes")] if node.op_type == "ReduceMax" else [])
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=8).SerializeToString()


def with_nan(place, *shape):
    x = np.arange(8, dtype=np.float32)
    x[place] = np.nan
    return {"x": x.reshape(shape)}


reduce = model(h.make_node("ReduceMax", ["x", "axes"], ["y"]), [1, 8])
pool = model(h.make_node("MaxPool", ["x"], ["y"], kernel_shape=[8]), [1, 1, 8])
session, pooling = (ort.InferenceSession(content, providers=["CPUExecutionProvider"]) for content in (reduce, pool))
reference = ReferenceEvaluator(reduce)
seen = [float(session.run(None, with_nan(i, 1, 8))[0].item()) for i in range(8)]
pooled = [float(pooling.run(None, with_nan(i, 1, 1, 8))[0].item()) for i in range(8)]
print("ReduceMax by place of the NaN:", seen, "MaxPool:", pooled)
assert all(np.isnan(reference.run(None, with_nan(i, 1, 8))[0]).all() for i in range(8))
rest = [7] * 7 + [6]
assert np.isnan(seen[0]) and pooled[0] == 7, "the behaviour has changed"
assert any(value < most for value, most in zip(seen, rest)), "the behaviour has changed"
PYTHON
