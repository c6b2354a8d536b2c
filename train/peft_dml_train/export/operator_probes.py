# SPDX-License-Identifier: Apache-2.0
"""Small graphs of one operator each, in every type that ONNX allows, to ask TensorRT for RTX what it takes.

`python -m peft_dml_train.export.operator_probes` builds all of them and writes `operator_table.json`, the table of the
export check and of docs/engines.md. No GPU is needed; the extra `tensorrt-rtx` is.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.typing import AnyArray
from peft_dml_ros.engines.tensorrt_build import parse_graph
from peft_dml_ros.engines.tensorrt_library import TensorRtLibrary, load_tensorrt
from peft_dml_tools.atomic_files import write_json
from peft_dml_train.export.operator_rules import BUILDS, LARGEST_TOPK, TABLE

CAPABILITY: Final = "SM89"
TYPES: Final = ("float", "float16", "int32", "int64", "bool", "uint8", "int8")
REFUSED, NOT_BUILT = "refused", "parses, does not build"
OPSETS: Final = (17, 20, 23)  #: Opset of the exporter, and later ones for the operators that came with them
Weights: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Probe:
    """One operator with attributes."""

    operator: str  #: ONNX name
    inputs: tuple[tuple[int, ...], ...] = ((1, 4, 6, 6),)  #: Shape of each input that has the probed type
    #: Further inputs by name, in order: arrays are constants of their own type; a shape (tuple) is a constant of the
    #: probed type
    weights: Weights = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)  #: Of the node
    case: str = ""  #: What is particular about it; empty for the plain operator
    outputs: int = 1  #: How many outputs
    types: tuple[str, ...] = TYPES  #: Probed types

    @property
    def name(self) -> str:
        """Operator and case."""
        return f"{self.operator} ({self.case})" if self.case else self.operator


MAP: Final = (1, 4, 6, 6)
_UNARY: Final = """
    Abs Acos Asin Atan Ceil Cos Cosh Elu Erf Exp Flatten Floor Gelu GlobalAveragePool GlobalMaxPool HardSigmoid
    HardSwish Identity IsInf IsNaN LeakyRelu Log LogSoftmax Mish Neg NonZero Not Reciprocal Relu Round Selu
    Shape Sigmoid Sign Sin Size Softmax Softplus Softsign Sqrt Tan Tanh Transpose Trilu
""".split()  # noqa: SIM905 (a table to read)
_BINARY: Final = """
    Add And BitShift BitwiseAnd Div Equal Greater GreaterOrEqual Less LessOrEqual MatMul Max Mean Min Mod Mul Or
    PRelu Pow Sub Sum Xor
""".split()  # noqa: SIM905 (a table to read)
_REDUCING: Final = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare
    ArgMax ArgMin
""".split()  # noqa: SIM905 (a table to read)


def _i64(*values: int) -> AnyArray:
    return np.array(values, np.int64)


def _convolutions() -> Iterator[Probe]:
    kernel = {"w": (4, 4, 3, 3)}
    yield Probe("Conv", weights=kernel)
    yield Probe("Conv", weights=kernel, attributes={"dilations": [2, 2]}, case="dilated")
    yield Probe("Conv", weights={"w": (4, 1, 3, 3)}, attributes={"group": 4}, case="depth-wise")
    yield Probe("Conv", weights=kernel, attributes={"auto_pad": "SAME_UPPER"}, case="auto_pad")
    yield Probe("ConvTranspose", weights=kernel, attributes={"strides": [2, 2]})
    for kind in ("MaxPool", "AveragePool"):
        yield Probe(kind, attributes={"kernel_shape": [2, 2]})
        yield Probe(kind, attributes={"kernel_shape": [2, 2], "ceil_mode": 1}, case="ceil_mode")
        yield Probe(kind, attributes={"kernel_shape": [2, 2], "dilations": [2, 2]}, case="dilated")
    yield Probe("MaxPool", attributes={"kernel_shape": [2, 2]}, outputs=2, case="with indices")
    four = dict.fromkeys(("scale", "bias", "mean", "var"), (4,))
    yield Probe("BatchNormalization", weights=four)
    yield Probe("InstanceNormalization", weights={"scale": (4,), "bias": (4,)})
    yield Probe("GroupNormalization", weights={"scale": (4,), "bias": (4,)}, attributes={"num_groups": 2})
    yield Probe("LayerNormalization", weights={"scale": (6,), "bias": (6,)})
    yield Probe("LayerNormalization", weights={"scale": (6,), "bias": (6,)}, outputs=3, case="three outputs")
    yield Probe("RMSNormalization", weights={"scale": (6,)})
    yield Probe("LpNormalization")


