# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: on the CPU the default engine and the reference for every other; on a GPU by its own providers."""

import logging
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from peft_dml_ros.core.bundle import GraphContent
from peft_dml_ros.core.engine import Constant, EngineArray, check_feeds
from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.onnx_graph import require_inside, rescaled
from peft_dml_ros.core.spec import TensorTable
from peft_dml_ros.core.typing import AnyArray
from peft_dml_ros.engines.cache import cache_folder
from peft_dml_ros.engines.tensorrt_library import preload_rtx

log = logging.getLogger(__name__)

_DTYPES: Final = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
}
CPU: Final = "CPUExecutionProvider"
RTX_PROVIDER: Final = "NvTensorRTRTXExecutionProvider"
#: Providers by engine name, in the order in which they get to choose nodes
PROVIDERS: Final = {
    "onnxruntime": (CPU,),
    "onnxruntime-tensorrt-rtx": (RTX_PROVIDER, CPU),
    "onnxruntime-cuda": ("CUDAExecutionProvider", CPU),
    "onnxruntime-tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", CPU),
}

#: Name of the one zero point of all tensors that are never negative, in a quantised graph
RELU_ZERO_POINT: Final = b"relu_zero_point"

_SIGNED: Final = b"\x10\x03\x42\x0f" + RELU_ZERO_POINT
_UNSIGNED: Final = b"\x10\x02\x42\x0f" + RELU_ZERO_POINT
#: Steps of an unsigned tensor against those of a signed one of the same range; the last code must not lie beyond the
#: bound of a ReLU6, or ONNX Runtime keeps that as an operator of its own
_FINER: Final = 127 / 255 * (1 - 1e-6)


class OnnxRuntimeEngine:
    """One ONNX graph with static shapes.

    It has shapes and types of its inputs and outputs, and the wall time of its last run. Raises EngineError: the file
    is no loadable graph, or keeps weights in another file.

    Args:
        graph: ONNX file, or a bundle's graph with its adapters merged.
        threads: Threads within an operator; 0 takes one per core.
        engine: Key of `PROVIDERS`. A provider that is not there is left out with one line in the log.
    """

    def __init__(self, graph: Path | GraphContent, threads: int = 2, engine: str = "onnxruntime") -> None:
        options, providers = _options(threads), _available(engine)
        path, content = (graph, graph.read_bytes()) if isinstance(graph, Path) else graph
        require_inside(path, content)
        try:
            if RTX_PROVIDER in providers:
                options.add_provider_for_devices(_rtx_devices(), {})
            model = for_cpu(content) if providers == (CPU,) else content
            chosen = None if options.has_providers() else _with_options(providers)
            self._session = ort.InferenceSession(model, options, providers=chosen)
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime {ort.__version__} cannot load {path}: {error};"
                " fix: restore the bundle from its source, or export it again"
            ) from error
        if missing := [p for p in providers if p not in self._session.get_providers()]:
            log.warning(
                "%s does not start here, %s runs on the CPU; fix: see peft-dml doctor",
                missing[0],
                path.name,
            )
        self.inputs, self.outputs = _table(self._session.get_inputs()), _table(self._session.get_outputs())
        self._path = path
        self.elapsed_ms = 0.0

    def __call__(self, feeds: Mapping[str, EngineArray]) -> dict[str, AnyArray]:
        """Run the graph; the inputs are bound where they lie, the outputs are the caller's own.

        Raises EngineError: an input is missing, superfluous, or has another shape or dtype.
        """
        start = perf_counter()
        try:
            binding = self._session.io_binding()
            for name, array in feeds.items():
                held = array.array if isinstance(array, Constant) else array
                binding.bind_cpu_input(name, np.ascontiguousarray(held))
            for name in self.outputs:
                binding.bind_output(name)
            self._session.run_with_iobinding(binding)
        except Exception:
            # ONNX Runtime refuses what does not fit, too; this names it better.
            check_feeds(self._path.name, feeds, self.inputs)
            raise
        self.elapsed_ms = (perf_counter() - start) * 1e3
        return dict(zip(self.outputs, binding.copy_outputs_to_cpu(), strict=True))

    start = __call__  # on a CPU nothing is gained by not waiting

    def warm_up(self) -> None:
        """Run once on zeros."""
        self({name: np.zeros(shape, dtype=dtype) for name, (shape, dtype) in self.inputs.items()})


