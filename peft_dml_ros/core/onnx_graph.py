# SPDX-License-Identifier: Apache-2.0
"""Fill the weights of an ONNX graph and fold what is computed from weights alone, with numpy.

The graphs of a bundle name each weight as the network does and keep its values in `base.safetensors`, as ONNX's
external data; their first nodes fold the batch norms. So an adapter is merged by giving some weights other values
before the folding: the runtime then sees plain convolutions, in the precision of the graph.
Format: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.errors import BundleError, EngineError
from peft_dml_ros.core.protobuf import encode, fields, signed, varint
from peft_dml_ros.core.typing import AnyArray

_TENSOR: Final = "TensorProto"
#: Fields of onnx.proto that lead to tensors, by message
_NESTED: Final[dict[str, dict[int, str]]] = {
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
_DEEPEST: Final = 32

_GRAPH: Final = 7
_NODE, _INITIALIZER, _OUTPUT, _VALUE_INFO = 1, 5, 12, 13
_DIMS, _DATA_TYPE, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14
_TYPES: Final[dict[int, str]] = {1: "f4", 2: "u1", 3: "i1", 6: "i4", 7: "i8", 9: "?", 10: "f2", 11: "f8"}
_NUMBERS: Final = {np.dtype(kind): number for number, kind in _TYPES.items()}
_SMALLEST_SCALE: Final = np.float32(1e-8)
SCALE: Final = "_scale"  #: Ending of the name of a quantisation scale; what precedes it is the tensor


def weight_scale(values: AnyArray, axis: int = 0) -> AnyArray:
    """Return the symmetric int8 scale of a weight, one for each index of an axis."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    scale: AnyArray = np.maximum(np.abs(values).max(axis=others), _SMALLEST_SCALE) / np.float32(127)
    return scale.astype(np.float32)


def _quantise(values: AnyArray, scale: AnyArray, axis: int) -> AnyArray:
    shape = [1] * values.ndim
    shape[axis] = -1
    quantised: AnyArray = np.clip(np.rint(values / scale.reshape(shape)), -127, 127)
    return quantised.astype(np.int8)


#: Operators that are computed here where all inputs are weights; all others stay for the runtime
FOLDED: Final[dict[str, Callable[..., AnyArray]]] = {
    "Add": lambda _, a, b: a + b,
    "Cast": lambda attributes, x: x.astype(_TYPES[attributes["to"]]),
    "Div": lambda _, a, b: a / b,
    "Identity": lambda _, x: x,
    "Mul": lambda _, a, b: a * b,
    "Reshape": lambda _, x, shape: x.reshape(tuple(shape)),
    "Sqrt": lambda _, x: np.sqrt(x),
    "Squeeze": lambda _, x, axes: np.squeeze(x, tuple(axes)),
    "Sub": lambda _, a, b: a - b,
    "Transpose": lambda attributes, x: np.ascontiguousarray(x.transpose(attributes.get("perm"))),
    "Unsqueeze": lambda _, x, axes: np.expand_dims(x, tuple(axes)),
}


@dataclass(slots=True)
class _Node:
    raw: memoryview
    op: str
    inputs: list[str]
    outputs: list[str]

    @classmethod
    def parse(cls, raw: memoryview) -> "_Node":
        node = cls(raw, "", [], [])
        for number, value in fields(raw):
            if number in {1, 2} and isinstance(value, memoryview):
                (node.inputs if number == 1 else node.outputs).append(bytes(value).decode())
            elif number == 4 and isinstance(value, memoryview):
                node.op = bytes(value).decode()
        return node

    def attributes(self) -> dict[str, Any]:
        """Return integers and lists of integers by name; other kinds are left out."""
        found: dict[str, Any] = {}
        for number, value in fields(self.raw):
            if number == 5 and isinstance(value, memoryview):
                name = ""
                content: Any = None
                for inner, part in fields(value):
                    if inner == 1 and isinstance(part, memoryview):
                        name = bytes(part).decode()
                    elif inner == 3 and isinstance(part, int):
                        content = signed(part)
                    elif inner == 8:
                        content = [*(content or []), *_integers(part)]
                if content is not None:
                    found[name] = content
        return found


