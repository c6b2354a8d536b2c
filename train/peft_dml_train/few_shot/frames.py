# SPDX-License-Identifier: Apache-2.0
"""The frames of a user: which are trained on, which are held out, and what a model finds in them."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.bundle import Bundle
from peft_dml_ros.core.classes import MODALITIES, Modality
from peft_dml_ros.core.detector import Detector
from peft_dml_ros.core.engine import Engine
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.params import DetectionParams
from peft_dml_ros.core.rig import Rig
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.data.frame import Frame
from peft_dml_train.evaluation.prepared import PreparedSnapshot, network_inputs
from peft_dml_train.evaluation.subsets import LOWEST_SCORE
from peft_dml_train.few_shot.gain import FrameHits, frame_hits

FEWEST: Final = 8
WHOLE_SCENES: Final = 4
"""From so many scenes on, whole scenes are held out; of fewer, the last frames of each."""


class Parts(NamedTuple):
    """Sample tokens."""

    trained: list[str]
    held_out: list[str]


def hold_out(reader: NuScenesReader, share: float) -> Parts:
    """Set frames apart that the training does not see, nor their neighbours in time where there are enough scenes.

    Args:
        reader: The frames.
        share: Of the frames.

    Raises:
        DataError: there are too few frames.
    """
    scenes = {name: tokens for name in reader.scenes if (tokens := reader.samples(name))}
    count = sum(map(len, scenes.values()))
    if count < FEWEST:
        raise DataError(f"{reader.root} has {count} labelled frames; label at least {FEWEST}, a quarter is held out")
    if len(scenes) >= WHOLE_SCENES:
        places = np.linspace(0, len(scenes) - 1, max(1, round(share * len(scenes)))).astype(int)
        chosen = [list(scenes)[i] for i in places]
        held = [token for name in chosen for token in scenes[name]]
    else:
        held = [t for tokens in scenes.values() for t in tokens[len(tokens) - max(1, round(share * len(tokens))) :]]
    out = set(held)
    return Parts([t for tokens in scenes.values() for t in tokens if t not in out], held)


class Finder:
    """A model that finds boxes in prepared frames.

    Args:
        bundle: Model facts and calibration.
        engines: One per graph; they may change between calls.
        sensors: Modalities that it may use.
    """

    def __init__(
        self, bundle: Bundle, engines: Mapping[str, Engine], sensors: tuple[Modality, ...] = MODALITIES
    ) -> None:
        params = DetectionParams(score_threshold=LOWEST_SCORE, max_boxes=200)
        self._detector, self._spec = Detector(bundle, Rig(), engines, params, threads=1), bundle.spec
        self._absent = tuple(m for m in MODALITIES if m not in sensors)

    def __call__(self, frame: Frame) -> Boxes3D:
        """Return the boxes of a frame, best first."""
        seen = PreparedSnapshot(0, network_inputs(frame, self._spec)).without(*self._absent)
        return self._detector.detect(seen.inputs, seen.stamp_ns).boxes

    def hits(self, frames: Sequence[Frame]) -> list[FrameHits]:
        """Compare what is found with the frames' own boxes."""
        return [frame_hits(self(frame), frame.boxes) for frame in frames]
