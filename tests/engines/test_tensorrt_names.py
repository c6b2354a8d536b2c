# SPDX-License-Identifier: Apache-2.0
"""Every name of TensorRT and CUDA that the code uses exists in all bindings: TensorRT 10.3 to 11, TensorRT for RTX 1.4
to 1.7, CUDA 11 to 13.

`binding_names.json` was read from the real bindings by collect_binding_names.py; where they are installed, they are
asked as well.
"""

import ast
import json
from importlib import import_module
from pathlib import Path

import pytest

from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.engines.tensorrt_library import load_tensorrt

HERE = Path(__file__).parent
ENGINES = HERE.parents[1] / "peft_dml_ros" / "engines"
NAMES = json.loads((HERE / "binding_names.json").read_text())
CLASS_OF_VARIABLE = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "cache": "ITimingCache",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "_context": "IExecutionContext",
}
FILES = ("tensorrt.py", "tensorrt_build.py", "tensorrt_library.py")
RTX_ONLY = {
    ("IBuilderConfig", "num_compute_capabilities"),
    ("IBuilderConfig", "set_compute_capability"),
    ("", "ComputeCapability"),
}
CLASS_OF_RESULT = {"get_error": "ParserError", "get_timing_cache": "ITimingCache"}


def attributes(*files: str) -> list[ast.Attribute]:
    trees = [ast.parse((ENGINES / file).read_text()) for file in files]
    return [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)]


def used_of_tensorrt() -> set[tuple[str, str]]:
    """(class, name) of each attribute; the class "" is the module."""
    used = set()
    for node in attributes(*FILES):
        owner = ast.unparse(node.value).removeprefix("self.").removeprefix("library.").removeprefix("parsed.")
        if owner == "trt" or owner.startswith("trt."):
            used.add((owner.removeprefix("trt").removeprefix("."), node.attr))
        elif owner in CLASS_OF_VARIABLE:
            used.add((CLASS_OF_VARIABLE[owner], node.attr))
        elif isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
            used |= {(c, node.attr) for method, c in CLASS_OF_RESULT.items() if node.value.func.attr == method}
    for file in FILES:
        for node in ast.walk(ast.parse((ENGINES / file).read_text())):
            if isinstance(node, ast.ClassDef) and ast.unparse(node.bases[0] if node.bases else node).startswith("trt."):
                base = ast.unparse(node.bases[0]).removeprefix("trt.")
                methods = {f.name for f in node.body if isinstance(f, ast.FunctionDef)} - {"__init__"}
                used |= {(base, name) for name in methods}
    return {(owner, name) for owner, name in used if not owner.startswith("__") and name != "__init__"}


def used_of_cuda() -> set[tuple[str, str]]:
    """(enumeration, name); the enumeration "" is the module."""
    used = set()
    for node in ast.walk(ast.parse((ENGINES / "cuda.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            first = node.args[0]
            if node.func.attr in {"call", "_own", "enumerator"} and isinstance(first, ast.Constant):
                owner, _, name = first.value.rpartition(".")
                used.add((owner, name))
            elif node.func.attr == "_copy":
                used.add(("cudaMemcpyKind", f"cudaMemcpy{first.value}"))
    for node in attributes("cuda.py"):
        owner = ast.unparse(node.value)
        if owner == "self._cudart" or owner.startswith("self._cudart."):
            used.add((owner.removeprefix("self._cudart").removeprefix("."), node.attr))
    return used


def test_the_collection_covers_both_generations():
    versions = NAMES["tensorrt"]["versions"]
    assert {v.partition(".")[0] for v in versions} == {"10", "11"}
    assert {v.partition(".")[0] for v in NAMES["cuda"]["versions"]} == {"11", "12", "13"}


@pytest.mark.parametrize(
    ("library", "used"),
    [
        ("tensorrt", used_of_tensorrt() - RTX_ONLY),
        ("tensorrt-rtx", used_of_tensorrt()),
        ("cuda", used_of_cuda()),
    ],
)
def test_every_name_exists_in_every_version(library, used):
    known = NAMES[library]["names"]
    assert len(used) > 15
    assert not {f"{owner}.{name}" for owner, name in used if name not in known.get(owner, ())}


def test_every_call_of_the_sources_was_seen():
    """A variable that is not in the table would escape the check above."""
    found = {name for _, name in used_of_tensorrt()}
    assert {"build_serialized_network", "execute_async_v3", "get_tensor_mode", "desc", "step_complete"} <= found
    assert {name for _, name in RTX_ONLY} <= found
    calls = {name for _, name in used_of_cuda()}
    assert {"cudaMemcpyAsync", "cudaGraphExecDestroy", "cudaEventDestroy", "cudaMemcpyDeviceToDevice"} <= calls


@pytest.mark.parametrize("engine", ["tensorrt", "tensorrt-rtx"])
def test_installed_bindings_have_the_names(engine):
    try:
        trt = load_tensorrt(engine).trt
    except EngineError as error:
        pytest.skip(str(error))
    for owner, name in used_of_tensorrt() - (RTX_ONLY if engine == "tensorrt" else set()):
        holder = trt
        for part in filter(None, owner.split(".")):
            holder = getattr(holder, part)
        assert hasattr(holder, name), f"{owner}.{name} is missing in {engine} {trt.__version__}"


def test_installed_cuda_has_the_names():
    try:
        runtime = import_module("cuda.bindings.runtime")
    except ImportError:
        pytest.skip("no cuda-python")
    for owner, name in used_of_cuda():
        assert hasattr(getattr(runtime, owner) if owner else runtime, name)
