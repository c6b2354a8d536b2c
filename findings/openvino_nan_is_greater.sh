#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# OpenVINO 2026.4.1, CPU, f32: comparisons with NaN.
#
# Guess before the run: all of Greater, GreaterOrEqual, Less, LessOrEqual are false for NaN, as in IEEE 754, numpy and ONNX Runtime 1.32.0.
# Seen: Greater and GreaterOrEqual are true, NaN on either side, constant or input; Less, LessOrEqual and Equal are false. So NaN is
#   greater and smaller than .5 at once, and Where(score > .5, score, 0) lets it through; ONNX Runtime and ONNX's reference give 0.
# Matters here: a threshold inside a network, written as score > t, keeps broken candidates with this engine; t < score drops nothing
#   but them. The node compares scores outside the network, in numpy.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 "numpy<2.5"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
import openvino as ov
from onnx import TensorProto as T, helper as h, numpy_helper as nh

x = np.float32([np.nan, 1, 0])
core, options = ov.Core(), ort.SessionOptions()
options.log_severity_level = 3


def both(nodes, kind=T.BOOL):
    graph = h.make_graph(nodes, "g", [h.make_tensor_value_info("x", T.FLOAT, [3])], [h.make_tensor_value_info("y", kind, [3])],
                         [nh.from_array(np.float32([0.5]), "t"), nh.from_array(np.float32([0]), "zero")])
    content = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8).SerializeToString()
    compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return [float(np.ravel(y)[0]) for y in (compiled([x])[0], session.run(None, {"x": x})[0])]


seen = {f"{a} {kind} {b}": both([h.make_node(kind, [a, b], ["y"])])
        for kind in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual") for a, b in (("x", "t"), ("t", "x"))}
gate = both([h.make_node("Greater", ["x", "t"], ["m"]), h.make_node("Where", ["m", "x", "zero"], ["y"])], T.FLOAT)
print("x = NaN, t = .5, [OpenVINO, ONNX Runtime]:", seen, "gate:", gate)
assert all(pair == [float("Greater" in kind), 0] for kind, pair in seen.items()), "the behaviour has changed"
assert np.isnan(gate[0]) and gate[1] == 0, "the behaviour has changed"
PYTHON
