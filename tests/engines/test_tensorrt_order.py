# SPDX-License-Identifier: Apache-2.0
"""Streams, events and memory of the TensorRT engine under the worst orders that CUDA allows.

Each wait, event and copy of `DeviceSession` is removed in turn: the scenario must then give wrong numbers or refuse.
"""

import ast
import gc
import inspect
import textwrap
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.engines import cuda as cuda_module
from peft_dml_ros.engines import tensorrt as tensorrt_module
from peft_dml_ros.engines.cuda import Cuda, DeviceSession
from peft_dml_ros.engines.tensorrt import TensorRtEngine
from peft_dml_ros.engines.tensorrt_library import TensorRtLibrary
from tests.engines.stand_in import HASTY, LAZY, StandInCuda, stand_in_tensorrt

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
SIZE = 64


@cache
def plan(*inputs: str) -> bytes:
    """A graph that doubles the sum of its inputs; the stand-in runs ONNX."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIZE]) for name in (*inputs, "out")]
    nodes = [helper.make_node("Sum", list(inputs), ["sum"]), helper.make_node("Add", ["sum", "sum"], ["out"])]
    graph = helper.make_graph(nodes, "double", values[:-1], values[-1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture(params=[LAZY, HASTY])
def machine(request, monkeypatch):
    stand_in = StandInCuda(order=request.param)
    monkeypatch.setattr(cuda_module, "_runtime", lambda: stand_in)
    return stand_in, TensorRtLibrary("tensorrt", stand_in_tensorrt(stand_in))


def full(value: float) -> np.ndarray:
    return np.full(SIZE, value, np.float32)


def scenario(machine) -> None:
    """Two encoders and a fusion, started without waiting, the first encoder again before the fusion has read it."""
    stand_in, library = machine
    cuda = Cuda()
    first, second = (TensorRtEngine(name, plan("x"), library, cuda) for name in ("first", "second"))
    fusion = TensorRtEngine("fusion", plan("a", "b"), library, cuda)
    for engine in (first, second, fusion):
        engine.warm_up()
    assert first.elapsed_ms == 1.5
    latents = first.start({"x": full(1)})["out"], second.start({"x": full(10)})["out"]
    fusion.start({"a": latents[0], "b": latents[1]})
    newer = first.start({"x": full(100)})["out"]
    np.testing.assert_array_equal(fusion._session.download(["out"])["out"], full(44))
    np.testing.assert_array_equal(fusion({"a": newer, "b": latents[1]})["out"], full(440))
    # An encoder that is started twice must not see the second inputs in the first run.
    old = first.start({"x": full(2)})["out"]
    taken = fusion.start({"a": old, "b": latents[1]})
    first.start({"x": full(7)})
    np.testing.assert_array_equal(fusion._session.download(taken)["out"], full(48))
    np.testing.assert_array_equal(first({"x": full(3)})["out"], full(6))
    second.start({"x": full(1)})
    assert second.elapsed_ms == 1.5
    second.start({"x": full(1)})
    del first, second, fusion, engine, latents, newer, old, taken
    gc.collect()
    assert not stand_in.misuse
    assert stand_in.alive == [0, 0, 0, 0]


def test_any_legal_order_gives_the_same_numbers(machine):
    scenario(machine)


def calls_of(tree: ast.AST) -> list[ast.Call]:
    """Calls whose effect on the device may be lost: those that are statements of their own."""
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and ast.unparse(node.value.func) in {"self._cuda.call", "self._copy", "source.owner.add_reader"}
    ]


SOURCE = textwrap.dedent(inspect.getsource(DeviceSession))
MUTATIONS = [f"{number} {ast.unparse(call)}" for number, call in enumerate(calls_of(ast.parse(SOURCE)))]


def mutant(number: int) -> type:
    """`DeviceSession` without one call."""
    tree = ast.parse(SOURCE)
    removed = calls_of(tree)[number]
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and node.value is removed:
            node.value = ast.Constant(None)
    names = dict(vars(cuda_module))
    exec(compile(ast.fix_missing_locations(tree), "mutant", "exec"), names)
    return names["DeviceSession"]


def test_there_is_something_to_remove():
    assert len(MUTATIONS) >= 14
    assert sum("Synchronize" in m for m in MUTATIONS) == 3
    assert sum("cudaStreamWaitEvent" in m for m in MUTATIONS) == 2
    assert sum("cudaEventRecord" in m for m in MUTATIONS) == 3
    assert sum("_copy" in m for m in MUTATIONS) == 3


@pytest.mark.parametrize("number", range(len(MUTATIONS)), ids=MUTATIONS)
def test_each_wait_event_and_copy_is_needed(number, monkeypatch):
    failures = 0
    for order in (LAZY, HASTY):
        stand_in = StandInCuda(order=order)
        monkeypatch.setattr(cuda_module, "_runtime", lambda stand_in=stand_in: stand_in)
        monkeypatch.setattr(tensorrt_module, "DeviceSession", mutant(number))
        try:
            scenario((stand_in, TensorRtLibrary("tensorrt", stand_in_tensorrt(stand_in))))
        except (AssertionError, EngineError, KeyError):
            failures += 1
        gc.collect()
    assert failures, f"nothing notices that {MUTATIONS[number]} is missing"


def test_a_failed_start_gives_everything_back(machine, monkeypatch):
    stand_in, library = machine
    cuda, real = Cuda(), stand_in.cudaMalloc
    calls = iter(range(100))
    monkeypatch.setattr(stand_in, "cudaMalloc", lambda size: real(size) if next(calls) < 3 else (2, None))
    with pytest.raises(EngineError, match=r"cudaHostAlloc|cudaMalloc"):
        TensorRtEngine("fusion", plan("a", "b"), library, cuda)
    gc.collect()
    assert stand_in.alive == [0, 0, 0, 0]


def test_a_reader_that_is_gone_holds_nobody_up(machine):
    stand_in, library = machine
    cuda = Cuda()
    encoder = TensorRtEngine("encoder", plan("x"), library, cuda)
    fusion = TensorRtEngine("fusion", plan("a", "b"), library, cuda)
    latent = encoder.start({"x": full(1)})["out"]
    assert fusion({"a": latent, "b": latent})["out"][0] == 8
    del fusion
    gc.collect()
    np.testing.assert_array_equal(encoder({"x": full(5)})["out"], full(10))
    del encoder, latent
    gc.collect()
    assert stand_in.alive == [0, 0, 0, 0]
