# SPDX-License-Identifier: Apache-2.0
"""TensorRT and CUDA for machines without a GPU: ordinary memory, and ONNX Runtime in the place of the kernels.

It checks the engine's own part: addresses, copies, the order of streams, what is allowed while a graph is recorded,
what is given back, and the cache. A stream does its work as late or as early as CUDA allows, so a missing wait gives
wrong numbers. Names that do not exist in the real bindings are caught by test_tensorrt_names.py.
"""

import ctypes
from collections import deque
from threading import RLock
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile

SUCCESS, FAILURE = 0, 700
ONNX_ERRORS = (Fail, InvalidProtobuf, InvalidGraph, InvalidArgument, NoSuchFile)
TYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8}


LAZY, HASTY = "lazy", "hasty"
"""Orders that CUDA allows: a stream runs only when somebody waits for it; all others run ahead as far as they may."""


class Stream:
    """Work in order, none of it done before somebody waits."""

    def __init__(self, cuda):
        self.cuda, self.captured, self.queue = cuda, None, deque()

    def __int__(self):
        return id(self)

    def do(self, work):
        """Queue it, or record it for a graph."""
        (self.queue if self.captured is None else self.captured).append(work)


class Event:
    """Happens when a stream gets to the last place where it was recorded."""

    def __init__(self):
        self.recorded = self.happened = 0


