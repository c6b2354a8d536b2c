# SPDX-License-Identifier: Apache-2.0
"""OpenVINO for the encoders: on CPUs with bfloat16, twice as fast as ONNX Runtime in 32 bit.

The fusion graph stays with ONNX Runtime, which is faster at it: OpenVINO's TopK takes equal scores in another order
than ONNX asks, and ten times as long when asked for the same order.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from time import perf_counter
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.bundle import Bundle, GraphContent
from peft_dml_ros.core.engine import Engine, EngineArray, check_feeds
from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.onnx_graph import require_inside
from peft_dml_ros.core.spec import TensorTable
from peft_dml_ros.core.typing import AnyArray
from peft_dml_ros.engines.onnxruntime import OnnxRuntimeEngine, for_cpu

OLDEST: Final = (2025, 0)
_DTYPES: Final = {"f32": "float32", "f16": "float16", "i32": "int32", "i64": "int64", "u8": "uint8"}


def load_openvino_engines(bundle: Bundle, threads: int, precision: str) -> dict[str, Engine]:
    """Return one engine per graph of a bundle.

    Raises BundleError: the bundle does not hold the precision; EngineError: OpenVINO is missing or too old, or does not
    load a graph.

    Args:
        bundle: Verified bundle.
        threads: Threads per graph; 0 takes one per core.
        precision: One that the bundle holds. `fp32` is computed in 32 bit; else float graphs in what the CPU is fastest
            in, bfloat16 where it has that.
    """
    engines: dict[str, Engine] = {"fusion": OnnxRuntimeEngine(bundle.graph("fusion", precision), threads)}
    for name, about in bundle.manifest.graphs.items():
        if name not in engines:
            graph, outputs = bundle.graph(name, precision), tuple(about.outputs)
            engines[name] = OpenVinoEngine(graph, outputs, threads, exact=precision == "fp32")
    return engines


class OpenVinoEngine:
    """One ONNX graph with static shapes.

    It has shapes and types of its inputs and outputs, and the wall time of its last run. Raises EngineError: OpenVINO
    is missing or too old, or does not load the graph.

    Args:
        graph: Graph with all of its weights.
        outputs: Names of its outputs; OpenVINO gives a tensor several.
        threads: Threads within an operator; 0 takes one per core.
        exact: Whether float graphs are computed in 32 bit.
    """

    def __init__(self, graph: GraphContent, outputs: tuple[str, ...], threads: int = 2, *, exact: bool = False) -> None:
        require_inside(*graph)
        # Pinned threads lose a third of the frames where others work on the same cores (measured on two).
        settings: dict[str, Any] = {"ENABLE_CPU_PINNING": False, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
        if exact:
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        core = load_openvino()
        try:
            compiled = core.compile_model(core.read_model(for_cpu(graph.content)), "CPU", settings)
        except RuntimeError as error:
            msg = f"OpenVINO cannot load {graph.path}: {error}"
            raise EngineError(f"{msg}; fix: use engine: onnxruntime, or export the bundle again") from error
        self._request, self._name, self.elapsed_ms = compiled.create_infer_request(), graph.path.name, 0.0
        self.inputs: TensorTable = {p.get_node().get_friendly_name(): _shape_and_type(p) for p in compiled.inputs}
        self._ports = {name: port for name in outputs for port in compiled.outputs if name in port.get_names()}
        self.outputs: TensorTable = {
            name: _shape_and_type(self._ports[name]) for name in outputs if name in self._ports
        }

    def __call__(self, feeds: Mapping[str, EngineArray]) -> dict[str, AnyArray]:
        """Run the graph; the inputs are read where they lie, the outputs are the caller's own.

        Raises EngineError: an input is missing, superfluous, or has another shape or dtype.
        """
        check_feeds(self._name, feeds, self.inputs)
        arrays = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        start = perf_counter()
        found = self._request.infer(arrays, share_inputs=True)
        self.elapsed_ms = (perf_counter() - start) * 1e3
        return {name: np.array(found[port]) for name, port in self._ports.items()}

    start = __call__  # on a CPU nothing is gained by not waiting

    def warm_up(self) -> None:
        """Run once on zeros."""
        self({name: np.zeros(shape, dtype=dtype) for name, (shape, dtype) in self.inputs.items()})


@cache
def load_openvino() -> Any:
    """Return OpenVINO's core, one in a process. Raises EngineError: it is missing or too old."""
    try:
        openvino = import_module("openvino")
    except ImportError as error:
        msg = "engine: openvino needs the module 'openvino'; fix: install it: pip install 'peft_dml_ros[openvino]'"
        raise EngineError(f"{msg}, or use engine: onnxruntime") from error
    if tuple(int(part) for part in openvino.__version__.split(".")[:2]) < OLDEST:
        msg = f"OpenVINO {openvino.__version__} is too old"
        raise EngineError(f"{msg}; fix: install a newer one: pip install 'peft_dml_ros[openvino]'")
    return openvino.Core()


def computes_in_bfloat16() -> bool:
    """Return whether the CPU has instructions for bfloat16, which then is OpenVINO's precision for 32-bit graphs."""
    return "BF16" in load_openvino().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _shape_and_type(port: Any) -> tuple[tuple[int, ...], str]:
    kind = port.get_element_type().get_type_name()
    return tuple(port.get_shape()), _DTYPES.get(kind, kind)
