# SPDX-License-Identifier: Apache-2.0
"""ONNX to a TensorRT engine, strongly typed: the precision is the graph's own, in TensorRT 10 and 11 alike."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any, Final

from peft_dml_ros.core.bundle import Bundle, sha256
from peft_dml_ros.core.errors import BundleError, EngineError
from peft_dml_ros.engines.cache import BuildProfile, EngineKey, cached, engine_path, require_space, write_atomically
from peft_dml_ros.engines.cuda import Gpu
from peft_dml_ros.engines.graph_file import read_graph

log = logging.getLogger(__name__)

OLDEST_MAJOR: Final = 10
PROGRESS_EVERY_S: Final = 5.0
SIZE_FACTOR: Final = 4
"""An engine holds the weights, at times in more than one layout."""

SPARE_BYTES: Final = 64 << 20


def load_tensorrt() -> Any:
    """The module `tensorrt`.

    Raises:
        EngineError: it is missing or too old.
    """
    try:
        trt = import_module("tensorrt")
    except ImportError as error:
        msg = (
            f"the TensorRT engine needs the Python module 'tensorrt' ({error}); on a PC: pip install tensorrt-cu12, on"
            " a Jetson it comes with JetPack (docs/jetson.md); or use engine: onnxruntime"
        )
        raise EngineError(msg) from error
    if int(trt.__version__.partition(".")[0]) < OLDEST_MAJOR:
        msg = f"TensorRT {trt.__version__} is too old: 10 or newer is needed (JetPack 6.1 or newer on a Jetson)"
        raise EngineError(msg)
    return trt


def engine_key(bundle: Bundle, graph: str, trt: Any, gpu: Gpu, profile: BuildProfile) -> EngineKey:
    """What the engine of a graph depends on."""
    return EngineKey(
        onnx_sha256=bundle.manifest.files[bundle.manifest.graphs[graph].file],
        precision=bundle.manifest.precision,
        library=f"TensorRT {trt.__version__}",
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        driver=gpu.driver,
        profile=profile,
    )


def plan_of(bundle: Bundle, graph: str, trt: Any, gpu: Gpu, profile: BuildProfile, folder: Path) -> bytes:
    """Serialised engine of one graph, from the cache or built now.

    Raises:
        BundleError: the graph's file is not what the manifest says.
        EngineError: it cannot be built or stored, or there is no space to store it; engines built before stay.
    """
    key = engine_key(bundle, graph, trt, gpu, profile)
    onnx = bundle.path / bundle.manifest.graphs[graph].file
    timing = folder / f"timing-{gpu.compute_capability}-{trt.__version__}.cache"

    def build() -> bytes:
        if (found := sha256(onnx)) != key.onnx_sha256:
            msg = f"{onnx}: sha256 is {found}, the manifest says {key.onnx_sha256}; restore the bundle from its source"
            raise BundleError(msg)
        require_space(folder, SIZE_FACTOR * onnx.stat().st_size + SPARE_BYTES)
        return build_plan(onnx, trt, profile, timing)

    return cached(engine_path(folder, f"{bundle.manifest.name}-{graph}", key), key, build, log.warning)


def build_plan(onnx: Path, trt: Any, profile: BuildProfile, timing: Path) -> bytes:
    """Build; takes from seconds to minutes.

    Args:
        onnx: Graph with static shapes.
        trt: Module `tensorrt`.
        profile: How hard to try.
        timing: File with the timings of kernels tried before; read if there is one, and written anew.

    Raises:
        EngineError: the graph cannot be read, or TensorRT finds no implementation.
    """
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(read_graph(onnx)):
        reasons = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        msg = f"TensorRT {trt.__version__} cannot read {onnx}: {reasons}; export the bundle again"
        raise EngineError(msg)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, profile.workspace_mib << 20)
    config.builder_optimization_level = profile.optimization_level
    if not profile.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    config.progress_monitor = make_progress(trt, onnx.stem)
    cache = config.create_timing_cache(timing.read_bytes() if timing.is_file() else b"")
    # A cache of another GPU is refused by TensorRT itself and then merely missing.
    config.set_timing_cache(cache, ignore_mismatch=False)
    start = monotonic()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        msg = f"TensorRT {trt.__version__} cannot build {onnx}: {logger.last_error or 'no reason given'}"
        raise EngineError(msg)
    log.info("built %s in %.0f s", onnx.name, monotonic() - start)
    try:
        write_atomically(timing, bytes(config.get_timing_cache().serialize()))
    except EngineError as error:
        # Only the next build would have been faster.
        log.warning("%s", error)
    return bytes(plan)


def make_logger(trt: Any) -> Any:
    """TensorRT's messages into Python's log; the last error is kept."""

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


def make_progress(trt: Any, graph: str) -> Any:
    """Tells every few seconds how far a build is."""

    class Progress(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._told = monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if monotonic() - self._told > PROGRESS_EVERY_S:
                self._told = monotonic()
                log.warning("building %s: %s, step %d of %d", graph, phase_name, step, self._steps.get(phase_name, 0))
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Progress()
