# SPDX-License-Identifier: Apache-2.0
"""CUDA for the TensorRT engine, through NVIDIA's cuda-python: memory, a stream, events and graphs, under one owner."""

import ctypes
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from math import prod
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.engine import DeviceArray
from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.typing import AnyArray

#: Where cuda-python keeps the runtime: since 12.6, and before
LAYOUTS: Final = ("cuda.bindings.runtime", "cuda.cudart")

DRIVER_VERSION_FILE: Final = Path("/sys/module/nvidia/version")


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU that engines are built for."""

    name: str  #: As the driver gives it
    compute_capability: str  #: e.g. "8.7".
    driver: str  #: Version of the driver, as far as it tells


class Cuda:
    """The CUDA runtime, every call checked. Raises EngineError: cuda-python is not installed, or no GPU is usable."""

    def __init__(self) -> None:
        self._cudart: Any = _runtime()
        count = self.call("cudaGetDeviceCount")
        if not count:
            msg = "no NVIDIA GPU is visible; fix: check nvidia-smi and CUDA_VISIBLE_DEVICES, or use engine: onnxruntime"
            raise EngineError(msg)
        self.call("cudaSetDevice", 0)

    def gpu(self) -> Gpu:
        """Describe the first GPU."""
        properties = self.call("cudaGetDeviceProperties", 0)
        name = bytes(properties.name).split(b"\0")[0].decode(errors="replace")
        kernel = DRIVER_VERSION_FILE.read_text().strip() if DRIVER_VERSION_FILE.is_file() else ""
        driver = f"{self.call('cudaDriverGetVersion')} {kernel}".strip()
        return Gpu(name, f"{properties.major}.{properties.minor}", driver)

    def call(self, function: str, *arguments: Any) -> Any:
        """Return a call's results without error code. Raises EngineError: driver missing or too old, or it failed."""
        try:
            error, *values = getattr(self._cudart, function)(*arguments)
        except RuntimeError as missing:
            raise EngineError(f"CUDA: {missing}; fix: install NVIDIA's driver, or use engine: onnxruntime") from missing
        if error != self._cudart.cudaError_t.cudaSuccess:
            reason = self._cudart.cudaGetErrorString(error)[1]
            text = reason.decode() if isinstance(reason, bytes) else reason
            fix = (
                "install or update NVIDIA's driver"
                if "driver version" in text
                else "check nvidia-smi and free GPU memory"
            )
            raise EngineError(f"CUDA: {function} failed: {text} ({int(error)}); fix: {fix}, or use engine: onnxruntime")
        return values[0] if values else None

    def enumerator(self, path: str) -> Any:
        """Return a constant of the runtime, e.g. "cudaMemcpyKind.cudaMemcpyHostToDevice"."""
        return attrgetter(path)(self._cudart)


