# SPDX-License-Identifier: Apache-2.0
"""The way of a frame, from a snapshot of the sensors to boxes. The node, the bag runner and the tests all call this."""

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Final, TypeVar

import numpy as np

from peft_dml_ros.core import latents, pillars
from peft_dml_ros.core.boxes import Boxes3D, decode_candidates, non_maximum_suppression
from peft_dml_ros.core.bundle import Bundle
from peft_dml_ros.core.classes import DETECTING, MODALITIES, Modality
from peft_dml_ros.core.engine import Constant, DeviceArray, Engine, EngineArray
from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.inputs import EncoderInputs, InputAssembler, NetworkInputs
from peft_dml_ros.core.latents import Latent
from peft_dml_ros.core.load import Effort, spare_cores
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.motion import EgoMotion
from peft_dml_ros.core.params import DetectionParams
from peft_dml_ros.core.pillars import TRAINED
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import CONSTANT_INPUTS, graph_outputs
from peft_dml_ros.core.typing import AnyArray, Float32Array

Outputs = TypeVar("Outputs")

#: An encoder with a pace of its own runs this much before its time, since frames come at times of their own
EARLY_NS: Final = 30_000_000


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes of one frame and how they came about."""

    stamp_ns: int  #: Time of the reference sensor's measurement; the boxes are in `base_link` at this time
    reference: str  #: Name of the reference sensor
    boxes: Boxes3D  #: Best first
    mask: Float32Array  #: (5,) float32, 1 for each modality that was used, in `MODALITIES` order
    gate: Float32Array  #: (5,) float32 mean weight that the fusion gave each modality; sums to 1, or 0 when blind
    age_s: Float32Array  #: (5,) float32 mean age of each modality
    completeness: Float32Array  #: (5,) float32 share of each modality that arrived
    #: Wall time of each stage where it ran. Stages of several threads overlap; an encoder that did not run has no time,
    #: and one whose map was moved has it under `moved`.
    stages_ms: dict[str, float] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)  #: Measurements dropped in this frame, by reason
    gated: dict[str, str] = field(default_factory=dict)  #: Reason by sensor for each sensor that was left out

    @property
    def blind(self) -> bool:
        """True when no LiDAR, camera or radar was there."""
        return not any(self.mask[MODALITIES.index(m)] for m in DETECTING)


class StageClock:
    """Wall time by stage, measured in the thread that works on it."""

    def __init__(self) -> None:
        self.stages_ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        start = perf_counter()
        try:
            yield
        finally:
            self.stages_ms[stage] = self.stages_ms.get(stage, 0.0) + (perf_counter() - start) * 1e3


class Detector:
    """Snapshot in, boxes out.

    Args:
        bundle: Model facts and calibration.
        rig: Sensors with their mounting.
        engines: One per graph of the bundle.
        params: Threshold, number of boxes, suppression; may be replaced between frames.
        threads: Image decoders, 0 takes what the machine has to spare; with more than one, cameras are decoded and
            encoded in a thread of their own while the other sensors are.
        effort: How often encoders run; may be replaced between frames.
    """

    def __init__(
        self,
        bundle: Bundle,
        rig: Rig,
        engines: Mapping[str, Engine],
        params: DetectionParams | None = None,
        threads: int = 2,
        effort: Effort | None = None,
    ) -> None:
        self.bundle, self.rig, self.params = bundle, rig, params or DetectionParams()
        self._spec = bundle.spec
        self.effort = effort or Effort()
        self._engines = engines
        threads = threads or spare_cores()
        self._assemble = InputAssembler(bundle.spec, rig, threads, {**TRAINED, **bundle.manifest.trained_ranges})
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cameras") if threads > 1 else None
        self._latents: dict[Modality, Latent] = {}
        self._temperatures: dict[tuple[str, ...], float] = {}
        outputs = graph_outputs(bundle.spec)
        self._absent: dict[Modality, EngineArray] = {
            m: Constant(np.zeros(outputs[m]["latent"][0], dtype=np.float32)) for m in MODALITIES
        }

    def __call__(self, snapshot: Snapshot) -> Detections:
        """Detect objects with whatever sensors the snapshot holds; blind, find nothing and say so."""
        clock, motion, stamp_ns = StageClock(), EgoMotion(snapshot), snapshot.stamp_ns
        found = self._moved(snapshot, motion, clock)
        cameras = None if "camera" in found else self._start_cameras(snapshot, clock)
        with clock("inputs"):
            made, drops = self._assemble.without_cameras(snapshot, motion, skip=found, sweeps=self.effort.sweeps)
        # The cameras are encoded in their own thread, if there is one, while these are in this one.
        found |= {m: self._encode(m, made[m], stamp_ns, clock) for m in ("lidar", "radar") if m in made}
        if cameras is not None:
            seen, corrupt = cameras()
            drops += corrupt
            if seen is not None:
                found["camera"] = self._encode("camera", seen, stamp_ns, clock)
        if found:
            found |= {m: self._encode(m, made[m], stamp_ns, clock) for m in ("imu", "gnss") if m in made}
        inputs = NetworkInputs.of(made | {m: latent.inputs for m, latent in found.items()}, drops)
        return self._finish(inputs, found, clock, stamp_ns, snapshot.reference, snapshot.gated)

    def detect(self, inputs: NetworkInputs, stamp_ns: int) -> Detections:
        """Detect objects in inputs that were made before, as evaluation keeps them.

        Args:
            inputs: Of one frame; what has a version is encoded once for all frames that share it.
            stamp_ns: Reference time of the boxes.
        """
        clock, found = StageClock(), dict[Modality, Latent]()
        if any(m in inputs.feeds for m in DETECTING):
            for modality, feeds in inputs.feeds.items():
                made = EncoderInputs(feeds, 0.0, 0.0, frozenset(), inputs.versions.get(modality, 0))
                found[modality] = self._encode(modality, made, stamp_ns, clock)
        return self._finish(inputs, found, clock, stamp_ns)

    def prepare(self, name: str, image: CameraImage) -> None:
        """Start to decode a picture that the next frame will probably ask for; return at once."""
        if not self._paced("camera", image.stamp_ns):
            self._assemble.prepare(name, image)

    def _start_cameras(
        self, snapshot: Snapshot, clock: StageClock
    ) -> Callable[[], tuple[EncoderInputs | None, Counter[str]]]:
        """Return what gives the cameras' inputs; with a thread for them, they are encoded there as well.

        An encoder that has not run yet, or leaves its map on an accelerator, is left to the caller's thread.
        """

        def see() -> tuple[EncoderInputs | None, Counter[str]]:
            with clock("pictures"):
                seen, corrupt = self._assemble.cameras(snapshot)
            last = self._latents.get("camera")
            if self._thread and seen is not None and last is not None and not isinstance(last.array, DeviceArray):
                self._encode("camera", seen, snapshot.stamp_ns, clock)
            return seen, corrupt

        return see if self._thread is None else self._thread.submit(see).result

    def _moved(self, snapshot: Snapshot, motion: EgoMotion, clock: StageClock) -> dict[Modality, Latent]:
        """Return the maps of encoders that need not run for this frame, moved to where the vehicle is now."""
        found: dict[Modality, Latent] = {}
        paced: tuple[Modality, ...] = ("camera", "radar")
        for modality in paced:
            if not self._paced(modality, snapshot.stamp_ns) or not (snapshot.lidar or self.effort.loaded):
                continue
            last, now_SE3_then = self._latents[modality], motion.now_SE3_then(self._latents[modality].stamp_ns)
            # A sensor that came or went, and a vehicle whose motion nobody knows, need a map of their own.
            if now_SE3_then is not None and last.inputs.sources == self._assemble.sources(snapshot, modality):
                with clock("moved"):
                    found[modality] = last.at(snapshot.stamp_ns, now_SE3_then, self._spec.grid)
        return found

    def _paced(self, modality: Modality, stamp_ns: int) -> bool:
        """Return whether an encoder has a pace of its own and ran too short a time before to run again."""
        last = self._latents.get(modality)
        if last is None or not last.inputs.sources or isinstance(last.array, DeviceArray):
            return False
        return 0 < stamp_ns - last.stamp_ns < self.effort.period_ns(modality) - EARLY_NS

    def _encode(self, modality: Modality, inputs: EncoderInputs, stamp_ns: int, clock: StageClock) -> Latent:
        """Run an encoder unless it has run on these inputs; always on an accelerator, which may overwrite results."""
        last = self._latents.get(modality)
        if last is not None and last.inputs.version == inputs.version and not isinstance(last.array, DeviceArray):
            return last
        with clock(modality):
            feeds = {n: Constant(array) if n in CONSTANT_INPUTS else array for n, array in inputs.feeds.items()}
            array = self._run(modality, self._engines[modality].start, feeds)["latent"]
        latent = Latent(array, stamp_ns, replace(inputs, feeds={}))
        self._latents[modality] = latent
        return latent

    def _finish(
        self,
        inputs: NetworkInputs,
        found: Mapping[Modality, Latent],
        clock: StageClock,
        stamp_ns: int,
        reference: str = "",
        gated: Mapping[str, str] | None = None,
    ) -> Detections:
        """Fuse and decode the latents of the present modalities; an absent one stands as zeros."""
        boxes, gate, drops = Boxes3D.empty(), np.zeros(len(MODALITIES), dtype=np.float32), Counter(inputs.drops)
        if any(m in found for m in DETECTING):
            with clock("fusion"):
                outputs = self._fuse(inputs, {m: latent.array for m, latent in found.items()})
            with clock("decode"):
                boxes, gate = self._decode(tuple(found), outputs), outputs["gate"]
            if broken := int((~np.isfinite(outputs["regression"]).all(axis=1) | ~np.isfinite(outputs["scores"])).sum()):
                drops["network: candidate not finite"] += broken
        return Detections(
            stamp_ns=stamp_ns,
            reference=reference,
            boxes=boxes,
            mask=inputs.mask,
            gate=gate,
            age_s=inputs.age_s,
            completeness=inputs.completeness,
            stages_ms=clock.stages_ms,
            drops=dict(drops),
            gated=dict(gated or {}),
        )

    def _fuse(self, inputs: NetworkInputs, found: Mapping[Modality, EngineArray]) -> dict[str, AnyArray]:
        feeds: dict[str, EngineArray] = {str(m): found.get(m, self._absent[m]) for m in MODALITIES}
        feeds |= {"mask": inputs.mask, "age_s": inputs.age_s, "completeness": inputs.completeness}
        return self._run("fusion", self._engines["fusion"], feeds)

    def _decode(self, present: tuple[str, ...], outputs: dict[str, AnyArray]) -> Boxes3D:
        spec = self._spec
        if present not in self._temperatures:
            self._temperatures[present] = self.bundle.temperature(present)
        boxes = decode_candidates(outputs, spec, self.params.score_threshold, self._temperatures[present])
        return non_maximum_suppression(boxes, spec.classes, self.params.nms_scale)[: self.params.max_boxes]

    @staticmethod
    def _run(graph: str, engine: Callable[[Any], Outputs], feeds: Mapping[str, EngineArray]) -> Outputs:
        """Run a graph. Raises EngineError: it could not be run, whatever the library raised."""
        try:
            return engine(feeds)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise EngineError(f"graph '{graph}' failed: {what}; fix: use engine: onnxruntime") from error

    def warm_up(self) -> None:
        """Run every graph and compile every kernel once, so that the first frame is as fast as the rest."""
        for engine in self._engines.values():
            engine.warm_up()
        pillars.compile_kernels()
        latents.compile_kernels()
        box = Boxes3D.make(np.zeros((1, 3)), np.ones((1, 3)), np.zeros(1), np.zeros(1, dtype=np.int64))
        non_maximum_suppression(box, self._spec.classes)
        # What is loaded by now stays: the collector need not look through it again and again while frames come in.
        gc.collect()
        gc.freeze()

    def graphs_ms(self) -> dict[str, float]:
        """Run every graph once more on zeros; return the time that each takes alone."""
        clock = StageClock()
        for name, engine in self._engines.items():
            zeros = {key: np.zeros(shape, dtype=dtype) for key, (shape, dtype) in engine.inputs.items()}
            with clock(name):
                engine(zeros)
        return clock.stages_ms
