# SPDX-License-Identifier: Apache-2.0
"""Refuses ONNX graphs whose weights lie in other files.

The hash of a graph says nothing of files that it points to, and a runtime looks for them in the working directory.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.protobuf import fields

Schema: TypeAlias = dict[int, str]

_TENSOR: Final = "TensorProto"
#: Fields of onnx.proto that lead to tensors, by message
_NESTED: Final[dict[str, Schema]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: _TENSOR, 15: "SparseTensorProto"},
    "SparseTensorProto": {1: _TENSOR, 2: _TENSOR},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: _TENSOR,
        6: "GraphProto",
        10: _TENSOR,
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
}

_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_DEEPEST: Final = 32


def require_inside(path: Path, content: bytes) -> None:
    """Refuse an ONNX graph with a tensor in another file. Raises EngineError: it has one, or is no ONNX graph."""
    try:
        outside = next(_outside(memoryview(content), "ModelProto", 0), None)
    except (IndexError, ValueError) as error:
        msg = f"cannot load {path}: {len(content)} bytes are no ONNX graph ({error}); restore the bundle"
        raise EngineError(msg) from error
    if outside is not None:
        raise EngineError(
            f"{path} refused: its tensor '{outside}' lies in another file, which no hash covers;"
            " export it with all weights inside (onnx.save with save_as_external_data=False)"
        )


def _outside(data: memoryview, kind: str, depth: int) -> Iterator[str]:
    """Yield names of the tensors below a message whose values are elsewhere."""
    if depth > _DEEPEST:
        raise ValueError(f"nested deeper than {_DEEPEST}")
    if kind == _TENSOR:
        found = dict(fields(data))
        if found.get(_DATA_LOCATION) or _EXTERNAL_DATA in found:
            name = found.get(_NAME, b"")
            yield bytes(name).decode(errors="replace") if isinstance(name, memoryview) else ""
        return
    for number, value in fields(data):
        inner = _NESTED[kind].get(number)
        if inner is not None and isinstance(value, memoryview):
            yield from _outside(value, inner, depth + 1)
