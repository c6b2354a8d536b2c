#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# OpenVINO 2026.4.1, CPU: after compile_model, get_any_name() of an input is not the ONNX input's name where only its
# shape changes behind it. Expected: "points", the one name that the model gives its input. Seen: the name of a tensor
# behind it, "/inner/Squeeze_output_0", which sorts before it; get_names() holds both, and the name before
# compiling is "points". The node's friendly name stays right: that is what this project reads.
# Passes while that is so; needs pip and x86-64.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --target "$folder" openvino==2026.4.1 onnx==1.23.2 "numpy<2.5"
PYTHONPATH=$folder python3 - <<'PY'
import numpy as np, openvino as ov
from onnx import TensorProto as T, helper as h, numpy_helper as nh

nodes = [h.make_node("Unsqueeze", ["points", "axes"], ["/inner/Unsqueeze_output_0"]),
         h.make_node("Squeeze", ["/inner/Unsqueeze_output_0", "axes"], ["/inner/Squeeze_output_0"]),
         h.make_node("Relu", ["/inner/Squeeze_output_0"], ["y"])]
graph = h.make_graph(nodes, "g", [h.make_tensor_value_info("points", T.FLOAT, [4])],
                     [h.make_tensor_value_info("y", T.FLOAT, [4])], [nh.from_array(np.array([0], np.int64), "axes")])
content = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8).SerializeToString()
core = ov.Core()
model = core.read_model(content)
before = model.inputs[0].get_any_name()
port = core.compile_model(model, "CPU").inputs[0]
after, names, friendly = port.get_any_name(), sorted(port.get_names()), port.get_node().get_friendly_name()
print(f"OpenVINO {ov.__version__}: any name before {before}, after {after}; names {names}; friendly name {friendly}")
assert before == "points" == friendly and after != "points" and "points" in names, "the behaviour has changed"
PY
