# SPDX-License-Identifier: Apache-2.0
"""The detector as the node drives it: a bundle and engines that stay, a rig that may change between frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.detector import Detector
from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.health import SensorState
from peft_dml_ros.core.load import LoadController, spare_cores
from peft_dml_ros.core.params import DetectionParams, PerceptionParams
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.engines import LoadedEngines, choose, computed_in
from peft_dml_ros.nodes.parameter_file import MODEL_PARAMETERS

FALLBACK: Final = "onnxruntime"
SLOWEST_HZ: Final = 2.0  #: A machine that cannot hold this pace is named when the model is loaded


@dataclass(frozen=True, slots=True)
class FrameJob:
    """One frame to be worked on."""

    snapshot: Snapshot  #: What the sensors saw
    rig: Rig  #: Mounting that was known at that time
    states: Mapping[str, SensorState]  #: Health of each sensor at that time
    unusable: Mapping[str, str]  #: Why sensors cannot be used in spite of it
    received: Mapping[str, int]  #: Messages by sensor up to that time
    due_ns: int  #: That time, by the node's clock


class Pipeline:
    """Loads and warms up everything at construction, so that the first frame is as fast as the rest.

    Raises BundleError: the bundle is missing, altered or does not fit; EngineError: the engine cannot load a graph.

    Args:
        params: Bundle, adapter, engine, threads, paces and detection settings.
        kept: Engines that were used before, and may be used again.
    """

    def __init__(self, params: PerceptionParams, kept: LoadedEngines | None = None) -> None:
        self._params, self.detection = params, params.detection
        self._kept = kept or LoadedEngines()
        self.bundle = load_bundle(params.bundle, params.trusted_key, params.adapter)
        self.threads = params.threads or spare_cores()
        self.controller = LoadController(params.load, params.pace, self.bundle.spec)
        self._load(params.engine)

    def _load(self, engine: str) -> None:
        self.engine, self._precision = choose(self.bundle, engine, self.threads, self._params.precision)
        self._engines, fresh = self._kept.engines(self.bundle, self.engine, self.threads, self._precision)
        self.mount(Rig())
        if fresh:
            self.detector.warm_up()

    def mount(self, rig: Rig) -> None:
        """Take another rig over, from the next frame on."""
        effort = self.controller.effort
        self.detector = Detector(self.bundle, rig, self._engines, self.detection, self.threads, effort)

    def tune(self, detection: DetectionParams) -> None:
        """Take other settings of the detection over, from the next frame on."""
        self.detection = self.detector.params = detection

    def fall_back(self, error: EngineError) -> str:
        """Replace a failing engine by ONNX Runtime; return words on it. Raises EngineError: that one fails."""
        if self.engine == FALLBACK:
            raise error
        failed, rig = self.engine, self.detector.rig
        self._load(FALLBACK)
        self.mount(rig)
        return f"engine {failed} failed, {FALLBACK} runs from now on: {error}"

    def too_slow(self) -> str:
        """Measure the graphs; return in words that this machine cannot hold `SLOWEST_HZ`, empty when it can."""
        graphs_ms = self.detector.graphs_ms()
        frame_ms, slowest = sum(graphs_ms.values()), max(graphs_ms, key=lambda name: graphs_ms[name])
        if frame_ms <= 1e3 / SLOWEST_HZ:
            return ""
        return (
            f"too slow: the graphs of one frame take {frame_ms:.0f} ms here with engine {self.engine}, {slowest} alone"
            f" {graphs_ms[slowest]:.0f} ms, so that {SLOWEST_HZ:g} Hz cannot be held;"
            " fix: an int8 bundle, another engine, or fewer sensors"
        )

    @property
    def words(self) -> str:
        """What runs, in words."""
        manifest, precision = self.bundle.manifest, computed_in(self.bundle, self.engine, self._precision)
        return f"bundle {manifest.name} {manifest.version}, {precision} on {self.engine}, {self.threads} threads"

    @property
    def settings(self) -> dict[str, str | int]:
        """The parameters that this was loaded with."""
        return {name: getattr(self._params, name) for name in MODEL_PARAMETERS}
