# SPDX-License-Identifier: Apache-2.0
"""Inference engines behind one interface; the only place that imports an inference library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from peft_dml_ros.core.engine import ENGINES
from peft_dml_ros.core.errors import BundleError, EngineError, nearest

if TYPE_CHECKING:
    from peft_dml_ros.core.bundle import Bundle
    from peft_dml_ros.core.engine import Engine


def load_engines(
    bundle: Bundle, engine: str = "onnxruntime", threads: int = 2, precision: str = ""
) -> Mapping[str, Engine]:
    """Return one engine per graph of a bundle.

    Args:
        bundle: Verified bundle.
        engine: One of `ENGINES`.
        threads: Threads per graph on the CPU; 0 takes one per core.
        precision: One that the bundle holds, or `auto` for the one that suits the engine; its own when empty.

    Raises:
        BundleError: the bundle does not hold the precision, or a file is not the graph that the manifest describes.
        EngineError: unknown engine, a library or GPU that it needs is missing, or a graph that it cannot load.
    """
    if engine not in ENGINES:
        msg = f"unknown engine '{engine}'; {nearest(engine, ENGINES)}"
        raise EngineError(msg)
    precision = suitable_precision(bundle, engine) if precision == "auto" else precision
    engines: Mapping[str, Engine]
    # The libraries are heavy, and only one of them is needed.
    if engine in {"tensorrt", "tensorrt-rtx"}:
        from peft_dml_ros.engines.tensorrt import load_tensorrt_engines  # noqa: PLC0415

        engines = load_tensorrt_engines(bundle, engine, precision)
    else:
        from peft_dml_ros.engines.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415

        graphs = bundle.manifest.graphs
        engines = {g: OnnxRuntimeEngine(bundle.graph(g, precision), threads, engine) for g in graphs}
    for name, made in engines.items():
        _refuse_other_tensors(bundle, name, made)
    return engines


def suitable_precision(bundle: Bundle, engine: str) -> str:
    """Return the precision that an engine runs fastest without a loss worth naming, of those that a bundle holds."""
    wanted = "int8" if engine == "onnxruntime" else "" if engine == "openvino" else "fp16"
    return wanted if wanted in bundle.precisions else ""


def _refuse_other_tensors(bundle: Bundle, name: str, engine: Engine) -> None:
    """The file's hash is right, but is it the graph that the manifest describes?"""
    graph = bundle.manifest.graphs[name]
    for kind, found, infos in (("inputs", engine.inputs, graph.inputs), ("outputs", engine.outputs, graph.outputs)):
        declared = {tensor: (info.shape, info.dtype) for tensor, info in infos.items()}
        if found != declared:
            msg = f"{bundle.path / graph.file}: its {kind} are {found}, the manifest says {declared}; export it again"
            raise BundleError(msg)