def _table(tensors: Sequence[Any]) -> TensorTable:
    return {t.name: (tuple(t.shape), _DTYPES.get(t.type, t.type)) for t in tensors}


def for_cpu(model: bytes) -> bytes:
    """Return a quantised graph with its never negative tensors unsigned, as the CPU's kernels want them.

    TensorRT takes signed 8 bit with zero point 0 only, so that such tensors use half of the codes. Read as unsigned,
    with steps half as wide, they use all of them; what is below 0 is cut off by the type, so that ONNX Runtime needs no
    separate ReLU and joins it with the convolution before it. All such tensors share one zero point: the data type of
    that initialiser, which precedes its name, is all that has to change besides the scales.
    """
    if _SIGNED not in model:
        return model
    return rescaled(model.replace(_SIGNED, _UNSIGNED), RELU_ZERO_POINT.decode(), _FINER)


@cache
def _available(engine: str) -> tuple[str, ...]:
    """Return the providers of an engine that are here; what is missing is logged once in a process."""
    wanted, here = PROVIDERS[engine], ort.get_available_providers()
    fix = "fix: install onnxruntime-gpu instead of it"
    if RTX_PROVIDER in wanted:
        try:
            here = [*here, *(d.ep_name for d in _rtx_devices())]
            fix = "no RTX card is visible; fix: check nvidia-smi"
        except EngineError as error:
            fix = str(error)
    if missing := [p for p in wanted if p not in here]:
        going_on = next(p for p in wanted if p in here)
        log.warning("engine %s: no %s here; %s; going on with %s", engine, missing[0], fix, going_on)
    return tuple(p for p in wanted if p in here)


@cache
def _rtx_devices() -> tuple[Any, ...]:
    """Return the devices of the plug-in provider, which registers itself once in a process.

    Raises EngineError: its wheel or a library that it needs is missing.
    """
    try:
        folder = preload_rtx("libcudart.so.*", "libtensorrt_rtx.so.*", "libtensorrt_onnxparser_rtx.so.*")
        library = "" if folder is None else str(folder / "libonnxruntime_providers_nv_tensorrt_rtx.so")
        if library:
            ort.register_execution_provider_library(RTX_PROVIDER, library)
    except Exception as error:  # its types have no common base but this
        raise EngineError(f"fix: install NVIDIA's driver ({str(error).rpartition('error: ')[2]})") from error
    if not library:
        raise EngineError("fix: pip install 'peft_dml_ros[tensorrt-rtx]'")
    return tuple(device for device in ort.get_ep_devices() if device.ep_name == RTX_PROVIDER)


def _with_options(providers: tuple[str, ...]) -> list[str | tuple[str, dict[str, Any]]]:
    folder = cache_folder() / "onnxruntime"
    if "TensorrtExecutionProvider" in providers:
        folder.mkdir(parents=True, exist_ok=True)
    cache = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder)}
    return [(p, cache) if p == "TensorrtExecutionProvider" else p for p in providers]


@cache
def _has_vnni() -> bool:
    """Return True unless this is an x86 processor without integer dot products."""
    about = Path("/proc/cpuinfo")
    return not about.is_file() or platform.machine() != "x86_64" or "vnni" in about.read_text()


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Spinning idle threads would steal the cores that decode the next frame.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not _has_vnni():
        # Products of 8 bit would overflow on such processors; on all others this would cost half the speed.
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3
    return options