class DeviceSession:
    """The owner of everything that one engine has on the GPU: a stream, events, memory, a recorded graph.

    All work goes into the stream in order. When nobody holds the session any more it waits for the stream and frees
    all of it. `done` happens when the last run is finished, `has_read` when it has copied other sessions' results.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._owned: list[tuple[str, Any]] = []
        weakref.finalize(self, _free, cuda, self._owned)
        nonblocking = cuda.enumerator("cudaStreamNonBlocking")
        self.stream = self._own("cudaStreamDestroy", cuda.call("cudaStreamCreateWithFlags", nonblocking))
        self._started, self.done, self.has_read = (self._event() for _ in range(3))
        self._host: dict[str, AnyArray] = {}
        self._device: dict[str, int] = {}
        self._readers: list[DeviceSession] = []
        self._graph: Any = None
        self._busy = False

    def allocate(self, name: str, shape: tuple[int, ...], dtype: str) -> int:
        """Reserve device memory, and page-locked host memory to copy from and to; return the device address."""
        nbytes = prod(shape) * np.dtype(dtype).itemsize
        flags = self._cuda.enumerator("cudaHostAllocDefault")
        host = self._own("cudaFreeHost", self._cuda.call("cudaHostAlloc", max(nbytes, 1), flags))
        buffer = (ctypes.c_uint8 * nbytes).from_address(int(host))
        self._host[name] = np.ctypeslib.as_array(buffer).view(dtype).reshape(shape)
        self._device[name] = int(self._own("cudaFree", self._cuda.call("cudaMalloc", max(nbytes, 1))))
        return self._device[name]

    def begin(self) -> None:
        """Start a run: wait on the host for the last one, and on the device for whoever still reads its results."""
        if self._busy:
            # The page-locked memory is free again only when the last copy from it is done.
            self._cuda.call("cudaStreamSynchronize", self.stream)
        self._busy = True
        readers, self._readers = self._readers, []
        for reader in readers:
            self._cuda.call("cudaStreamWaitEvent", self.stream, reader.has_read, 0)

    def upload(self, name: str, source: AnyArray) -> None:
        """Copy an array to the device."""
        host = self._host[name]
        np.copyto(host, source)
        self._copy("HostToDevice", self._device[name], host.ctypes.data, host.nbytes)

    def take(self, name: str, source: DeviceArray) -> None:
        """Copy what another session computes, within the device; neither host nor other streams wait."""
        self._cuda.call("cudaStreamWaitEvent", self.stream, source.ready, 0)
        self._copy("DeviceToDevice", self._device[name], source.address, self._host[name].nbytes)
        self._cuda.call("cudaEventRecord", self.has_read, self.stream)
        source.owner.add_reader(self)

    def add_reader(self, session: "DeviceSession") -> None:
        """Keep the results of this run until another session has read them."""
        self._readers.append(session)

    def run(self, enqueue: Callable[[], None]) -> None:
        """Put kernels into the stream, or the graph that was recorded of them."""
        self._cuda.call("cudaEventRecord", self._started, self.stream)
        if self._graph is None:
            enqueue()
        else:
            self._cuda.call("cudaGraphLaunch", self._graph, self.stream)
        self._cuda.call("cudaEventRecord", self.done, self.stream)

    def record(self, enqueue: Callable[[], None]) -> None:
        """Record kernels as one graph for all later runs. Raises EngineError: they cannot be; the session works on."""
        mode = self._cuda.enumerator("cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal")
        self._cuda.call("cudaStreamBeginCapture", self.stream, mode)
        try:
            enqueue()
        finally:
            # A stream that stays in capture could never be used again.
            graph = self._cuda.call("cudaStreamEndCapture", self.stream)
        try:
            executable = self._cuda.call("cudaGraphInstantiateWithFlags", graph, 0)
        finally:
            self._cuda.call("cudaGraphDestroy", graph)
        self._graph = self._own("cudaGraphExecDestroy", executable)

    def download(self, names: Iterable[str]) -> dict[str, AnyArray]:
        """Wait for the run and return copies of some arrays."""
        names = list(names)
        for name in names:
            host = self._host[name]
            self._copy("DeviceToHost", host.ctypes.data, self._device[name], host.nbytes)
        self._cuda.call("cudaStreamSynchronize", self.stream)
        return {name: self._host[name].copy() for name in names}

    def elapsed_ms(self) -> float:
        """Wait for the run and return the time of its kernels; 0 before the first."""
        if not self._busy:
            return 0.0
        self._cuda.call("cudaStreamSynchronize", self.stream)
        return float(self._cuda.call("cudaEventElapsedTime", self._started, self.done))

    def _copy(self, kind: str, target: int, source: int, nbytes: int) -> None:
        kind = self._cuda.enumerator(f"cudaMemcpyKind.cudaMemcpy{kind}")
        self._cuda.call("cudaMemcpyAsync", target, source, nbytes, kind, self.stream)

    def _event(self) -> Any:
        return self._own("cudaEventDestroy", self._cuda.call("cudaEventCreate"))

    def _own(self, destroy: str, handle: Any) -> Any:
        self._owned.append((destroy, handle))
        return handle


def _free(cuda: Cuda, owned: list[tuple[str, Any]]) -> None:
    """Free what a session owned, the stream last, once the stream is done."""
    # A device in an error state refuses even this; the rest is freed as far as it goes.
    with suppress(EngineError):
        cuda.call("cudaStreamSynchronize", owned[0][1])
    for destroy, handle in reversed(owned):
        with suppress(EngineError):
            cuda.call(destroy, handle)


def _runtime() -> Any:
    for layout in LAYOUTS:
        with suppress(ImportError):
            return import_module(layout)
    raise EngineError(
        "the TensorRT engine needs the Python module 'cuda'; fix: install it: pip install cuda-python"
        " (the version of your CUDA, e.g. 'cuda-python<13' for CUDA 12), or use engine: onnxruntime"
    )
