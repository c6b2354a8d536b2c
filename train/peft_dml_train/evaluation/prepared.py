# SPDX-License-Identifier: Apache-2.0
"""Detection from inputs that were assembled before: the subsets of a frame share them, and a cache keeps them."""

from dataclasses import dataclass, replace
from itertools import count
from typing import Final

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import MODALITIES, Modality
from peft_dml_ros.core.inputs import NetworkInputs
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import AnyArray, Float32Array
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.data.cache import FrameCache
from peft_dml_train.data.dataset import Change, FrameReader, FrameRequest
from peft_dml_train.data.frame import Frame, Pillars
from peft_dml_train.evaluation.conditions import CLEAR, Condition

_NUMBERS: Final = count(1)  #: Version of each frame's inputs: its subsets of sensors share their encoders


@dataclass(frozen=True, slots=True)
class PreparedSnapshot:
    """Network inputs of one instant, for `Detector.detect`."""

    stamp_ns: int  #: Reference time
    inputs: NetworkInputs  #: Inputs of the network

    def without(self, *modalities: Modality) -> "PreparedSnapshot":
        """Return the instant with whole modalities taken away; what is left keeps its version."""
        kept = np.array([m not in modalities for m in MODALITIES], dtype=np.float32)
        inputs = self.inputs
        feeds = {m: feed for m, feed in inputs.feeds.items() if m not in modalities}
        mask, age_s, completeness = (row * kept for row in (inputs.mask, inputs.age_s, inputs.completeness))
        rest = NetworkInputs(feeds, mask, age_s, completeness, inputs.drops, inputs.versions)
        return replace(self, inputs=rest)


def _padded(pillars: Pillars, capacity: int, cells: int) -> dict[str, AnyArray]:
    """Return pillars as the assembler does: so many rows, and an index map that points behind them where none is."""
    rows = np.zeros((capacity, *pillars.points.shape[1:]), dtype=np.float32)
    rows[: len(pillars.cells)] = pillars.points
    index_map = np.full(cells, capacity, dtype=np.int32)
    index_map[pillars.cells] = np.arange(len(pillars.cells), dtype=np.int32)
    return {"pillars": rows, "index_map": index_map}


def network_inputs(frame: Frame, spec: ModelSpec) -> NetworkInputs:
    """Return arrays for the graphs from a frame's compact form; the order of pillars may not be the assembler's."""
    feeds: dict[Modality, dict[str, AnyArray]] = {}
    if "lidar" in frame.pillars:
        feeds["lidar"] = _padded(frame.pillars["lidar"], spec.lidar.pillars, spec.lidar.pillar_grid**2)
    if frame.camera is not None:
        names = ("images", "present", "voxel_pixel", "voxel_depth")
        feeds["camera"] = {name: getattr(frame.camera, name) for name in names}
    if "radar" in frame.pillars:
        feeds["radar"] = _padded(frame.pillars["radar"], spec.radar.pillars, spec.grid.size**2)
    for m in ("imu", "gnss"):
        if m in frame.windows:
            feeds[m] = {"window": frame.windows[m]}
    number = next(_NUMBERS)
    return NetworkInputs(feeds, frame.mask, frame.age_s, frame.completeness, versions=dict.fromkeys(feeds, number))


class PreparedFrames:
    """Keyframes under conditions, from a cache."""

    def __init__(self, reader: NuScenesReader, spec: ModelSpec, cache: FrameCache) -> None:
        self._frames = FrameReader(reader.root, spec, cache, reader)
        self._reader, self._spec = reader, spec

    def snapshot(self, token: str, before: str | None, condition: Condition) -> PreparedSnapshot:
        """Return one keyframe.

        Args:
            token: The sample.
            before: The sample before it in its scene, whose contents a condition may need.
            condition: What is done to it.
        """
        wanted = FrameRequest(token)
        if condition != CLEAR:
            wanted = FrameRequest(token, f"condition {condition}", self._change(token, before, condition))
        frame = self._frames.prepared(wanted)
        return PreparedSnapshot(self._reader.stamp_ns(token), network_inputs(frame, self._spec))

    def _change(self, token: str, before: str | None, condition: Condition) -> Change:
        def change(snapshot: Snapshot, rig: Rig, _: Boxes3D) -> tuple[Snapshot, Float32Array]:
            previous = self._reader.snapshot(before, self._spec) if before else None
            truth = self._reader.truth(token, keep_unseen=True)
            return condition.apply(snapshot, rig, previous, truth), np.ones(len(MODALITIES), dtype=np.float32)

        return change
