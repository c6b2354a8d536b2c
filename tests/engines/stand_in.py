# SPDX-License-Identifier: Apache-2.0
"""TensorRT and CUDA for machines without a GPU: ordinary memory, and ONNX Runtime in the place of the kernels.

What it checks is the engine's own part: addresses, copies, the order of streams, what is allowed while a graph is
recorded, and the cache. Names that do not exist in the real bindings are caught by test_tensorrt_names.py.
"""

import ctypes
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile

SUCCESS, FAILURE = 0, 700
ONNX_ERRORS = (Fail, InvalidProtobuf, InvalidGraph, InvalidArgument, NoSuchFile)
TYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8}


class Stream:
    def __init__(self, cuda):
        self.cuda, self.captured = cuda, None
        cuda.streams[id(self)] = self

    def __int__(self):
        return id(self)

    def do(self, work):
        """Do it now, or record it for a graph."""
        if self.captured is None:
            work()
        else:
            self.captured.append(work)


class StandInCuda:
    """The part of cuda.bindings.runtime that the engine uses."""

    cudaStreamNonBlocking, cudaHostAllocDefault = 1, 0
    cudaMemcpyKind = SimpleNamespace(
        cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down", cudaMemcpyDeviceToDevice="within"
    )
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaError_t = SimpleNamespace(cudaSuccess=SUCCESS)

    def __init__(self, gpu="NVIDIA Test 1", driver=12060):
        self.gpu, self.driver = gpu, driver
        self.memory, self.streams, self.copies, self.launches, self.kernels = {}, {}, [], 0, 0

    def cudaGetDeviceCount(self):
        return SUCCESS, 1

    def cudaSetDevice(self, _):
        return (SUCCESS,)

    def cudaGetDeviceProperties(self, _):
        return SUCCESS, SimpleNamespace(name=self.gpu.encode() + b"\0\0", major=8, minor=7)

    def cudaDriverGetVersion(self):
        return SUCCESS, self.driver

    def cudaGetErrorString(self, _):
        return SUCCESS, b"an illegal memory access was encountered"

    def cudaMalloc(self, size):
        assert all(s.captured is None for s in self.streams.values()), "nothing may be allocated during capture"
        buffer = (ctypes.c_uint8 * size)()
        self.memory[ctypes.addressof(buffer)] = buffer
        return SUCCESS, ctypes.addressof(buffer)

    def cudaHostAlloc(self, size, _):
        return self.cudaMalloc(size)

    def cudaFree(self, address):
        del self.memory[address]
        return (SUCCESS,)

    cudaFreeHost = cudaFree

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        if any(size > len(self.memory[a]) for a in (target, source)):
            return (FAILURE,)
        self.copies.append((kind, size))
        stream.do(lambda: ctypes.memmove(target, source, size))
        return (SUCCESS,)

    def cudaStreamCreateWithFlags(self, _):
        return SUCCESS, Stream(self)

    def cudaStreamDestroy(self, stream):
        del self.streams[id(stream)]
        return (SUCCESS,)

    def cudaStreamSynchronize(self, stream):
        assert stream.captured is None, "a stream cannot be waited for while it is recorded"
        return (SUCCESS,)

    def cudaEventCreate(self):
        return SUCCESS, SimpleNamespace(recorded=False)

    def cudaEventRecord(self, event, _):
        event.recorded = True
        return (SUCCESS,)

    def cudaStreamWaitEvent(self, _, event, __):
        assert event.recorded, "waits for something that was never begun"
        return (SUCCESS,)

    def cudaEventElapsedTime(self, start, stop):
        assert start.recorded
        assert stop.recorded
        return SUCCESS, 1.5

    def cudaStreamBeginCapture(self, stream, _):
        stream.captured = []
        return (SUCCESS,)

    def cudaStreamEndCapture(self, stream):
        work, stream.captured = stream.captured, None
        return SUCCESS, work

    def cudaGraphInstantiateWithFlags(self, graph, _):
        return SUCCESS, list(graph)

    def cudaGraphDestroy(self, _):
        return (SUCCESS,)

    def cudaGraphLaunch(self, executable, stream):
        self.launches += 1
        for work in executable:
            stream.do(work)
        return (SUCCESS,)


