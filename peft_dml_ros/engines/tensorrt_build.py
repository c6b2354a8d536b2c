# SPDX-License-Identifier: Apache-2.0
"""ONNX to a TensorRT engine, strongly typed: the precision is the graph's own, in every TensorRT alike."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, Final

from peft_dml_ros.core.bundle import Bundle, GraphContent
from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.onnx_graph import require_inside
from peft_dml_ros.engines.cache import (
    BuildProfile,
    EngineKey,
    cache_folder,
    find_engine,
    require_space,
    write_atomically,
    write_engine,
)
from peft_dml_ros.engines.cuda import Cuda, Gpu
from peft_dml_ros.engines.tensorrt_library import RTX, TensorRtLibrary, load_tensorrt, make_logger

log = logging.getLogger(__name__)

PROGRESS_EVERY_S: Final = 5.0
SPARE_BYTES: Final = 64 << 20
SIZE_FACTOR: Final = 4  #: An engine holds the weights, at times in more than one layout


@dataclass(frozen=True, slots=True)
class EngineStore:
    """The engines of one bundle for one kind of GPU: found in the cache, or built."""

    bundle: Bundle  #: Verified bundle
    precision: str  #: One of the bundle's; its own when empty
    library: TensorRtLibrary  #: TensorRT
    cuda: Cuda | None  #: CUDA runtime; none when engines are built ahead of time
    gpu: Gpu | None  #: The GPU at hand; none likewise
    capabilities: tuple[str, ...]  #: Compute capabilities that an engine must serve
    folder: Path  #: Cache

    def plan(self, graph: str, profile: BuildProfile | None = None) -> bytes:
        """Return the engine of a graph, from the cache or built now; without a profile whatever is stored will do.

        Raises BundleError: the graph's file is not what the manifest says. Raises EngineError: it cannot be built or
        stored, or there is no space to store it; engines built before stay.
        """
        content = self.bundle.graph(graph, self.precision)
        name, key = f"{self.bundle.manifest.name}-{graph}", self._key(content.sha256, profile)
        if plan := find_engine(self.folder, name, key, log.warning):
            return plan
        if self.library.engine != RTX:
            log.warning("no engine yet for %s: building it takes minutes, once", name)
        require_space(self.folder, SIZE_FACTOR * len(content.content) + SPARE_BYTES)
        timing = self.folder / f"timing-{'-'.join((*self.capabilities, key.library)).replace(' ', '_')}.cache"
        key = replace(key, profile=profile or BuildProfile())
        plan = build_plan(content, self.library, key, timing)
        write_engine(self.folder, name, key, plan)
        return plan

    def _key(self, digest: str, profile: BuildProfile | None) -> EngineKey:
        # TensorRT for RTX chooses kernels on the vehicle; classic TensorRT has timed them on one GPU with one driver.
        tuned = self.gpu if self.library.engine != RTX else None
        name, driver = (tuned.name, tuned.driver) if tuned else ("", "")
        return EngineKey(digest, self.library.name, self.capabilities, name, driver, profile)


def open_store(
    bundle: Bundle, engine: str, precision: str = "", capabilities: tuple[str, ...] = (), folder: Path | None = None
) -> EngineStore:
    """Return the store of a bundle's engines.

    Raises BundleError: the bundle does not hold the precision; EngineError: TensorRT, CUDA or a GPU is missing, or
    TensorRT does not build for this one.

    Args:
        bundle: Verified bundle.
        engine: `tensorrt` or `tensorrt-rtx`.
        precision: One of the bundle's; its own when empty.
        capabilities: GPUs to build for without having them, e.g. "8.9"; the GPU at hand when empty.
        folder: Cache; `cache_folder()` if none.
    """
    bundle.graph_file("fusion", precision)  # refuses a precision that the bundle does not hold
    library, cuda, gpu = load_tensorrt(engine), None, None
    if not capabilities:
        try:
            cuda = Cuda()
            gpu = cuda.gpu()
        except EngineError as error:
            if engine != RTX:
                raise
            msg = f"{error}; hint: to build ahead, name the GPU: --compute-capability {library.capabilities[-1]}"
            raise EngineError(msg) from error
        capabilities = (gpu.compute_capability,)
    elif engine != RTX:
        msg = "engine: tensorrt builds for the GPU at hand only"
        raise EngineError(f"{msg}; fix: leave --compute-capability out, or use tensorrt-rtx")
    if engine == RTX and (unknown := [c for c in capabilities if c not in library.capabilities]):
        of = f" of {gpu.name}" if gpu else ""
        raise EngineError(
            f"{library.name} does not know compute capability {unknown[0]}{of}; it knows"
            f" {', '.join(library.capabilities)} (RTX cards); fix: use engine: tensorrt or onnxruntime-cuda there"
        )
    return EngineStore(bundle, precision, library, cuda, gpu, capabilities, folder or cache_folder())


@dataclass(frozen=True, slots=True)
class ParsedNetwork:
    """A graph as TensorRT has read it."""

    builder: Any  #: Builds it
    network: Any  #: Its layers
    parser: Any  #: Holds the weights, so it must live as long as the network
    logger: Any  #: Has the last error


def parse_graph(content: bytes, name: str, trt: Any) -> ParsedNetwork:
    """Read a graph into a strongly typed network.

    Raises EngineError: TensorRT does not take the graph; the reasons are named.

    Args:
        content: ONNX graph with static shapes.
        name: Name of the network: plans are equal byte by byte only if it is.
        trt: TensorRT's module.
    """
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    network.name = name
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(content):
        reasons = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineError(f"TensorRT {trt.__version__} cannot read {name}: {reasons}; fix: export the bundle again")
    return ParsedNetwork(builder, network, parser, logger)


def build_plan(graph: GraphContent, library: TensorRtLibrary, key: EngineKey, timing: Path | None = None) -> bytes:
    """Build; takes below a second with TensorRT for RTX, up to minutes with the classic one.

    Raises EngineError: the graph cannot be read, or TensorRT finds no implementation.

    Args:
        graph: Graph with static shapes.
        library: TensorRT.
        key: For which GPUs, and how.
        timing: File with the timings of kernels tried before; read if there is one, and written again.
    """
    trt, profile, start = library.trt, key.profile or BuildProfile(), monotonic()
    onnx = graph.path
    require_inside(*graph)
    parsed = parse_graph(graph.content, onnx.stem, trt)
    config = parsed.builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, profile.workspace_mib << 20)
    config.builder_optimization_level = profile.optimization_level
    if not profile.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if library.engine == RTX:
        config.num_compute_capabilities = len(key.capabilities)
        for index, capability in enumerate(key.capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}"), index)
    elif timing:
        config.progress_monitor = _make_progress(trt, onnx.stem)
        cache = config.create_timing_cache(timing.read_bytes() if timing.is_file() else b"")
        # A cache of another GPU is refused by TensorRT itself and then merely missing.
        config.set_timing_cache(cache, ignore_mismatch=False)
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    if plan is None:
        msg = f"{library.name} cannot build {onnx}: {parsed.logger.last_error or 'no reason given'}"
        raise EngineError(f"{msg}; fix: engine: onnxruntime")
    log.info("built %s in %.1f s", onnx.name, monotonic() - start)
    if timing and library.engine != RTX:
        try:
            write_atomically(timing, bytes(config.get_timing_cache().serialize()))
        except EngineError as error:
            log.warning("%s", error)  # only the next build would have been faster
    return bytes(plan)


def _make_progress(trt: Any, graph: str) -> Any:
    """Return a monitor that logs every few seconds how far a build is."""

    class BuildProgress(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._logged_s = monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            pass

        def step_complete(self, phase_name: str, step: int) -> bool:
            if monotonic() - self._logged_s > PROGRESS_EVERY_S:
                self._logged_s = monotonic()
                log.warning("building %s: %s, step %d", graph, phase_name, step)
            return True

        def phase_finish(self, phase_name: str) -> None:
            pass

    return BuildProgress()
