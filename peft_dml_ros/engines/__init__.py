# SPDX-License-Identifier: Apache-2.0
"""Inference engines behind one interface; the only place that imports an inference library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peft_dml_ros.core.errors import EngineError, nearest

if TYPE_CHECKING:
    from peft_dml_ros.core.bundle import Bundle
    from peft_dml_ros.core.engine import Engine

ENGINES = ("onnxruntime",)


def load_engines(bundle: Bundle, engine: str = "onnxruntime", threads: int = 2) -> dict[str, Engine]:
    """One engine per graph of a bundle.

    Args:
        bundle: Verified bundle.
        engine: Name of the inference library.
        threads: Threads per graph; 0 takes one per core.

    Raises:
        EngineError: unknown engine, or a graph that it cannot load.
    """
    if engine not in ENGINES:
        msg = f"unknown engine '{engine}'; {nearest(engine, ENGINES)}"
        raise EngineError(msg)
    from peft_dml_ros.engines.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415 (heavy, and only now needed)

    return {
        name: OnnxRuntimeEngine(bundle.path / graph.file, threads=threads)
        for name, graph in bundle.manifest.graphs.items()
    }
