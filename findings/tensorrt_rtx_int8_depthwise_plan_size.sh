#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TensorRT for RTX 1.7.1.116: the plan of a depthwise convolution between Quantize/Dequantize pairs grows with the picture,
# by three bytes for every number that comes out.
# Expected: a plan holds weights and code, so its size does not depend on height and width, as in float, and as for a dense
# convolution in 8 bit. Seen: six pictures of 480 channels: 0.3 MB in float at any size; in 8 bit 2.5 MB at 16 x 16 and
# 38 MB at 50 x 88. A camera encoder with eleven of them took 50 MB instead of 10.
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
import onnx
import tensorrt_rtx_bindings as trt
from onnx import TensorProto as T, helper as h, numpy_helper as nh

def plan(group, eight, height, width, channels=480):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(channels, channels // group, 5, 5)).astype(np.float32)
    values = {"w": weight, "s": np.float32(0.05), "z": np.int8(0)}
    values |= {"ws": np.full(channels, 0.03, np.float32), "wz": np.zeros(channels, np.int8)}
    nodes = []
    for tensor, scale, zero, axis in (("x", "s", "z", 1), ("w", "ws", "wz", 0)) if eight else ():
        nodes += [h.make_node("QuantizeLinear", [tensor, scale, zero], [tensor + "q"], axis=axis),
                  h.make_node("DequantizeLinear", [tensor + "q", scale, zero], [tensor + "d"], axis=axis)]
    inputs = ["xd", "wd"] if eight else ["x", "w"]
    nodes.append(h.make_node("Conv", inputs, ["c"], group=group, pads=[2, 2, 2, 2]))
    if eight:
        nodes += [h.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"]), h.make_node("DequantizeLinear", ["cq", "s", "z"], ["y"])]
    else:
        nodes.append(h.make_node("Relu", ["c"], ["y"]))
    shape = [6, channels, height, width]
    graph = h.make_graph(nodes, "g", [h.make_tensor_value_info("x", T.FLOAT, shape)], [h.make_tensor_value_info("y", T.FLOAT, shape)],
                         [nh.from_array(np.asarray(v), n) for n, v in values.items() if eight or n == "w"])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model.SerializeToString())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    return builder.build_serialized_network(network, config).nbytes

sizes, found = ((16, 16), (50, 88)), {}
for name, group in (("dense", 1), ("depthwise", 480)):
    for kind, eight in (("float", False), ("8 bit", True)):
        found[name, kind] = [plan(group, eight, *size) for size in sizes]
print(f"TensorRT for RTX {trt.__version__}, bytes of the plan at {sizes}: {found}")
grown = {key: large - small for key, (small, large) in found.items()}
outputs = [6 * 480 * height * width for height, width in sizes]
assert all(abs(n) < 500_000 for key, n in grown.items() if key != ("depthwise", "8 bit")), grown
assert abs(grown["depthwise", "8 bit"] / (outputs[1] - outputs[0]) - 3) < 0.05, grown
PY
