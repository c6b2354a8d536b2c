# SPDX-License-Identifier: Apache-2.0
"""TensorRT: one stream per graph, buffers allocated once, kernels launched as one CUDA graph.

The latents stay on the device: `start` of an encoder returns handles, and the fusion graph waits for them there.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from peft_dml_ros.core.bundle import Bundle
from peft_dml_ros.core.engine import Constant, DeviceArray, EngineArray, check_feeds
from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.spec import TensorTable
from peft_dml_ros.core.typing import AnyArray
from peft_dml_ros.engines.cache import BuildProfile, cache_folder
from peft_dml_ros.engines.cuda import Cuda
from peft_dml_ros.engines.tensorrt_build import load_tensorrt, make_logger, plan_of

log = logging.getLogger(__name__)


class TensorRtEngine:
    """One engine with static shapes.

    Args:
        name: Graph, for messages.
        plan: Serialised engine.
        trt: Module `tensorrt`.
        cuda: CUDA runtime.

    Raises:
        EngineError: the engine does not load here, or memory is short.
    """

    def __init__(self, name: str, plan: bytes, trt: Any, cuda: Cuda) -> None:
        self._name, self._cuda = name, cuda
        self._logger = make_logger(trt)
        runtime = trt.Runtime(self._logger)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            msg = f"TensorRT {trt.__version__} cannot load the engine of '{name}': {self._logger.last_error};"
            msg += f" delete it from {cache_folder()}, so that it is built again"
            raise EngineError(msg)
        context = engine.create_execution_context()
        # TensorRT's objects do not keep each other alive.
        self._runtime, self._engine, self._context = runtime, engine, context
        self._inputs: TensorTable = {}
        self._outputs: TensorTable = {}
        self._host: dict[str, AnyArray] = {}
        self._device: dict[str, int] = {}
        for index in range(engine.num_io_tensors):
            tensor = engine.get_tensor_name(index)
            shape = tuple(engine.get_tensor_shape(tensor))
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(tensor))).name
            is_input = engine.get_tensor_mode(tensor) == trt.TensorIOMode.INPUT
            (self._inputs if is_input else self._outputs)[tensor] = (shape, dtype)
            self._host[tensor] = cuda.pinned(shape, dtype)
            self._device[tensor] = cuda.device_memory(prod(shape) * np.dtype(dtype).itemsize)
            context.set_tensor_address(tensor, self._device[tensor])
        self._stream = cuda.stream()
        self._begun, self._done = cuda.event(), cuda.event()
        self._resident: dict[str, AnyArray] = {}
        self._graph: Any = None
        self._started = False
        host = [array.ctypes.data for array in self._host.values()]
        weakref.finalize(self, cuda.release, list(self._device.values()), host, self._stream)

    @property
    def inputs(self) -> TensorTable:
        """Shape and numpy dtype name of each input."""
        return self._inputs

    @property
    def outputs(self) -> TensorTable:
        """Shape and numpy dtype name of each output."""
        return self._outputs

    @property
    def elapsed_ms(self) -> float:
        """Time of the kernels in the last run; 0 before the first."""
        if not self._started:
            return 0.0
        self._cuda.wait(self._stream)
        return self._cuda.between_ms(self._begun, self._done)

    def start(self, feeds: Mapping[str, EngineArray]) -> dict[str, EngineArray]:
        """Begin to run; the outputs stay on the device and are overwritten by the next start."""
        check_feeds(self._name, feeds, self._inputs)
        if self._started:
            # The page-locked buffers are free again only when the last copy from them is done.
            self._cuda.wait(self._stream)
        self._started = True
        for name, array in feeds.items():
            self._take(name, array)
        self._cuda.record(self._begun, self._stream)
        self._enqueue()
        self._cuda.record(self._done, self._stream)
        return {
            name: DeviceArray(self._device[name], shape, dtype, self._done)
            for name, (shape, dtype) in self._outputs.items()
        }

    def __call__(self, feeds: Mapping[str, EngineArray]) -> dict[str, AnyArray]:
        """Run and wait; the arrays returned are the caller's own."""
        self.start(feeds)
        for name in self._outputs:
            self._cuda.download(self._host[name], self._device[name], self._stream)
        self._cuda.wait(self._stream)
        return {name: self._host[name].copy() for name in self._outputs}

    def warm_up(self) -> None:
        """Run once on zeros, then record the kernels as one CUDA graph.

        An engine that cannot be recorded goes on without; it says so once.
        """
        zeros = {name: np.zeros(shape, dtype=dtype) for name, (shape, dtype) in self._inputs.items()}
        self(zeros)
        try:
            self._graph = self._cuda.captured(self._stream, self._run)
        except EngineError as error:
            log.warning("'%s' runs without a CUDA graph: %s", self._name, error)
        self(zeros)

    def _take(self, name: str, array: EngineArray) -> None:
        target = self._device[name]
        if isinstance(array, DeviceArray):
            shape, dtype = self._inputs[name]
            self._cuda.wait_for(self._stream, array.ready)
            self._cuda.copy(target, array.address, prod(shape) * np.dtype(dtype).itemsize, self._stream)
            self._resident.pop(name, None)
            return
        # Calibration tables and the zeros of absent sensors never change: they are copied once.
        constant = array.array if isinstance(array, Constant) else None
        if constant is not None and self._resident.get(name) is constant:
            return
        np.copyto(self._host[name], np.asarray(array))
        self._cuda.upload(target, self._host[name], self._stream)
        self._resident.pop(name, None)
        if constant is not None:
            self._resident[name] = constant

    def _enqueue(self) -> None:
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._run()

    def _run(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            msg = f"TensorRT cannot run '{self._name}': {self._logger.last_error}"
            raise EngineError(msg)


def load_tensorrt_engines(
    bundle: Bundle, profile: BuildProfile | None = None, folder: Path | None = None
) -> dict[str, TensorRtEngine]:
    """One TensorRT engine per graph, from the cache or built now.

    Args:
        bundle: Verified bundle.
        profile: How to build.
        folder: Cache; `cache_folder()` if none.

    Raises:
        BundleError: a graph's file is not what the manifest says.
        EngineError: TensorRT, CUDA or a GPU is missing, or a graph cannot be built, stored or loaded.
    """
    trt, cuda = load_tensorrt(), Cuda()
    gpu, folder = cuda.gpu(), folder or cache_folder()
    plans = {g: plan_of(bundle, g, trt, gpu, profile or BuildProfile(), folder) for g in bundle.manifest.graphs}
    return {graph: TensorRtEngine(graph, plan, trt, cuda) for graph, plan in plans.items()}


def build_tensorrt_engines(
    bundle: Bundle, profile: BuildProfile | None = None, folder: Path | None = None
) -> dict[str, int]:
    """Build what is not in the cache yet, and load nothing.

    Returns:
        Size in bytes of each graph's engine.

    Raises:
        BundleError: a graph's file is not what the manifest says.
        EngineError: TensorRT, CUDA or a GPU is missing, or a graph cannot be built or stored.
    """
    trt, gpu, folder = load_tensorrt(), Cuda().gpu(), folder or cache_folder()
    graphs = bundle.manifest.graphs
    return {g: len(plan_of(bundle, g, trt, gpu, profile or BuildProfile(), folder)) for g in graphs}
