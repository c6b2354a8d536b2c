# SPDX-License-Identifier: Apache-2.0
"""The one interface of all inference engines."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, get_args

from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.spec import TensorTable
from peft_dml_ros.core.typing import AnyArray

EngineName: TypeAlias = Literal[
    "auto",
    "onnxruntime",
    "openvino",
    "onnxruntime-cuda",
    "onnxruntime-tensorrt",
    "onnxruntime-tensorrt-rtx",
    "tensorrt",
    "tensorrt-rtx",
]
#: Names of the engines; `auto` takes the CPU engine that is fastest on the machine
ENGINES: tuple[str, ...] = get_args(EngineName)

PRECISIONS = ("fp32", "fp16", "int8")  #: Precisions that a bundle's graphs may hold
ParameterPrecision: TypeAlias = Literal["auto", "fp32", "fp16", "int8"]


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """An array that stays in the accelerator's memory, as one engine hands it to the next."""

    address: int  #: Of its first byte in device memory
    shape: tuple[int, ...]  #: Of the array, C order
    dtype: str  #: numpy dtype name
    ready: Any  #: Event of the engine that writes it; whoever reads it waits for that on the device
    owner: Any  #: What holds the memory; whoever reads it tells the owner until when


@dataclass(frozen=True, slots=True)
class Constant:
    """An array of which its owner says that it never changes: an accelerator copies it once."""

    array: AnyArray  #: The very same object each time

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    @property
    def dtype(self) -> Any:
        """Numpy dtype of the array."""
        return self.array.dtype

    def __array__(self, *_: Any, **__: Any) -> AnyArray:
        return self.array


EngineArray: TypeAlias = AnyArray | Constant | DeviceArray


class Engine(Protocol):
    """One compiled graph."""

    @property
    def inputs(self) -> TensorTable:
        """Shape and numpy dtype name of each input."""

    @property
    def outputs(self) -> TensorTable:
        """Shape and numpy dtype name of each output."""

    @property
    def elapsed_ms(self) -> float:
        """Time that the graph alone took in the last run, without copies from and to the host; 0 before the first."""

    def start(self, feeds: Mapping[str, EngineArray]) -> Mapping[str, EngineArray]:
        """Start to run the graph; what it returns is for other engines of the same kind.

        An accelerator may still be at work when this returns, and starts of several engines overlap. On a CPU it is
        the same as a call.
        """

    def __call__(self, feeds: Mapping[str, EngineArray]) -> dict[str, AnyArray]:
        """Run the graph and wait for it. Raises EngineError: an input is missing, or has another shape or dtype."""

    def warm_up(self) -> None:
        """Run once on zeros, so that later runs find everything compiled and allocated."""


def check_feeds(name: str, feeds: Mapping[str, EngineArray], inputs: TensorTable) -> None:
    """Refuse feeds that do not fit.

    Raises EngineError: an input is missing, superfluous, or has another shape or dtype; all such are named.

    Args:
        name: Graph, for the message.
        feeds: What was given.
        inputs: What is declared.
    """
    found = {key: (array.shape, str(array.dtype)) for key, array in feeds.items()}
    if found != inputs:
        wrong = {key: found.get(key) for key in {*found, *inputs} if found.get(key) != inputs.get(key)}
        msg = f"{name}: inputs {wrong} do not fit, expected {inputs}"
        raise EngineError(f"{msg}; fix: make them by core.inputs with the bundle's spec")