def stand_in_tensorrt(cuda, version="10.3.0"):  # noqa: C901 (a whole module)
    """The part of the module `tensorrt` that the engine uses."""
    trt = SimpleNamespace(__version__=version, builds=0)

    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)

    class IProgressMonitor:
        pass

    class Network:
        model = b""

    class Parser:
        def __init__(self, network, logger):
            self.network, self.logger, self.error = network, logger, ""

        def parse(self, model):
            try:
                ort.InferenceSession(model, providers=["CPUExecutionProvider"])
            except ONNX_ERRORS as error:
                self.error = str(error)
                return False
            self.network.model = model
            return True

        @property
        def num_errors(self):
            return 1

        def get_error(self, _):
            return SimpleNamespace(desc=lambda: self.error)

    class Builder:
        def __init__(self, logger):
            self.logger = logger

        def create_network(self, flags):
            assert flags == 2, "strongly typed"
            return Network()

        def create_builder_config(self):
            return SimpleNamespace(
                set_memory_pool_limit=lambda *_: None,
                clear_flag=lambda *_: None,
                create_timing_cache=lambda content: SimpleNamespace(serialize=lambda: content + b"t"),
                set_timing_cache=lambda cache, ignore_mismatch: True,
                get_timing_cache=lambda: SimpleNamespace(serialize=lambda: b"timings"),
            )

        def build_serialized_network(self, network, config):
            config.progress_monitor.phase_start("tactics", None, 2)
            assert config.progress_monitor.step_complete("tactics", 1)
            config.progress_monitor.phase_finish("tactics")
            trt.builds += 1
            return network.model

    class Context:
        def __init__(self, session):
            self.session, self.address = session, {}

        def set_tensor_address(self, name, address):
            self.address[name] = address
            return True

        def execute_async_v3(self, handle):
            cuda.streams[handle].do(self.run)
            return True

        def run(self):
            cuda.kernels += 1
            feeds = {i.name: self.at(i) for i in self.session.get_inputs()}
            for output, value in zip(self.session.get_outputs(), self.session.run(None, feeds), strict=True):
                np.copyto(self.at(output), value)

        def at(self, tensor):
            buffer = cuda.memory[self.address[tensor.name]]
            size = int(np.prod(tensor.shape)) * np.dtype(TYPES[tensor.type]).itemsize
            return np.frombuffer(buffer, np.uint8, size).view(TYPES[tensor.type]).reshape(tensor.shape)

    class Engine:
        def __init__(self, plan):
            self.session = ort.InferenceSession(plan, providers=["CPUExecutionProvider"])
            inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
            self.tensors = [(t, trt.TensorIOMode.INPUT) for t in inputs] + [(t, "output") for t in outputs]
            self.by_name = {t.name: (t, mode) for t, mode in self.tensors}
            self.num_io_tensors = len(self.tensors)

        def get_tensor_name(self, index):
            return self.tensors[index][0].name

        def get_tensor_shape(self, name):
            return tuple(self.by_name[name][0].shape)

        def get_tensor_dtype(self, name):
            return self.by_name[name][0].type

        def get_tensor_mode(self, name):
            return self.by_name[name][1]

        def create_execution_context(self):
            return Context(self.session)

    class Runtime:
        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, plan):
            try:
                return Engine(plan)
            except ONNX_ERRORS as error:
                self.logger.log(ILogger.Severity.ERROR, str(error))
                return None

    vars(trt).update(
        ILogger=ILogger,
        IProgressMonitor=IProgressMonitor,
        Builder=Builder,
        OnnxParser=Parser,
        Runtime=Runtime,
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        MemoryPoolType=SimpleNamespace(WORKSPACE=0),
        BuilderFlag=SimpleNamespace(TF32=0),
        TensorIOMode=SimpleNamespace(INPUT="input"),
        nptype=TYPES.__getitem__,
    )
    return trt
