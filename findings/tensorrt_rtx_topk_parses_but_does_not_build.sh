#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TensorRT for RTX 1.7.1.116: TopK with K = 3841 is parsed without an error or a warning, and only the build returns nothing.
# Expected: the parser, which knows K, refuses it as it refuses dilated pooling, so that parsing is a sufficient check.
# Seen: parse() is True for 3840 and 3841; build_serialized_network() gives a plan for 3840 and None for 3841.
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
import numpy as np
import tensorrt_rtx_bindings as trt
from onnx import TensorProto as T, helper as h, numpy_helper as nh

log = trt.Logger(trt.Logger.Severity.INTERNAL_ERROR)

def tried(k):
    outputs = [h.make_tensor_value_info("v", T.FLOAT, [1, k]), h.make_tensor_value_info("i", T.INT64, [1, k])]
    graph = h.make_graph([h.make_node("TopK", ["x", "k"], ["v", "i"])], "g",
                         [h.make_tensor_value_info("x", T.FLOAT, [1, 9000])], outputs,
                         [nh.from_array(np.array([k], np.int64), "k")])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    parsed = parser.parse(model.SerializeToString())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    return parsed, parser.num_errors, builder.build_serialized_network(network, config) is not None

found = {k: tried(k) for k in (3840, 3841)}
print(f"TensorRT for RTX {trt.__version__}: K: (parsed, parser's errors, built) = {found}")
assert found == {3840: (True, 0, True), 3841: (True, 0, False)}, "the behaviour has changed"
PY
