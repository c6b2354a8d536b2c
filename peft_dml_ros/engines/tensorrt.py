# SPDX-License-Identifier: Apache-2.0
"""TensorRT: one stream per graph, buffers allocated once, kernels launched as one CUDA graph.

The latents stay on the device: `start` of an encoder returns handles, and the fusion graph waits for them there.
"""

import logging
from collections.abc import Mapping

import numpy as np

from peft_dml_ros.core.bundle import Bundle
from peft_dml_ros.core.engine import Constant, DeviceArray, EngineArray, check_feeds
from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.spec import TensorTable
from peft_dml_ros.core.typing import AnyArray
from peft_dml_ros.engines.cache import cache_folder
from peft_dml_ros.engines.cuda import Cuda, DeviceSession
from peft_dml_ros.engines.tensorrt_build import open_store
from peft_dml_ros.engines.tensorrt_library import TensorRtLibrary, make_logger

log = logging.getLogger(__name__)


class TensorRtEngine:
    """One engine with static shapes. Raises EngineError: the engine does not load here, or memory is short."""

    def __init__(self, name: str, plan: bytes, library: TensorRtLibrary, cuda: Cuda) -> None:
        trt, self._name = library.trt, name
        self._logger = make_logger(trt)
        runtime = trt.Runtime(self._logger)
        engine = runtime.deserialize_cuda_engine(plan)
        context = engine.create_execution_context() if engine is not None else None
        if context is None:
            msg = f"{library.name} cannot load the engine of '{name}': {self._logger.last_error or 'no reason given'};"
            msg += f" fix: delete it from {cache_folder()}, so that it is built again"
            raise EngineError(msg)
        # TensorRT's objects do not keep each other alive.
        self._runtime, self._engine, self._context = runtime, engine, context
        self._session = DeviceSession(cuda)
        self.inputs: TensorTable = {}
        self.outputs: TensorTable = {}
        self._address: dict[str, int] = {}
        self._resident: dict[str, AnyArray | None] = {}
        for index in range(engine.num_io_tensors):
            tensor = engine.get_tensor_name(index)
            shape = tuple(engine.get_tensor_shape(tensor))
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(tensor))).name
            is_input = engine.get_tensor_mode(tensor) == trt.TensorIOMode.INPUT
            (self.inputs if is_input else self.outputs)[tensor] = (shape, dtype)
            self._address[tensor] = self._session.allocate(tensor, shape, dtype)
            context.set_tensor_address(tensor, self._address[tensor])

    @property
    def elapsed_ms(self) -> float:
        """Time of the kernels in the last run; 0 before the first."""
        return self._session.elapsed_ms()

    def start(self, feeds: Mapping[str, EngineArray]) -> dict[str, EngineArray]:
        """Start a run; the outputs stay on the device until the next start overwrites them."""
        check_feeds(self._name, feeds, self.inputs)
        session = self._session
        session.begin()
        for name, array in feeds.items():
            constant = array.array if isinstance(array, Constant) else None
            if isinstance(array, DeviceArray):
                session.take(name, array)
            # Calibration tables and the zeros of absent sensors never change: they are copied once.
            elif constant is None or self._resident.get(name) is not constant:
                session.upload(name, np.asarray(array))
            self._resident[name] = constant
        session.run(self._enqueue)
        return {
            name: DeviceArray(self._address[name], shape, dtype, session.done, session)
            for name, (shape, dtype) in self.outputs.items()
        }

    def __call__(self, feeds: Mapping[str, EngineArray]) -> dict[str, AnyArray]:
        """Run and wait; the arrays returned are the caller's own."""
        self.start(feeds)
        return self._session.download(self.outputs)

    def warm_up(self) -> None:
        """Run once on zeros, then record the kernels as one CUDA graph; where that fails, log it and run without."""
        zeros = {name: np.zeros(shape, dtype=dtype) for name, (shape, dtype) in self.inputs.items()}
        self(zeros)
        try:
            self._session.record(self._enqueue)
        except EngineError as error:
            log.warning("'%s' runs without a CUDA graph: %s", self._name, error)
        self(zeros)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._session.stream)):
            raise EngineError(f"cannot run '{self._name}': {self._logger.last_error}; fix: use engine: onnxruntime")


def load_tensorrt_engines(bundle: Bundle, engine: str = "tensorrt", precision: str = "") -> dict[str, TensorRtEngine]:
    """Return one TensorRT engine per graph, from the cache or built now.

    Raises BundleError: a graph's file is not what the manifest says; EngineError: TensorRT, CUDA or a GPU is missing,
    or a graph cannot be built, stored or loaded.
    """
    store = open_store(bundle, engine, precision)
    cuda = store.cuda or Cuda()
    return {graph: TensorRtEngine(graph, store.plan(graph), store.library, cuda) for graph in bundle.manifest.graphs}
