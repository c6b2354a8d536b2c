#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# OpenVINO 2026.4.1, CPU: attributes of Resize that ONNX has since opset 18 (antialias, keep_aspect_ratio_policy) and 11
#   (exclude_outside).
#
# Guess before the run: what the importer cannot do it refuses, as it refuses coordinate_transformation_mode
#   half_pixel_symmetric ("unconverted ops").
# Seen: the three are left out without a word: the picture is shrunk without its low-pass filter, the cubic kernel is not renormalised at
#   the border, and 4 x 6 asked to fit into 8 x 8 becomes 8 x 8, stretched, not 5 x 8. ONNX Runtime 1.32.0 and ONNX's own
#   reference agree with each other on all three.
# Matters here: pictures are shrunk outside the network and its graphs are exported without these; own graphs that resize
#   pictures see other pixels with this engine.
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
from onnx.reference import ReferenceEvaluator

core = ov.Core()
ort.set_default_logger_severity(3)
x = (np.arange(24, dtype=np.float32) ** 1.5).reshape(1, 1, 4, 6)
scales, sizes = np.array([1, 1, 0.5, 0.5], np.float32), np.array([8, 8])


def model(inputs, **attributes):
    graph = helper.make_graph([helper.make_node("Resize", inputs, ["y"], **attributes)], "g",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
                              [numpy_helper.from_array(scales, "scales"), numpy_helper.from_array(sizes, "sizes")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def openvino(made):
    compiled = core.compile_model(core.read_model(made.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(list(compiled({"x": x}).values())[0])


def same(a, b):
    return a.shape == b.shape and np.allclose(a, b, atol=1e-3)


by_scale, by_size = ["x", "", "scales"], ["x", "", "", "sizes"]
for inputs, plain, more in (
    (by_scale, {"mode": "linear"}, {"antialias": 1}),
    (by_scale, {"mode": "cubic"}, {"exclude_outside": 1}),
    (by_size, {"mode": "linear", "axes": [2, 3]}, {"keep_aspect_ratio_policy": "not_larger"}),
):
    made = model(inputs, **plain, **more)
    seen, without = openvino(made), openvino(model(inputs, **plain))
    runtime = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    reference = ReferenceEvaluator(made).run(None, {"x": x})[0]
    print(f"{more}: OpenVINO {seen.shape[2:]} {seen.ravel()[:3].round(2)}, ONNX Runtime {runtime.shape[2:]} {runtime.ravel()[:3].round(2)}")
    assert same(runtime, reference) and same(seen, without) and not same(seen, runtime), "the behaviour has changed"
try:
    core.read_model(model(by_scale, mode="linear", coordinate_transformation_mode="half_pixel_symmetric").SerializeToString())
except RuntimeError as error:
    print("half_pixel_symmetric is refused:", "unconverted" in str(error))
else:
    raise SystemExit("changed: half_pixel_symmetric is taken")
PYTHON