def _shaping() -> Iterator[Probe]:
    yield Probe("Reshape", weights={"shape": _i64(4, 36)})
    yield Probe("Expand", weights={"shape": _i64(2, 4, 6, 6)})
    yield Probe("Tile", weights={"repeats": _i64(1, 1, 2, 1)})
    yield Probe("Squeeze", weights={"axes": _i64(0)})
    yield Probe("Unsqueeze", weights={"axes": _i64(0)})
    yield Probe("Slice", weights={"starts": _i64(1), "ends": _i64(5), "axes": _i64(2)})
    yield Probe("Slice", weights={"s": _i64(-1), "e": _i64(-9), "a": _i64(2), "steps": _i64(-1)}, case="backwards")
    yield Probe("Split", weights={"split": _i64(1, 3)}, attributes={"axis": 1}, outputs=2)
    yield Probe("Concat", (MAP, MAP), attributes={"axis": 1})
    for mode in ("constant", "edge", "reflect"):
        pads, case = {"pads": _i64(0, 0, 1, 1, 0, 0, 1, 1)}, "" if mode == "constant" else mode
        yield Probe("Pad", weights=pads, attributes={"mode": mode}, case=case)
    yield Probe("DepthToSpace", attributes={"blocksize": 2})
    yield Probe("SpaceToDepth", attributes={"blocksize": 2})
    scales = np.array([1, 1, 2, 2], np.float32)
    for mode in ("nearest", "linear", "cubic"):
        resize, case = {"roi": np.zeros(0, np.float32), "scales": scales}, "" if mode == "nearest" else mode
        yield Probe("Resize", weights=resize, attributes={"mode": mode}, case=case)
    small = {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 0.5, 0.5], np.float32)}
    yield Probe("Resize", weights=small, attributes={"mode": "linear", "antialias": 1}, case="antialias")
    sizes = {"roi": np.zeros(0, np.float32), "none": np.zeros(0, np.float32), "sizes": _i64(1, 4, 9, 9)}
    yield Probe("Resize", weights=sizes, attributes={"mode": "linear"}, case="to sizes")


def _choosing() -> Iterator[Probe]:
    yield Probe("Where", weights={"y": (1,)})
    yield Probe("Gather", weights={"i": _i64(0, 0)}, attributes={"axis": 3})
    yield Probe("GatherElements", weights={"i": np.zeros(MAP, np.int64)}, attributes={"axis": 3})
    yield Probe("GatherND", weights={"i": np.zeros((5, 2), np.int64)})
    for reduction in ("none", "add", "max"):
        case, more = ("", {}) if reduction == "none" else (f"reduction {reduction}", {"reduction": reduction})
        yield Probe("ScatterND", weights={"i": np.zeros((1, 4), np.int64), "u": (1,)}, attributes=more, case=case)
        scatter = {"i": np.zeros((1, 1, 1, 1), np.int64), "u": (1, 1, 1, 1)}
        yield Probe("ScatterElements", weights=scatter, attributes=more, case=case)
    for count, case in ((LARGEST_TOPK, ""), (LARGEST_TOPK + 1, f"K above {LARGEST_TOPK}")):
        yield Probe("TopK", ((1, 9000),), {"k": _i64(count)}, outputs=2, case=case)
    yield Probe("OneHot", ((4,),), {"depth": _i64(5), "values": np.array([0, 1], np.float32)})
    yield Probe("CumSum", weights={"axis": np.array(3, np.int64)})
    yield Probe("Clip", weights={"low": (), "high": ()})
    yield Probe("NonMaxSuppression", ((1, 8, 4), (1, 2, 8)), {"most": _i64(4)}, types=("float",))
    grid = np.zeros((1, 3, 3, 2), np.float32)
    for mode in ("bilinear", "nearest", "bicubic"):
        case = "" if mode == "bilinear" else mode
        yield Probe("GridSample", weights={"g": grid}, attributes={"mode": mode}, case=case, types=("float",))
    deep = np.zeros((1, 3, 3, 3, 3), np.float32)
    yield Probe("GridSample", ((1, 4, 6, 6, 6),), {"g": deep}, {"mode": "linear"}, "5 dimensions", types=("float",))


