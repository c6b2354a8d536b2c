# SPDX-License-Identifier: Apache-2.0
"""What TensorRT takes, by operator, case and type: read from `operator_table.json`, which its own builder has made."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import onnx
from onnx import TensorProto, helper, numpy_helper

TABLE: Final = Path(__file__).with_name("operator_table.json")
BUILDS: Final = "builds"
LARGEST_TOPK: Final = 3840  #: One more is parsed without a word, and the build then returns nothing
PLAIN_MODES: Final = {"", "nearest", "linear", "bilinear"}


@cache
def operator_table() -> dict[str, dict[str, str]]:
    """Return the verdict by operator, with its case, and type."""
    table: dict[str, dict[str, str]] = json.loads(TABLE.read_text())["operators"]
    return table


def case_of(node: onnx.NodeProto, weights: Mapping[str, TensorProto], rank: int) -> str:
    """Return what is particular about a node, in the table's words; empty for the plain operator."""
    kind, about = node.op_type, {a.name: helper.get_attribute_value(a) for a in node.attribute}
    mode = about["mode"].decode() if isinstance(about.get("mode"), bytes) else ""
    more = len(node.output) > 1
    case = ""
    if kind in {"MaxPool", "AveragePool"}:
        case = "dilated" if any(step != 1 for step in about.get("dilations", ())) else "with indices" if more else ""
    elif kind in {"Resize", "GridSample"}:
        case = "antialias" if about.get("antialias") else "5 dimensions" if rank == 5 and kind == "GridSample" else ""
        case = case or ("" if mode in PLAIN_MODES else mode)
    elif kind == "LayerNormalization":
        case = "three outputs" if more else ""
    elif kind in {"ScatterND", "ScatterElements"}:
        case = "reduction add" if about.get("reduction", b"none") != b"none" else ""
    elif kind == "TopK":
        count = weights.get(node.input[1])
        small = count is not None and int(numpy_helper.to_array(count).max()) <= LARGEST_TOPK
        case = "" if small else f"K above {LARGEST_TOPK}"
    elif kind == "Cast":
        case = f"to {TensorProto.DataType.Name(about['to']).lower()}"
    return case


def refusal(node: onnx.NodeProto, kind: int, weights: Mapping[str, TensorProto], rank: int) -> str:
    """Return why TensorRT would refuse a node; empty when it takes it.

    Args:
        node: Any node.
        kind: ONNX type of its first input.
        weights: Constants by name.
        rank: Of its first input.
    """
    table, case = operator_table(), case_of(node, weights, rank)
    name = f"{node.op_type} ({case})" if case else node.op_type
    if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
        # The parser takes uint8 with zero point 0 and makes int8 of it, so only int8 means what ONNX says.
        return "" if _is_symmetric(node, weights) else "must have a zero point of 0 in int8"
    row = table.get(name, {}) if node.domain in {"", "ai.onnx"} else {}
    if BUILDS not in row.values():
        return f"({case}) is refused" if case and node.op_type in table else "is no operator that TensorRT has"
    word = TensorProto.DataType.Name(kind).lower()
    return f"of {word} is refused" if row.get(word, BUILDS) != BUILDS else ""


def _is_symmetric(node: onnx.NodeProto, weights: Mapping[str, TensorProto]) -> bool:
    zero = weights.get(node.input[2]) if len(node.input) > 2 else None
    return zero is not None and zero.data_type == TensorProto.INT8 and not numpy_helper.to_array(zero).any()