def _integers(value: int | memoryview) -> Iterator[int]:
    """Yield a repeated integer field, packed or not."""
    if isinstance(value, int):
        yield signed(value)
        return
    at = 0
    while at < len(value):
        number, at = varint(value, at)
        yield signed(number)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """An initialiser as it stands in the file."""

    name: str
    raw: memoryview
    data: memoryview | None
    shape: tuple[int, ...]
    kind: int
    outside: bool

    @classmethod
    def parse(cls, raw: memoryview) -> "_Tensor":
        shape: list[int] = []
        name, data, kind, outside = "", None, 0, False
        for number, value in fields(raw):
            if number == _NAME and isinstance(value, memoryview):
                name = bytes(value).decode()
            elif number == _RAW and isinstance(value, memoryview):
                data = value
            elif number == _DIMS:
                shape += _integers(value)
            elif number == _DATA_TYPE and isinstance(value, int):
                kind = value
            elif number == _EXTERNAL or (number == _LOCATION and value):
                outside = True
        return cls(name, raw, data, tuple(shape), kind, outside)

    def array(self) -> AnyArray | None:
        """Return the values; none where they are stored in a way that no exporter of this project uses."""
        if self.data is None or self.kind not in _TYPES:
            return None
        return np.frombuffer(self.data, _TYPES[self.kind]).reshape(self.shape)


def outside_weights(content: bytes) -> list[str]:
    """Return the names of the weights whose values are not in the file; none for what is no ONNX graph."""
    with suppress(IndexError, ValueError):
        return list(_outside(memoryview(content)))
    return []


def require_inside(path: Path, content: bytes) -> None:
    """Refuse a graph whose weights lie in other files, of which no hash says anything, and which may be anywhere.

    Raises EngineError: it has such a tensor, at any depth, or is no ONNX graph.
    """
    try:
        outside = next(_outside(memoryview(content)), None)
    except (IndexError, ValueError) as error:
        msg = f"cannot load {path}: {len(content)} bytes are no ONNX graph ({error}); fix: restore the bundle"
        raise EngineError(msg) from error
    if outside is not None:
        raise EngineError(
            f"{path} refused: its tensor '{outside}' lies in another file, which no hash covers;"
            " fix: export it with all weights inside (onnx.save with save_as_external_data=False)"
        )


def _outside(data: memoryview, kind: str = "ModelProto", depth: int = 0) -> Iterator[str]:
    """Yield names of the tensors below a message whose values are elsewhere."""
    if depth > _DEEPEST:
        raise ValueError(f"nested deeper than {_DEEPEST}")
    if kind == _TENSOR:
        if (tensor := _Tensor.parse(data)).outside:
            yield tensor.name
        return
    for number, value in fields(data):
        inner = _NESTED[kind].get(number)
        if inner is not None and isinstance(value, memoryview):
            yield from _outside(value, inner, depth + 1)


def filled(
    content: bytes,
    weights: Mapping[str, AnyArray],
    changed: Mapping[str, AnyArray],
    ranges: Mapping[str, float],
    where: str,
) -> bytes:
    """Return a graph that holds all of its weights, folded.

    Raises BundleError: it is no ONNX graph, a weight is missing or has another shape, or values are not finite.

    Args:
        content: The graph's file.
        weights: Base weights by name, for those that the file keeps outside.
        changed: Weights to use instead of the base's, float32; names of other graphs are passed over.
        ranges: Largest magnitudes of activations by tensor, for int8; those of other graphs are passed over.
        where: File, for messages.
    """
    try:
        return _filled(memoryview(content), weights, changed, ranges)
    except (IndexError, KeyError, ValueError) as error:
        msg = f"{where}: its weights cannot be filled in ({error}); fix: restore the bundle from its source"
        raise BundleError(msg) from error


def rescaled(content: bytes, zero_point: str, factor: float) -> bytes:
    """Multiply the scales that stand with one zero point in a quantised graph. Raises ValueError: no ONNX graph."""
    parts = [*fields(memoryview(content))]
    graph = [*fields(next(value for n, value in parts if n == _GRAPH and isinstance(value, memoryview)))]
    nodes = (_Node.parse(value) for n, value in graph if n == _NODE and isinstance(value, memoryview))
    names = {node.inputs[1] for node in nodes if node.inputs[2:] == [zero_point]}

    def changed(number: int, value: int | memoryview) -> int | bytes | memoryview:
        if number != _INITIALIZER or not isinstance(value, memoryview):
            return value
        tensor = _Tensor.parse(value)
        array = tensor.array() if tensor.name in names else None
        return value if array is None else _encoded(tensor.name, array * np.float32(factor))

    whole = b"".join(encode(number, changed(number, value)) for number, value in graph)
    return b"".join(encode(number, whole if number == _GRAPH else value) for number, value in parts)