def _casting() -> Iterator[Probe]:
    for kind in (*TYPES, "bfloat16", "double"):
        yield Probe("Cast", attributes={"to": _number(kind)}, case=f"to {kind}")
    scale = np.array(0.1, np.float32)
    for case, zero in (
        ("int8, zero point 0", np.int8(0)),
        ("int8, zero point 3", np.int8(3)),
        ("uint8, zero point 0", np.uint8(0)),
        ("uint8, zero point 128", np.uint8(128)),
        ("int16, zero point 0", np.int16(0)),
    ):
        yield Probe("QuantizeLinear", weights={"s": scale, "z": np.array(zero)}, case=case, types=("float",))
    yield Probe("QuantizeLinear", weights={"s": scale}, case="no zero point", types=("float",))
    yield Probe("DequantizeLinear", weights={"s": scale}, case="no zero point", types=("int8", "uint8", "int32"))
    per_channel = {"s": np.full(4, 0.1, np.float32), "z": np.zeros(4, np.int8)}
    yield Probe("DequantizeLinear", weights=per_channel, attributes={"axis": 1}, case="per channel", types=("int8",))
    yield Probe("Constant", (), attributes={"value_floats": [1.0, 2.0]}, types=("float",))
    yield Probe("ConstantOfShape", (), {"shape": _i64(2, 3)}, types=("float",))
    yield Probe("Range", (), {"a": np.float32(0), "b": np.float32(9), "c": np.float32(1)}, types=("float",))
    yield Probe("Gemm", ((4, 6),), {"b": (6, 5)})
    yield Probe("Einsum", ((4, 6), (6, 5)), attributes={"equation": "ij,jk->ik"})


def probes() -> Iterator[Probe]:
    """Yield all probes."""
    for operator in _UNARY:
        yield Probe(operator, ((6, 6),) if operator == "Trilu" else (MAP,))
    for operator in _BINARY:
        shift = {"direction": "LEFT"} if operator == "BitShift" else {}
        yield Probe(operator, (MAP, MAP), attributes=shift)
    for operator in _REDUCING:
        axis: dict[str, Any] = {"axis": 1} if operator.startswith("Arg") else {"axes": [1]}
        yield Probe(operator, attributes=axis)
    yield Probe("ReduceSum", weights={"axes": _i64(1)})
    for group in (_convolutions(), _shaping(), _choosing(), _casting()):
        yield from group


def probe_model(probe: Probe, kind: str) -> onnx.ModelProto | None:
    """Return the graph of a probe in one type; none where ONNX itself does not allow that."""
    for opset in OPSETS:
        model = _model(probe, _number(kind), opset)
        try:
            onnx.checker.check_model(model, full_check=True)
            inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
            continue
        known = {v.name: v for v in inferred.graph.output}
        if all(v.type.tensor_type.elem_type for v in known.values()):
            return inferred
    return None


def _model(probe: Probe, kind: int, opset: int) -> onnx.ModelProto:
    given = [helper.make_tensor_value_info(f"x{i}", kind, shape) for i, shape in enumerate(probe.inputs)]
    initializers, names = [], [v.name for v in given]
    for name, value in probe.weights.items():
        array = np.ones(value, np.float32) if isinstance(value, tuple) else np.asarray(value)
        if array.size == 0:
            names.append("")
            continue
        if isinstance(value, tuple):
            array = array.astype(helper.tensor_dtype_to_np_dtype(kind))
        initializers.append(numpy_helper.from_array(array, name))
        names.append(name)
    if probe.operator == "Where":
        initializers.append(numpy_helper.from_array(np.ones((1, 4, 6, 6), bool), "c"))
        names.insert(0, "c")
    outputs = [f"y{i}" for i in range(probe.outputs)]
    node = helper.make_node(probe.operator, names, outputs, "probe", **probe.attributes)
    empty = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph([node], "probe", given, empty, initializers)
    versions = {17: 8, 20: 9, 23: 11}
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=versions[opset])
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return model
    return inferred


def verdict(model: onnx.ModelProto, library: TensorRtLibrary) -> tuple[str, str]:
    """Return what TensorRT does with a graph, and its reason."""
    trt = library.trt
    try:
        parsed = parse_graph(model.SerializeToString(), "probe", trt)
    except EngineError as error:
        return REFUSED, str(error).partition("cannot read probe: ")[2].partition("; export the bundle")[0]
    config = parsed.builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, CAPABILITY), 0)
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    return (NOT_BUILT, parsed.logger.last_error) if plan is None else (BUILDS, "")


def operator_table(library: TensorRtLibrary) -> dict[str, dict[str, str]]:
    """Return the verdict by operator, with its case, and type; types that ONNX does not allow are left out."""
    table: dict[str, dict[str, str]] = {}
    for probe in probes():
        models = {kind: probe_model(probe, kind) for kind in probe.types}
        table[probe.name] = {k: verdict(m, library)[0] for k, m in models.items() if m is not None}
    return {name: row for name, row in sorted(table.items()) if row}


def _number(kind: str) -> int:
    return int(TensorProto.DataType.Value(kind.upper()))


def main() -> None:
    """Write the table."""
    logging.disable(logging.ERROR)
    library = load_tensorrt("tensorrt-rtx")
    content = {"library": library.name, "operators": operator_table(library)}
    write_json(TABLE, content)


if __name__ == "__main__":
    main()
