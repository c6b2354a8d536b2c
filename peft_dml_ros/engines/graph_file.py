# SPDX-License-Identifier: Apache-2.0
"""Reads an ONNX file for a runtime, and refuses one whose weights lie in other files.

The hash of a graph says nothing of files that it points to, and a runtime looks for them in the working directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

from peft_dml_ros.core.errors import EngineError

Schema: TypeAlias = dict[int, str]

_TENSOR: Final = "TensorProto"
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
"""Fields of onnx.proto that lead to tensors, by message."""

_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEEPEST: Final = 32


def read_graph(path: Path) -> bytes:
    """Content of an ONNX file that holds all of its weights.

    Raises:
        EngineError: it is no ONNX graph, or a tensor of it is in another file.
    """
    content = path.read_bytes()
    try:
        outside = next(_outside(memoryview(content), "ModelProto", 0), None)
    except (IndexError, ValueError) as error:
        msg = f"cannot load {path}: {len(content)} bytes are no ONNX graph ({error}); restore the bundle"
        raise EngineError(msg) from error
    if outside is not None:
        msg = (
            f"{path} refused: its tensor '{outside}' lies in another file, which no hash covers;"
            " export it with all weights inside (onnx.save with save_as_external_data=False)"
        )
        raise EngineError(msg)
    return content


def _outside(data: memoryview, kind: str, depth: int) -> Iterator[str]:
    """Names of the tensors below a message whose values are elsewhere."""
    if depth > _DEEPEST:
        text = f"nested deeper than {_DEEPEST}"
        raise ValueError(text)
    if kind == _TENSOR:
        fields = dict(_fields(data))
        if fields.get(_DATA_LOCATION) or _EXTERNAL_DATA in fields:
            name = fields.get(_NAME, b"")
            yield bytes(name).decode(errors="replace") if isinstance(name, memoryview) else ""
        return
    for number, value in _fields(data):
        inner = _NESTED[kind].get(number)
        if inner is not None and isinstance(value, memoryview):
            yield from _outside(value, inner, depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of a serialised protobuf message, in order."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            length, at = _varint(data, at)
        elif wire in {_FIXED32, _FIXED64}:
            length = 4 if wire == _FIXED32 else 8
        else:
            text = f"unknown wire type {wire}"
            raise ValueError(text)
        if at + length > len(data):
            raise ValueError("cut short")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("number too long")