def _filled(
    model: memoryview, weights: Mapping[str, AnyArray], changed: Mapping[str, AnyArray], ranges: Mapping[str, float]
) -> bytes:
    out = []
    for number, value in fields(model):
        whole = _graph(value, weights, changed, ranges) if number == _GRAPH and isinstance(value, memoryview) else value
        out.append(encode(number, whole))
    return b"".join(out)


def _graph(
    graph: memoryview, weights: Mapping[str, AnyArray], changed: Mapping[str, AnyArray], ranges: Mapping[str, float]
) -> bytes:
    constants: dict[str, AnyArray] = {}
    kept: dict[str, memoryview] = {}
    nodes, rest, outputs = [], [], set()
    for number, value in fields(graph):
        if number == _INITIALIZER and isinstance(value, memoryview):
            tensor = _Tensor.parse(value)
            kept[tensor.name] = value
            if (array := _value(tensor, weights, changed, ranges)) is not None:
                constants[tensor.name] = array
        elif number == _NODE and isinstance(value, memoryview):
            nodes.append(_Node.parse(value))
        elif number != _VALUE_INFO:
            rest.append(encode(number, value))
            if number == _OUTPUT and isinstance(value, memoryview):
                outputs |= {
                    bytes(part).decode() for n, part in fields(value) if n == 1 and isinstance(part, memoryview)
                }
    remaining = [node for node in nodes if outputs & {*node.outputs} or not _fold(node, constants)]
    used = {name for node in remaining for name in node.inputs}
    tensors = [_encoded(n, constants[n]) if n in constants else bytes(kept[n]) for n in used & {*constants, *kept}]
    parts = [encode(_NODE, node.raw) for node in remaining] + [encode(_INITIALIZER, t) for t in sorted(tensors)]
    return b"".join([*parts, *rest])


def _value(
    tensor: _Tensor, weights: Mapping[str, AnyArray], changed: Mapping[str, AnyArray], ranges: Mapping[str, float]
) -> AnyArray | None:
    """Return the values that an initialiser is to have."""
    if tensor.name in changed:
        value = changed[tensor.name]
    elif tensor.outside:
        value = weights[tensor.name]
        if _NUMBERS.get(value.dtype) != tensor.kind:
            raise ValueError(f"'{tensor.name}' is of {value.dtype} in the base")
    elif (activation := tensor.name.removesuffix(SCALE)) in ranges and activation != tensor.name and not tensor.shape:
        return np.array(max(ranges[activation], 1e-6) / 127, np.float32)
    else:
        return tensor.array()
    if value.shape != tensor.shape:
        raise ValueError(f"'{tensor.name}' has shape {value.shape}, not {tensor.shape}")
    return value


def _fold(node: _Node, constants: dict[str, AnyArray]) -> bool:
    """Compute a node whose inputs are all weights; True when it is not needed any more."""
    if not node.inputs or any(name not in constants for name in node.inputs):
        return False
    inputs = [constants[name] for name in node.inputs]
    if node.op == "QuantizeLinear" and inputs[0].ndim and len(inputs) == 3:
        axis = node.attributes().get("axis", 1)
        constants[node.inputs[1]] = weight_scale(inputs[0], axis)
        constants[node.outputs[0]] = _quantise(inputs[0], constants[node.inputs[1]], axis)
        return True
    if node.op not in FOLDED:
        return False
    constants[node.outputs[0]] = FOLDED[node.op](node.attributes(), *inputs)
    return True


def _encoded(name: str, array: AnyArray) -> bytes:
    dims = b"".join(encode(_DIMS, size) for size in array.shape)
    head = dims + encode(_DATA_TYPE, _NUMBERS[array.dtype]) + encode(_NAME, name.encode())
    return head + encode(_RAW, np.ascontiguousarray(array).tobytes())
