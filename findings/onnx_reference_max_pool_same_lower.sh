#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# onnx 1.23.2, its ReferenceEvaluator: MaxPool with auto_pad="SAME_LOWER" ("output_shape[i] = ceil(input_shape[i] / strides[i])", the extra
#   padding "at the beginning"), and Pad with negative pads ("pads" may remove elements since opset 2).
#
# Guess before the run: the reference does what the text of its operators says, as ONNX Runtime 1.32.0 does.
# Seen: MaxPool of 5 x 5 with stride 2 gives 2 x 2 instead of 3 x 3; of 6 x 6 with kernel 3 it gives SAME_UPPER's numbers in the right shape.
#   AveragePool and LpPool are right with SAME_LOWER, MaxPool with SAME_UPPER. Pad raises ValueError: "index can't contain negative values".
# Matters here: an engine that is compared with the reference, as ONNX's text suggests, looks wrong and is right. Engines are compared
#   here with torch and with each other.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --disable-pip-version-check --target "$folder" onnx==1.23.2 onnxruntime==1.32.0 numpy==1.26.4
PYTHONPATH=$folder python3 - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def both(kind, *inputs, **attributes):
    names = [f"input{i}" for i in range(len(inputs))]
    given = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in zip(names, inputs)]
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node(kind, names, ["output"], **attributes)], "graph", given, [output])
    model, feeds = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), dict(zip(names, inputs))
    runtime = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]
    try:
        return runtime, ReferenceEvaluator(model).run(None, feeds)[0]
    except ValueError as error:
        return runtime, str(error)


def square(size):
    return np.arange(size * size, dtype=np.float32).reshape(1, 1, size, size)


shapes, agree = {}, {}
for kind in ("MaxPool", "AveragePool", "LpPool"):
    for pad in ("SAME_LOWER", "SAME_UPPER"):
        five = both(kind, square(5), kernel_shape=[2, 2], strides=[2, 2], auto_pad=pad)
        six = both(kind, square(6), kernel_shape=[3, 3], strides=[2, 2], auto_pad=pad)
        shapes[kind, pad] = five[1].shape[2:]
        agree[kind, pad] = five[0].shape == five[1].shape and bool(np.allclose(six[0], six[1]))
        assert five[0].shape[2:] == six[0].shape[2:] == six[1].shape[2:] == (3, 3)
runtime, reference = both("Pad", np.arange(4, dtype=np.float32), np.array([-1, 1]))
print(shapes, agree, runtime, reference, sep="\n")
assert runtime.tolist() == [1, 2, 3, 0] and all(same for case, same in agree.items() if case != ("MaxPool", "SAME_LOWER"))
assert shapes["MaxPool", "SAME_LOWER"] == (2, 2) and not agree["MaxPool", "SAME_LOWER"], "the behaviour has changed"
assert "negative" in str(reference), "the behaviour has changed"
PYTHON
