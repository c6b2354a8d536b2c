#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# OpenVINO 2026.4.1, CPU, f32: NaN in a network.
#
# Guess before the run: NaN runs through to the output, as in ONNX Runtime 1.32.0 and in PyTorch: whoever checks outputs
#   for NaN notices overflow and broken weights.
# Seen: Relu, Max(x, 0) and Clip make 0 of it; Add, Conv and LeakyRelu keep it. A network of Conv and Relu whose first bias is NaN gives
#   finite numbers, the same as if that channel were not there; in ONNX Runtime all of its output is NaN.
# Matters here: the node counts `candidate not finite`; with this engine that sees only what is behind the last Relu, so that
#   a network that overflows should be looked for with `engine: onnxruntime`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m pip install -qq --target "$folder" openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 "numpy<2.5"
PYTHONPATH=$folder python3 - <<'PYTHON'
import numpy as np
import onnxruntime as ort
import openvino as ov
from onnx import TensorProto, helper, numpy_helper

core, nan = ov.Core(), np.nan
ort.set_default_logger_severity(3)
weights = np.ones((2, 1, 1, 1), np.float32)
constants = {"zero": np.float32(0), "one": np.float32(1), "w": weights, "v": weights.reshape(1, 2, 1, 1),
             "bias": np.array([nan, 0.25], np.float32)}


def run(x, *nodes):
    nodes = [helper.make_node(op, inputs, outputs, **more) for op, inputs, outputs, more in nodes]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
                              [numpy_helper.from_array(np.asarray(c), name) for name, c in constants.items()])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    other = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [values.ravel()[:4].tolist() for values in (np.array(list(compiled({"x": x}).values())[0]), other)]


x = np.tile(np.array([nan, -1, 0.5, 2], np.float32), 8).reshape(1, 1, 4, 8)
y = ["y"]
seen = {
    "Relu": run(x, ("Relu", ["x"], y, {})),
    "Max(x, 0)": run(x, ("Max", ["x", "zero"], y, {})),
    "Clip": run(x, ("Clip", ["x", "zero", "one"], y, {})),
    "Add": run(x, ("Add", ["x", "one"], y, {})),
    "LeakyRelu": run(x, ("LeakyRelu", ["x"], y, {})),
    "Conv": run(x, ("Conv", ["x", "w"], y, {})),
    "Conv Relu Conv": run(np.nan_to_num(x), ("Conv", ["x", "w", "bias"], ["c"], {}), ("Relu", ["c"], ["r"], {}),
                          ("Conv", ["r", "v"], y, {})),
}
for name, (here, there) in seen.items():
    print(f"{name}: OpenVINO {here}, ONNX Runtime {there}")
swallowed = {name for name, (here, there) in seen.items() if np.isnan(there).any() and not np.isnan(here).any()}
assert seen["Relu"][0] == [0, 0, 0.5, 2], "the behaviour has changed"
assert swallowed == {"Relu", "Max(x, 0)", "Clip", "Conv Relu Conv"}, "the behaviour has changed"
PYTHON
