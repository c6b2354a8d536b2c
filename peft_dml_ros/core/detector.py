# SPDX-License-Identifier: Apache-2.0
"""The way of a frame, from a snapshot of the sensors to boxes. The node, the bag runner and the tests all call this."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from peft_dml_ros.core import pillars, sweeps
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.camera_prefetch import CamerasBeside
from peft_dml_ros.core.classes import DETECTING, MODALITIES, Modality
from peft_dml_ros.core.decode import decode_candidates, non_maximum_suppression
from peft_dml_ros.core.engine import DeviceArray
from peft_dml_ros.core.inputs import InputAssembler, NetworkInputs
from peft_dml_ros.core.params import DetectionParams
from peft_dml_ros.core.spec import graph_outputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peft_dml_ros.core.bundle import Bundle
    from peft_dml_ros.core.camera_prefetch import Begun
    from peft_dml_ros.core.engine import Engine, EngineArray
    from peft_dml_ros.core.measurements import CameraImage
    from peft_dml_ros.core.rig import Rig
    from peft_dml_ros.core.snapshot import Snapshot
    from peft_dml_ros.core.typing import AnyArray, Float32Array


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes of one frame and how they came about.

    Attributes:
        stamp_ns: Time of the reference sensor's measurement; the boxes are in `base_link` at this time.
        reference: Name of the reference sensor.
        boxes: Best first.
        mask: (5,) float32, 1 for each modality that was used, in `MODALITIES` order.
        gate: (5,) float32 mean weight that the fusion gave each modality; sums to 1, or 0 when blind.
        age_s: (5,) float32 mean age of each modality.
        completeness: (5,) float32 share of each modality that arrived.
        stages_ms: Wall time of each stage; they add up. What is done while an encoder runs counts as the encoder's.
        drops: Measurements dropped in this frame, by reason.
        gated: Reason by sensor for each sensor that was left out.
    """

    stamp_ns: int
    reference: str
    boxes: Boxes3D
    mask: Float32Array
    gate: Float32Array
    age_s: Float32Array
    completeness: Float32Array
    stages_ms: dict[str, float] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    gated: dict[str, str] = field(default_factory=dict)

    @property
    def blind(self) -> bool:
        """True when no LiDAR, camera or radar was there."""
        return not any(self.mask[MODALITIES.index(m)] for m in DETECTING)


