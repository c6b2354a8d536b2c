# SPDX-License-Identifier: Apache-2.0
"""Inference engines behind one interface; the only place that imports an inference library."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from peft_dml_ros.core.engine import ENGINES
from peft_dml_ros.core.errors import BundleError, EngineError, nearest

if TYPE_CHECKING:
    from peft_dml_ros.core.bundle import Bundle
    from peft_dml_ros.core.engine import Engine

MOST: Final = 2  #: Models whose engines are kept: the one in use and the one before it
LEAST_FREE_BYTES: Final = 512 << 20  #: Where less memory is free, only the newest engines are kept
Key: TypeAlias = tuple[str, str, int, str]


def load_engines(
    bundle: Bundle, engine: str = "onnxruntime", threads: int = 2, precision: str = ""
) -> Mapping[str, Engine]:
    """Return one engine per graph of a bundle.

    Raises BundleError: the bundle does not hold the precision, or a file is not the graph that the manifest describes;
    EngineError: unknown engine, a library or GPU that it needs is missing, or a graph that it cannot load.

    Args:
        bundle: Verified bundle.
        engine: One of `ENGINES`.
        threads: Threads per graph on the CPU; 0 takes one per core.
        precision: One that the bundle holds, or `auto` for the one that suits the engine; its own when empty.
    """
    engine, precision = choose(bundle, engine, threads, precision)
    engines: Mapping[str, Engine]
    # The libraries are heavy, and only one of them is needed.
    if engine in {"tensorrt", "tensorrt-rtx"}:
        from peft_dml_ros.engines.tensorrt import load_tensorrt_engines  # noqa: PLC0415

        engines = load_tensorrt_engines(bundle, engine, precision)
    elif engine == "openvino":
        from peft_dml_ros.engines.openvino import load_openvino_engines  # noqa: PLC0415

        engines = load_openvino_engines(bundle, threads, precision)
    else:
        from peft_dml_ros.engines.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415

        graphs = bundle.manifest.graphs
        engines = {g: OnnxRuntimeEngine(bundle.graph(g, precision), threads, engine) for g in graphs}
    for name, made in engines.items():
        _refuse_other_tensors(bundle, name, made)
    return engines


def choose(bundle: Bundle, engine: str, threads: int, precision: str) -> tuple[str, str]:
    """Return the engine and precision that `auto` stands for here; others as they are. Raises EngineError: unknown."""
    if engine not in ENGINES:
        raise EngineError(f"unknown engine '{engine}'; {nearest(engine, ENGINES)}")
    if engine == "auto":
        from peft_dml_ros.engines.selection import choose_engine  # noqa: PLC0415

        engine = choose_engine(bundle, threads, lambda name: load_engines(bundle, name, threads, precision), precision)
    return engine, suitable_precision(bundle, engine) if precision == "auto" else precision


def suitable_precision(bundle: Bundle, engine: str) -> str:
    """Return the precision that an engine runs fastest with hardly any loss, of those that a bundle holds.

    CPUs take 8 bit, except that OpenVINO computes float graphs in bfloat16 where the CPU has it; GPUs take 16 bit.
    """
    wanted = "int8" if engine in {"onnxruntime", "openvino"} else "fp16"
    if engine == "openvino":
        from peft_dml_ros.engines.openvino import computes_in_bfloat16  # noqa: PLC0415

        wanted = "" if computes_in_bfloat16() else wanted
    return wanted if wanted in bundle.precisions else ""


def computed_in(bundle: Bundle, engine: str, precision: str) -> str:
    """Return in what an engine computes a precision that `choose` gave: OpenVINO may take bfloat16 for float graphs."""
    if engine == "openvino" and not precision:
        from peft_dml_ros.engines.openvino import computes_in_bfloat16  # noqa: PLC0415

        return "bf16" if computes_in_bfloat16() else bundle.manifest.precision
    return precision or bundle.manifest.precision


def _refuse_other_tensors(bundle: Bundle, name: str, engine: Engine) -> None:
    """Refuse a file whose hash is right, but which is not the graph that the manifest describes."""
    graph = bundle.manifest.graphs[name]
    for kind, found, infos in (("inputs", engine.inputs, graph.inputs), ("outputs", engine.outputs, graph.outputs)):
        declared = {tensor: (info.shape, info.dtype) for tensor, info in infos.items()}
        if found != declared:
            msg = f"{bundle.path / graph.file}: its {kind} are {found}, the manifest says {declared}"
            raise BundleError(f"{msg}; fix: export it again")


class LoadedEngines:
    """The engines of up to `MOST` models, the least recently used go first.

    A model is known by the content of its graphs and adapters, so that files that have changed are loaded again.
    """

    def __init__(self) -> None:
        self._kept: dict[Key, Mapping[str, Engine]] = {}

    def engines(
        self, bundle: Bundle, engine: str, threads: int, precision: str = "auto"
    ) -> tuple[Mapping[str, Engine], bool]:
        """Return one engine per graph, and True where they were loaded now; see `load_engines`.

        Raises EngineError: as `load_engines` does; what is kept stays.
        """
        key = (bundle.identity, engine, threads, precision)
        fresh = key not in self._kept
        found = load_engines(bundle, engine, threads, precision) if fresh else self._kept.pop(key)
        self._kept[key] = found
        while len(self._kept) > (MOST if _free_bytes() >= LEAST_FREE_BYTES else 1):
            del self._kept[next(iter(self._kept))]
        return found, fresh

    def clear(self) -> None:
        """Let all of them go."""
        self._kept.clear()


def _free_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