class StandInCuda:
    """The part of cuda.bindings.runtime that the engine uses, with streams that run in the worst legal order."""

    cudaStreamNonBlocking, cudaHostAllocDefault = 1, 0
    cudaMemcpyKind = SimpleNamespace(
        cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down", cudaMemcpyDeviceToDevice="within"
    )
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaError_t = SimpleNamespace(cudaSuccess=SUCCESS)

    def __init__(self, gpu="NVIDIA Test 1", driver=12060, order=LAZY, capability=(8, 7)):
        self.gpu, self.driver, self.order, self.capability = gpu, driver, order, capability
        self.memory, self.streams, self.events, self.graphs = {}, {}, {}, {}
        self.copies, self.launches, self.kernels = [], 0, 0
        self.misuse, self.lock = [], RLock()

    def misused(self, how):
        """Keep what a finaliser does wrong, whose exceptions reach nobody."""
        self.misuse.append(how)
        return (FAILURE,)

    @property
    def alive(self):
        """How much there is of everything that must be given back."""
        return [len(kept) for kept in (self.memory, self.streams, self.events, self.graphs)]

    def cudaGetDeviceCount(self):
        return SUCCESS, 1

    def cudaSetDevice(self, _):
        return (SUCCESS,)

    def cudaGetDeviceProperties(self, _):
        major, minor = self.capability
        return SUCCESS, SimpleNamespace(name=self.gpu.encode() + b"\0\0", major=major, minor=minor)

    def cudaDriverGetVersion(self):
        return SUCCESS, self.driver

    def cudaGetErrorString(self, _):
        return SUCCESS, b"an illegal memory access was encountered"

    def cudaMalloc(self, size):
        assert all(s.captured is None for s in self.streams.values()), "nothing may be allocated during capture"
        buffer = (ctypes.c_uint8 * size)(*([0x7F] * min(size, 64)))
        self.memory[ctypes.addressof(buffer)] = buffer
        return SUCCESS, ctypes.addressof(buffer)

    def cudaHostAlloc(self, size, _):
        return self.cudaMalloc(size)

    def cudaFree(self, address):
        pending = [work for stream in self.streams.values() for work in stream.queue]
        if any(address in getattr(work, "touches", ()) for work in pending):
            return self.misused("freed while in use")
        del self.memory[address]
        return (SUCCESS,)

    cudaFreeHost = cudaFree

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        if any(size > len(self.memory[a]) for a in (target, source)):
            return (FAILURE,)
        self.copies.append((kind, size))

        def copy():
            ctypes.memmove(target, source, size)

        copy.touches = (target, source)
        stream.do(copy)
        return (SUCCESS,)

    def cudaStreamCreateWithFlags(self, _):
        stream = Stream(self)
        self.streams[id(stream)] = stream
        return SUCCESS, stream

    def cudaStreamDestroy(self, stream):
        if stream.queue:
            return self.misused("destroyed while at work")
        del self.streams[id(stream)]
        return (SUCCESS,)

    def cudaStreamSynchronize(self, stream):
        assert stream.captured is None, "a stream cannot be waited for while it is recorded"
        with self.lock:
            self.advance(stream, lambda: False)
        return (SUCCESS,)

    def advance(self, stream, enough):
        """Run a stream until it is done or has gone far enough."""
        while stream.queue and not enough():
            for other in list(self.streams.values()) if self.order == HASTY else ():
                while other is not stream and other.queue and self.step(other):
                    pass
            if stream.queue and not self.step(stream):
                event, count = stream.queue[0].waits_for
                assert event.stream.queue, "waits for ever"
                self.advance(event.stream, lambda e=event, c=count: e.happened >= c)

    def step(self, stream):
        """Run the first piece of work of a stream, unless it waits for an event."""
        work = stream.queue[0]
        event, count = getattr(work, "waits_for", (None, 0))
        if event is not None and event.happened < count:
            return False
        stream.queue.popleft()
        work()
        return True

    def cudaEventCreate(self):
        event = Event()
        self.events[id(event)] = event
        return SUCCESS, event

    def cudaEventDestroy(self, event):
        del self.events[id(event)]
        return (SUCCESS,)

    def cudaEventRecord(self, event, stream):
        assert id(event) in self.events
        event.recorded += 1
        count = event.recorded

        def mark():
            event.happened = count

        event.stream = stream
        stream.do(mark)
        return (SUCCESS,)

    def cudaStreamWaitEvent(self, stream, event, _):
        assert id(event) in self.events, "waits for an event that is no more"

        def wait():
            pass

        # As CUDA does: an event that was never recorded holds nobody up.
        wait.waits_for = event, event.recorded
        stream.do(wait)
        return (SUCCESS,)

    def cudaEventElapsedTime(self, start, stop):
        assert start.recorded, "never recorded"
        assert start.recorded == start.happened, "not happened yet"
        assert stop.recorded == stop.happened, "not happened yet"
        return SUCCESS, 1.5

    def cudaStreamBeginCapture(self, stream, _):
        stream.captured = []
        return (SUCCESS,)

    def cudaStreamEndCapture(self, stream):
        if stream.captured is None:
            return (FAILURE,)
        work, stream.captured = stream.captured, None
        self.graphs[id(work)] = work
        return SUCCESS, work

    def cudaGraphInstantiateWithFlags(self, graph, _):
        executable = list(graph)
        self.graphs[id(executable)] = executable
        return SUCCESS, executable

    def cudaGraphDestroy(self, graph):
        del self.graphs[id(graph)]
        return (SUCCESS,)

    cudaGraphExecDestroy = cudaGraphDestroy

    def cudaGraphLaunch(self, executable, stream):
        assert id(executable) in self.graphs
        self.launches += 1
        for work in executable:
            stream.do(work)
        return (SUCCESS,)


def stand_in_tensorrt(cuda, version="10.3.0", can_build=True):  # noqa: C901 (a whole module)
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
            assert can_build, "this machine has no builder"
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
                set_compute_capability=lambda *_: True,
            )

        def build_serialized_network(self, network, config):
            if monitor := getattr(config, "progress_monitor", None):
                monitor.phase_start("tactics", None, 2)
                assert monitor.step_complete("tactics", 1)
                monitor.phase_finish("tactics")
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
        ComputeCapability=SimpleNamespace(SM86=0, SM89=1, SM120=2, CURRENT=3),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        MemoryPoolType=SimpleNamespace(WORKSPACE=0),
        BuilderFlag=SimpleNamespace(TF32=0),
        TensorIOMode=SimpleNamespace(INPUT="input"),
        nptype=TYPES.__getitem__,
    )
    return trt