class Detector:
    """Snapshot in, boxes out.

    Args:
        bundle: Model facts and calibration.
        rig: Sensors with their mounting.
        engines: One per graph of the bundle.
        params: Threshold, number of boxes, suppression.
        threads: Image decoders, 0 takes one per core; with more than one, cameras are encoded while the other inputs
            are made.
    """

    def __init__(
        self,
        bundle: Bundle,
        rig: Rig,
        engines: Mapping[str, Engine],
        params: DetectionParams | None = None,
        threads: int = 2,
    ) -> None:
        self.bundle, self.rig, self.params = bundle, rig, params or DetectionParams()
        self._engines = engines
        threads = threads or os.cpu_count() or 1
        self._assemble = InputAssembler(bundle.spec, rig, threads)
        self._beside = CamerasBeside(self._assemble, engines["camera"]) if threads > 1 else None
        self._fed: dict[Modality, dict[str, AnyArray]] = {}
        self._latents: dict[Modality, EngineArray] = {}
        outputs = graph_outputs(bundle.spec)
        self._absent: dict[Modality, AnyArray] = {
            m: np.zeros(outputs[m]["latent"][0], dtype=np.float32) for m in MODALITIES
        }
        for zeros in self._absent.values():
            zeros.flags.writeable = False  # an accelerator keeps what cannot change

    def __call__(self, snapshot: Snapshot) -> Detections:
        """Detect objects with whatever sensors the snapshot holds; blind, it finds nothing and says so."""
        clock = _StageClock()
        with clock("inputs"):
            inputs, cameras = self._look(snapshot)
        boxes, gate = Boxes3D.empty(), np.zeros(len(MODALITIES), dtype=np.float32)
        if any(m in inputs.feeds for m in DETECTING):
            if cameras and "camera" in inputs.feeds:
                self._take_cameras(cameras, clock)
            latents = self._encode(inputs, clock)
            with clock("fusion"):
                outputs = self._fuse(inputs, latents)
            with clock("decode"):
                boxes, gate = self._decode(inputs, outputs), outputs["gate"]
            if broken := int((~np.isfinite(outputs["regression"]).all(axis=1) | ~np.isfinite(outputs["scores"])).sum()):
                inputs.drops["network: candidate not finite"] += broken
        return Detections(
            stamp_ns=snapshot.stamp_ns,
            reference=snapshot.reference,
            boxes=boxes,
            mask=inputs.mask,
            gate=gate,
            age_s=inputs.age_s,
            completeness=inputs.completeness,
            stages_ms=clock.stages_ms,
            drops=dict(inputs.drops),
            gated=dict(snapshot.gated),
        )

    def prepare(self, name: str, image: CameraImage) -> None:
        """Begin to decode a picture that the next frame will probably ask for; returns at once."""
        self._assemble.prepare(name, image)

    def _look(self, snapshot: Snapshot) -> tuple[NetworkInputs, Begun | None]:
        """Inputs of a frame; its cameras may be on their way through the encoder already."""
        if self._beside is None:
            return self._assemble(snapshot), None
        cameras = self._beside.begin(snapshot, self._fed.get("camera"), self._latents.get("camera"))
        return self._assemble(snapshot, cameras.pictures.result), cameras

    def _take_cameras(self, cameras: Begun, clock: _StageClock) -> None:
        """Wait for the camera encoder, if it was begun; what it had done by now was done beside the inputs."""
        with clock("camera"):
            encoded = cameras.encoded.result()
        if encoded is not None:
            self._fed["camera"], self._latents["camera"] = encoded.feeds, encoded.latent
            beside_ms = max(encoded.spent_ms - clock.stages_ms["camera"], 0.0)
            clock.stages_ms["inputs"] -= min(beside_ms, clock.stages_ms["inputs"])
            clock.stages_ms["camera"] = encoded.spent_ms

    def _encode(self, inputs: NetworkInputs, clock: _StageClock) -> dict[Modality, EngineArray]:
        """Latent of each present modality; an absent one is not computed, and stands as zeros.

        An encoder whose inputs are the very ones of the last frame, as when no camera has a new image, is not run
        again; but on an accelerator it is, where its result may have been overwritten since.
        """
        latents: dict[Modality, EngineArray] = dict(self._absent)
        for modality, feeds in inputs.feeds.items():
            with clock(modality):
                if self._fed.get(modality) is not feeds or isinstance(self._latents[modality], DeviceArray):
                    self._latents[modality] = self._engines[modality].start(feeds)["latent"]
                    self._fed[modality] = feeds
                latents[modality] = self._latents[modality]
        return latents

    def _fuse(self, inputs: NetworkInputs, latents: Mapping[Modality, EngineArray]) -> dict[str, AnyArray]:
        feeds: dict[str, EngineArray] = {str(m): latent for m, latent in latents.items()}
        feeds |= {"mask": inputs.mask, "age_s": inputs.age_s, "completeness": inputs.completeness}
        return self._engines["fusion"](feeds)

    def _decode(self, inputs: NetworkInputs, outputs: dict[str, AnyArray]) -> Boxes3D:
        spec, temperature = self.bundle.spec, self.bundle.temperature(tuple(inputs.feeds))
        boxes = decode_candidates(outputs, spec, self.params.score_threshold, temperature)
        return non_maximum_suppression(boxes, spec.classes, self.params.nms_scale)[: self.params.max_boxes]

    def warm_up(self) -> None:
        """Run every graph and compile every kernel once, so that the first frame is as fast as the rest."""
        for engine in self._engines.values():
            engine.warm_up()
        pillars.compile_kernels()
        sweeps.compile_kernels()
        box = Boxes3D.make(np.zeros((1, 3)), np.ones((1, 3)), np.zeros(1), np.zeros(1, dtype=np.int64))
        non_maximum_suppression(box, self.bundle.spec.classes)
        # What is loaded by now stays: the collector need not look through it again and again while frames come in.
        gc.collect()
        gc.freeze()


class _StageClock:
    """Wall time by stage."""

    def __init__(self) -> None:
        self.stages_ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.stages_ms[stage] = self.stages_ms.get(stage, 0.0) + (perf_counter() - start) * 1e3
