# SPDX-License-Identifier: Apache-2.0
"""What the TensorRT engine needs of CUDA: memory, streams, events and graphs, through NVIDIA's cuda-python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.typing import AnyArray

LAYOUTS: Final = ("cuda.bindings.runtime", "cuda.cudart")
"""Where cuda-python keeps the runtime: since 12.6, and before."""

DRIVER_VERSION_FILE: Final = Path("/sys/module/nvidia/version")


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU that engines are built for.

    Attributes:
        name: As the driver gives it.
        compute_capability: e.g. "8.7".
        driver: Version of the driver, as far as it tells.
    """

    name: str
    compute_capability: str
    driver: str


class Cuda:
    """The CUDA runtime; every call is checked.

    Raises:
        EngineError: cuda-python is not installed, or there is no usable GPU.
    """

    def __init__(self) -> None:
        self._cudart: Any = _runtime()
        count = self._call("cudaGetDeviceCount")
        if not count:
            msg = "no NVIDIA GPU is visible; check nvidia-smi and CUDA_VISIBLE_DEVICES, or use engine: onnxruntime"
            raise EngineError(msg)
        self._call("cudaSetDevice", 0)

    def gpu(self) -> Gpu:
        """Describe the first GPU."""
        properties = self._call("cudaGetDeviceProperties", 0)
        name = bytes(properties.name).split(b"\0")[0].decode(errors="replace")
        kernel = DRIVER_VERSION_FILE.read_text().strip() if DRIVER_VERSION_FILE.is_file() else ""
        driver = f"{self._call('cudaDriverGetVersion')} {kernel}".strip()
        return Gpu(name, f"{properties.major}.{properties.minor}", driver)

    def device_memory(self, nbytes: int) -> int:
        """Address of new device memory; `release` frees it."""
        return int(self._call("cudaMalloc", max(nbytes, 1)))

    def pinned(self, shape: tuple[int, ...], dtype: str) -> AnyArray:
        """New page-locked host array; `release` frees it, and it must not be used after that."""
        nbytes = prod(shape) * np.dtype(dtype).itemsize
        address = int(self._call("cudaHostAlloc", max(nbytes, 1), self._cudart.cudaHostAllocDefault))
        buffer = (ctypes.c_uint8 * nbytes).from_address(address)
        array: AnyArray = np.ctypeslib.as_array(buffer).view(dtype).reshape(shape)
        return array

    def stream(self) -> Any:
        """New stream that does not wait for the default stream."""
        return self._call("cudaStreamCreateWithFlags", self._cudart.cudaStreamNonBlocking)

    def event(self) -> Any:
        """New event, able to measure time."""
        return self._call("cudaEventCreate")

    def release(self, device: list[int], host: list[int], stream: Any) -> None:
        """Free device memory, page-locked memory and a stream, by address."""
        self._call("cudaStreamDestroy", stream)
        for address in device:
            self._call("cudaFree", address)
        for address in host:
            self._call("cudaFreeHost", address)

    def upload(self, address: int, source: AnyArray, stream: Any) -> None:
        """Copy a page-locked array to the device, in the stream's order."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, source.ctypes.data, source.nbytes, kind, stream)

    def download(self, target: AnyArray, address: int, stream: Any) -> None:
        """Copy device memory into a page-locked array, in the stream's order."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target.ctypes.data, address, target.nbytes, kind, stream)

    def copy(self, target: int, source: int, nbytes: int, stream: Any) -> None:
        """Copy within the device, in the stream's order."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._call("cudaMemcpyAsync", target, source, nbytes, kind, stream)

    def record(self, event: Any, stream: Any) -> None:
        """Let the event happen when the stream gets here."""
        self._call("cudaEventRecord", event, stream)

    def wait_for(self, stream: Any, event: Any) -> None:
        """Let the stream go on only after the event; the host does not wait."""
        self._call("cudaStreamWaitEvent", stream, event, 0)

    def wait(self, stream: Any) -> None:
        """Let the host wait until the stream is done."""
        self._call("cudaStreamSynchronize", stream)

    def between_ms(self, start: Any, stop: Any) -> float:
        """Time between two events that have happened."""
        return float(self._call("cudaEventElapsedTime", start, stop))

    def captured(self, stream: Any, run: Callable[[], None]) -> Any:
        """Executable graph of what `run` puts into the stream; nothing of it is done yet."""
        mode = self._cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)
        try:
            run()
        finally:
            # A stream that stays in capture could never be used again.
            graph = self._call("cudaStreamEndCapture", stream)
        executable = self._call("cudaGraphInstantiateWithFlags", graph, 0)
        self._call("cudaGraphDestroy", graph)
        return executable

    def launch(self, executable: Any, stream: Any) -> None:
        """Run a recorded graph."""
        self._call("cudaGraphLaunch", executable, stream)

    def _call(self, function: str, *arguments: Any) -> Any:
        try:
            error, *values = getattr(self._cudart, function)(*arguments)
        except RuntimeError as missing:
            msg = f"CUDA: {missing}; install NVIDIA's driver, or use engine: onnxruntime"
            raise EngineError(msg) from missing
        if error != self._cudart.cudaError_t.cudaSuccess:
            reason = self._cudart.cudaGetErrorString(error)[1]
            text = reason.decode() if isinstance(reason, bytes) else reason
            msg = f"CUDA: {function} failed: {text} ({error}); check nvidia-smi, the driver, and free GPU memory"
            raise EngineError(msg)
        return values[0] if values else None


def _runtime() -> Any:
    for layout in LAYOUTS:
        with suppress(ImportError):
            return import_module(layout)
    msg = (
        "the TensorRT engine needs the Python module 'cuda'; install it: pip install cuda-python"
        " (the version of your CUDA, e.g. 'cuda-python<13' for CUDA 12), or use engine: onnxruntime"
    )
    raise EngineError(msg)
