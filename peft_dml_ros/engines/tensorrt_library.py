# SPDX-License-Identifier: Apache-2.0
"""Find TensorRT's Python module: the classic one, or TensorRT for RTX, whose libraries lie in a wheel of their own."""

import ctypes
import logging
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from peft_dml_ros.core.errors import EngineError

log = logging.getLogger(__name__)

RTX: Final = "tensorrt-rtx"
#: Package that carries the libraries of TensorRT for RTX, and its provider for ONNX Runtime
RTX_WHEEL: Final = "onnxruntime_ep_nv_tensorrt_rtx"

OLDEST: Final = {"tensorrt": (10,), RTX: (1, 4)}
MODULES: Final = {"tensorrt": "tensorrt", RTX: "tensorrt_rtx_bindings"}
_INSTALL: Final = {
    "tensorrt": "on a PC: pip install tensorrt-cu12, on a Jetson it comes with JetPack (docs/jetson.md)",
    RTX: "pip install 'peft_dml_ros[tensorrt-rtx]'",
}


@dataclass(frozen=True, slots=True)
class TensorRtLibrary:
    """A TensorRT that is installed."""

    engine: str  #: `tensorrt` or `tensorrt-rtx`
    trt: Any  #: Its Python module; both modules have the same names

    @property
    def name(self) -> str:
        """Name and version."""
        return f"TensorRT{' for RTX' if self.engine == RTX else ''} {self.trt.__version__}"

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities that engines can be built for without the GPU, e.g. "8.9"; classic TensorRT has none."""
        members = dir(self.trt.ComputeCapability) if self.engine == RTX else ()
        numbers = sorted(int(n[2:]) for n in members if n.startswith("SM") and n[2:].isdigit())
        return tuple(f"{n // 10}.{n % 10}" for n in numbers)


def load_tensorrt(engine: str = "tensorrt") -> TensorRtLibrary:
    """Return the TensorRT of an engine. Raises EngineError: the module or its libraries are missing, or too old."""
    try:
        if engine == RTX:
            preload_rtx("libtensorrt_rtx.so.*", "libtensorrt_onnxparser_rtx.so.*")
        library = TensorRtLibrary(engine, import_module(MODULES[engine]))
    except (ImportError, OSError) as error:
        msg = f"engine: {engine} needs the Python module '{MODULES[engine]}' and its libraries ({error});"
        msg += f" fix: {_INSTALL[engine]}; or use engine: onnxruntime"
        raise EngineError(msg) from error
    if tuple(int(part) for part in library.trt.__version__.split(".")[:2]) < OLDEST[engine]:
        wanted = ".".join(map(str, OLDEST[engine]))
        raise EngineError(f"{library.name} is too old; fix: install {wanted} or newer (Jetson: JetPack 6.1 or newer)")
    return library


def preload_rtx(*patterns: str) -> Path | None:
    """Load libraries of the wheel for all modules to see: the linker would not find them by itself.

    Raises OSError: a library does not load. The result is the wheel's folder; none when it is not installed, and the
    libraries may come from elsewhere.
    """
    spec = find_spec(RTX_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    for pattern in patterns:
        for library in sorted(folder.glob(pattern))[-1:]:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return folder


def make_logger(trt: Any) -> Any:
    """Return a logger that passes TensorRT's messages on to Python's log and keeps the last error."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = ""

        def log(self, severity: Any, msg: str) -> None:
            if severity in {trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR}:
                self.last_error = msg
                log.error("TensorRT: %s", msg)
            elif severity == trt.ILogger.Severity.WARNING:
                log.debug("TensorRT: %s", msg)

    return Logger()
