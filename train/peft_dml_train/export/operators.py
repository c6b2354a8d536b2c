# SPDX-License-Identifier: Apache-2.0
"""Which operators a graph may hold, so that TensorRT runs it without plug-ins, and rewrites that bring it there."""

from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from peft_dml_ros.core.errors import BundleError
from peft_dml_train.export.operator_rules import refusal
from peft_dml_train.export.types import type_problems

SHAPING: Final = frozenset({"Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Identity"})


def operator_problems(model: onnx.ModelProto) -> list[str]:
    """Return all in a graph that TensorRT would refuse, or get wrong silently; empty when it may go out."""
    weights = {w.name: w for w in model.graph.initializer}
    values = (*model.graph.input, *model.graph.output)
    moving = [v.name for v in values if any(d.dim_value <= 0 for d in v.type.tensor_type.shape.dim)]
    problems = [f"input or output '{name}' has no static shape" for name in moving]
    problems += [f"opset of domain '{o.domain}'" for o in model.opset_import if o.domain not in {"", "ai.onnx"}]
    inferred = onnx.shape_inference.infer_shapes(model).graph
    known = (*inferred.value_info, *inferred.input, *inferred.output)
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in known}
    types = {v.name: v.type.tensor_type.elem_type for v in known} | {n: w.data_type for n, w in weights.items()}
    for node in model.graph.node:
        first = next(iter(node.input), "")
        kind = types.get(first, TensorProto.UNDEFINED)
        if reason := refusal(node, kind, weights, ranks.get(first, 0)):
            problems.append(f"{node.op_type} '{node.name}' {reason}")
    for value in model.graph.input:
        readers = [n for n in model.graph.node if value.name in n.input]
        is_uint8 = value.type.tensor_type.elem_type == TensorProto.UINT8
        if is_uint8 and any(n.op_type != "Cast" for n in readers):
            problems.append(
                f"uint8 input '{value.name}' must be cast before anything else; TensorRT has it as input only"
            )
    return problems or type_problems(model)


def require_operators(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return the model, if TensorRT would run it. Raises BundleError: it would not; every reason is named."""
    if problems := operator_problems(model):
        raise BundleError(f"graph '{name}' would not run in TensorRT: {'; '.join(problems)}; fix: replace these")
    return model


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Bring an exported graph to a form that TensorRT takes and every runtime runs faster; results stay the same.

    Casts of uint8 inputs move to the front, and a softmax over an inner axis, which ONNX Runtime would transpose twice
    for, becomes the arithmetic that it stands for.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _cast_inputs_first(result.graph)
    _spell_out_softmax(result.graph)
    onnx.checker.check_model(result, full_check=True)
    return result


def _cast_inputs_first(graph: onnx.GraphProto) -> None:
    for value in graph.input:
        if value.type.tensor_type.elem_type != TensorProto.UINT8:
            continue
        chain, tensor = [], value.name
        while len(readers := [n for n in graph.node if tensor in n.input]) == 1 and readers[0].op_type in SHAPING:
            chain.append(readers[0])
            tensor = readers[0].output[0]
        if not chain or len(readers) != 1 or readers[0].op_type != "Cast":
            continue
        cast = readers[0]
        end = cast.output[0]
        at = list(graph.node).index(chain[0])
        graph.node.remove(cast)
        chain[-1].output[0] = end
        cast.input[0], cast.output[0] = value.name, f"{value.name}_cast"
        chain[0].input[0] = cast.output[0]
        graph.node.insert(at, cast)
        del graph.value_info[:]


def _spell_out_softmax(graph: onnx.GraphProto) -> None:
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in graph.value_info}
    for node in [n for n in graph.node if n.op_type == "Softmax"]:
        axis, rank = _attribute(node, "axis", -1), ranks.get(node.output[0], ranks.get(node.input[0], 0))
        if not rank or axis in {-1, rank - 1}:
            continue
        at = list(graph.node).index(node)
        x, y, stem = node.input[0], node.output[0], node.output[0]
        axes = f"{stem}_axes"
        graph.initializer.append(numpy_helper.from_array(np.array([axis], np.int64), axes))
        graph.node.remove(node)
        steps = (
            helper.make_node("ReduceMax", [x], [f"{stem}_max"], f"{node.name}_max", axes=[axis], keepdims=1),
            helper.make_node("Sub", [x, f"{stem}_max"], [f"{stem}_below"], f"{node.name}_below"),
            helper.make_node("Exp", [f"{stem}_below"], [f"{stem}_exp"], f"{node.name}_exp"),
            helper.make_node("ReduceSum", [f"{stem}_exp", axes], [f"{stem}_sum"], f"{node.name}_sum", keepdims=1),
            helper.make_node("Div", [f"{stem}_exp", f"{stem}_sum"], [y], f"{node.name}_share"),
        )
        for offset, step in enumerate(steps):
            graph.node.insert(at + offset, step)


def _attribute(node: onnx.NodeProto, name: str, default: object) -> object:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
