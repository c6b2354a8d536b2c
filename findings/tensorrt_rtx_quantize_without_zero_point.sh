#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TensorRT for RTX 1.7.1.116: QuantizeLinear without a zero point becomes int8, without a word.
# ONNX (opset 13 to 20): a zero point that is left out is 0 of type uint8, so the output is uint8.
# Expected: uint8, or a refusal, as for a uint8 zero point of 128. Seen: the parser takes the graph, warns of nothing,
# and the layer's output type is INT8; values above 127 are cut off at 127 instead of 255.
# Passes while that is so; needs pip, x86-64 Linux and CPython 3.10 to 3.13, no GPU.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --no-deps --target "$folder" tensorrt-rtx-cu12-bindings==1.7.1.116 \
    onnxruntime-ep-nv-tensorrt-rtx-cu12==0.5.0
python3 -m pip install -qq --target "$folder" onnx==1.23.2
PYTHONPATH=$folder python3 - "$folder" <<'PY'
import ctypes, sys
from pathlib import Path
libraries = Path(sys.argv[1]) / "onnxruntime_ep_nv_tensorrt_rtx"
for name in ("libtensorrt_rtx.so.*", "libtensorrt_onnxparser_rtx.so.*"):
    ctypes.CDLL(str(sorted(libraries.glob(name))[-1]), ctypes.RTLD_GLOBAL)
import onnx
import tensorrt_rtx_bindings as trt
from onnx import TensorProto as T, helper as h, numpy_helper as nh
import numpy as np

class Log(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self); self.lines = []
    def log(self, severity, text):
        if severity in (trt.ILogger.Severity.WARNING, trt.ILogger.Severity.ERROR): self.lines.append(text)

nodes = [h.make_node("QuantizeLinear", ["x", "s"], ["q"]), h.make_node("DequantizeLinear", ["q", "s"], ["y"])]
graph = h.make_graph(nodes, "g", [h.make_tensor_value_info("x", T.FLOAT, [4])],
                     [h.make_tensor_value_info("y", T.FLOAT, [4])], [nh.from_array(np.float32(0.1), "s")])
model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
kind = next(T.DataType.Name(v.type.tensor_type.elem_type) for v in inferred if v.name == "q")
log = Log()
builder = trt.Builder(log)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, log)
taken = parser.parse(model.SerializeToString())
types = [network.get_layer(i).get_output_type(0) for i in range(network.num_layers)]
quantised = [t for t in types if t in (trt.int8, trt.uint8)]
print(f"TensorRT for RTX {trt.__version__}: ONNX says {kind}; parsed: {taken}; types {quantised}; messages {log.lines}")
assert kind == "UINT8" and taken and quantised == [trt.int8] and not log.lines, "the behaviour has changed"
PY
