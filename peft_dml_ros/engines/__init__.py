# SPDX-License-Identifier: Apache-2.0
"""Inference engines behind one interface; the only place that imports an inference library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from peft_dml_ros.core.engine import ENGINES
from peft_dml_ros.core.errors import EngineError, nearest

if TYPE_CHECKING:
    from peft_dml_ros.core.bundle import Bundle
    from peft_dml_ros.core.engine import Engine


def load_engines(bundle: Bundle, engine: str = "onnxruntime", threads: int = 2) -> Mapping[str, Engine]:
    """One engine per graph of a bundle.

    Args:
        bundle: Verified bundle.
        engine: One of `ENGINES`.
        threads: Threads per graph on the CPU; 0 takes one per core.

    Raises:
        EngineError: unknown engine, a library or GPU that it needs is missing, or a graph that it cannot load.
    """
    if engine not in ENGINES:
        msg = f"unknown engine '{engine}'; {nearest(engine, ENGINES)}"
        raise EngineError(msg)
    # The libraries are heavy, and only one of them is needed.
    if engine == "tensorrt":
        from peft_dml_ros.engines.tensorrt import load_tensorrt_engines  # noqa: PLC0415

        return load_tensorrt_engines(bundle)
    from peft_dml_ros.engines.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415

    return {
        name: OnnxRuntimeEngine(bundle.path / graph.file, threads, engine)
        for name, graph in bundle.manifest.graphs.items()
    }
