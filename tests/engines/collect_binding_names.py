# SPDX-License-Identifier: Apache-2.0
"""Writes binding_names.json: the names that every tried version of TensorRT's and CUDA's Python bindings has.

Run by hand when a new version comes out, with all versions; no GPU and no TensorRT is needed, only a C compiler:
    pip download --no-deps -d wheels tensorrt-cu12-bindings==10.3.0   (and so on; tensorrt-rtx-cu12-bindings,
    cuda-bindings and cuda-pathfinder too)
    python tests/engines/collect_binding_names.py wheels/*.whl
The bindings import TensorRT's libraries, which are not in the wheels; libraries with empty functions stand in for them.
"""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TARGET = Path(__file__).with_name("binding_names.json")
CLASSES = (
    "Builder",
    "BuilderFlag",
    "DataType",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILogger",
    "INetworkDefinition",
    "IProgressMonitor",
    "ITimingCache",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "Runtime",
    "TensorIOMode",
)
STUB = """
void *createInferBuilder_INTERNAL(void *l, int v) { return 0; }
void *createInferRefitter_INTERNAL(void *a, void *b, int v) { return 0; }
void *createInferRuntime_INTERNAL(void *l, int v) { return 0; }
void *createNvOnnxParser_INTERNAL(void *a, void *b, int v) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void *a, void *b, int v) { return 0; }
void *getBuilderPluginRegistry(int c) { return 0; }
void *getPluginRegistry(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void *l, const char *n) { return 0; }
"""
LIST_TENSORRT = f"""
import json, importlib, sys
trt = importlib.import_module(sys.argv[1])
names = {{c: [n for n in dir(getattr(trt, c)) if not n.startswith("__")] for c in {CLASSES!r}}}
names["ILogger.Severity"] = dir(trt.ILogger.Severity)
names["ComputeCapability"] = dir(getattr(trt, "ComputeCapability", None))
names[""] = dir(trt)
print(json.dumps([trt.__version__, names]))
"""
LIST_CUDA = """
import json
from cuda.bindings import runtime
kinds = ("cudaMemcpyKind", "cudaStreamCaptureMode", "cudaError_t")
names = {k: dir(getattr(runtime, k)) for k in kinds}
names[""] = [n for n in dir(runtime) if n.startswith("cuda")]
print(json.dumps(names))
"""


def listed(program: str, wheels: list[Path], folder: Path, libraries: str = "", module: str = "") -> list | dict:
    for wheel in wheels:
        zipfile.ZipFile(wheel).extractall(folder)
    environment = os.environ | {"PYTHONPATH": str(folder), "LD_LIBRARY_PATH": libraries}
    done = subprocess.run(
        [sys.executable, "-c", program, module], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def stub_libraries(folder: Path, *files: str) -> str:
    source = folder / "stub.c"
    source.write_text(STUB)
    for file in files:
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{file}", "-o", str(folder / file), str(source)]
        subprocess.run(command, check=True)
    return str(folder)


def common(tables: list[dict[str, list[str]]]) -> dict[str, list[str]]:
    return {key: sorted(set.intersection(*(set(t[key]) for t in tables))) for key in tables[0]}


def main(wheels: list[Path]) -> None:
    tensorrt, rtx, cuda = {}, {}, {}
    pathfinder = [w for w in wheels if w.name.startswith("cuda_pathfinder")]
    for wheel in wheels:
        version = wheel.name.split("-")[1]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if wheel.name.startswith("tensorrt_rtx"):
                stubs = stub_libraries(folder, "libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1")
                found, names = listed(LIST_TENSORRT, [wheel], folder, stubs, "tensorrt_rtx_bindings")
                rtx[found] = names
            elif wheel.name.startswith("tensorrt"):
                major = version.partition(".")[0]
                names = (f"lib{name}.so.{major}" for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"))
                found, names = listed(
                    LIST_TENSORRT, [wheel], folder, stub_libraries(folder, *names), "tensorrt_bindings"
                )
                tensorrt[found] = names
            elif wheel.name.startswith("cuda_bindings"):
                cuda[version] = listed(LIST_CUDA, [wheel, *pathfinder], folder)
    content = {
        "tensorrt": {"versions": sorted(tensorrt), "names": common(list(tensorrt.values()))},
        "tensorrt-rtx": {"versions": sorted(rtx), "names": common(list(rtx.values()))},
        "cuda": {"versions": sorted(cuda), "names": common(list(cuda.values()))},
    }
    TARGET.write_text(json.dumps(content, indent=0) + "\n")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
