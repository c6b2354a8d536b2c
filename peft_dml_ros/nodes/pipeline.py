# SPDX-License-Identifier: Apache-2.0
"""The detector as the node drives it: a bundle and engines that stay, a rig that may change between frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.detector import Detections, Detector
from peft_dml_ros.core.health import SensorState
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.params import DetectionParams, PerceptionParams
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.engines import load_engines


@dataclass(frozen=True, slots=True)
class FrameJob:
    """One frame to be worked on.

    Attributes:
        snapshot: What the sensors saw.
        rig: Mounting that was known at that time.
        states: Health of each sensor at that time.
        unusable: Why sensors cannot be used in spite of it.
        received: Messages by sensor up to that time.
        due_ns: That time, by the node's clock.
    """

    snapshot: Snapshot
    rig: Rig
    states: Mapping[str, SensorState]
    unusable: Mapping[str, str]
    received: Mapping[str, int]
    due_ns: int


class Pipeline:
    """Loads and warms up everything at construction, so that the first frame is as fast as the rest.

    Args:
        params: Bundle, engine, threads and detection settings.

    Raises:
        BundleError: the bundle is missing, altered or does not fit.
        EngineError: the engine cannot load a graph.
    """

    def __init__(self, params: PerceptionParams) -> None:
        self._params = params
        self.bundle = load_bundle(params.bundle, params.trusted_key)
        self._engines = load_engines(self.bundle, params.engine, params.threads)
        self._detector = self._make(Rig())
        self._detector.warm_up()

    def __call__(self, job: FrameJob) -> Detections:
        """Detect; a changed rig is taken over first."""
        if job.rig is not self._detector.rig:
            self._detector = self._make(job.rig)
        return self._detector(job.snapshot)

    def prepare(self, name: str, image: CameraImage) -> None:
        """Begin to decode a picture before a frame asks for it; returns at once."""
        self._detector.prepare(name, image)

    @property
    def settings(self) -> dict[str, str | int]:
        """The parameters that this was loaded with."""
        return {"bundle": self._params.bundle, "engine": self._params.engine, "threads": self._params.threads}

    def tune(self, detection: DetectionParams) -> None:
        """Take other settings of the detection over, from the next frame on."""
        if detection != self._params.detection:
            self._params = self._params.model_copy(update={"detection": detection})
            self._detector = self._make(self._detector.rig)

    def _make(self, rig: Rig) -> Detector:
        return Detector(self.bundle, rig, self._engines, self._params.detection, self._params.threads)
