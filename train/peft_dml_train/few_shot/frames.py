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
BLOCK: Final = 3
"""Frames of one scene that count as one look at it, for they show nearly the same."""


class TokenSplit(NamedTuple):
    """Sample tokens.

    Attributes:
        trained: Of the frames to train on.
        held_out: Of the others, by scene and time.
        groups: Scene of each frame held out; where all are of one scene, its block of about `BLOCK` frames.
        units: How many groups of which kind there are, for people.
    """

    trained: list[str]
    held_out: list[str]
    groups: list[int]
    units: str

    @property
    def cut(self) -> int:
        """Where the second half of the frames held out begins: between two groups, as near the middle as may be."""
        borders = [i for i in range(1, len(self.groups)) if self.groups[i] != self.groups[i - 1]]
        return min(borders, key=lambda i: abs(2 * i - len(self.groups)))


def hold_out(reader: NuScenesReader, share: float) -> TokenSplit:
    """Set frames apart that the training does not see, nor others of their scenes.

    Whole scenes are held out where some come to between half and twice the share; else the last frames of each scene.

    Args:
        reader: The frames.
        share: Of the frames.

    Raises:
        DataError: there are too few frames.
    """
    scenes = [tokens for name in reader.scenes if (tokens := reader.samples(name))]
    count, n = sum(map(len, scenes)), len(scenes)
    if count < FEWEST:
        msg = f"{reader.root} has {count} labelled frames"
        raise DataError(f"{msg}; fix: label at least {FEWEST}, a quarter is held out")
    places = np.linspace(0, n - 1, max(1, round(share * n))).astype(int)
    turned = [[tokens if i in (places + turn) % n else [] for i, tokens in enumerate(scenes)] for turn in range(n)]
    held = min(turned, key=lambda parts: abs(sum(map(len, parts)) - share * count))
    if n == 1 or not share / 2 <= sum(map(len, held)) / count <= 2 * share:
        held = [tokens[min(-1, -round(share * len(tokens))) :] if len(tokens) > 1 else [] for tokens in scenes]
    out = [token for tokens in held for token in tokens]
    if len(out) < 2:
        raise DataError(f"{reader.root}: 1 frame would be held out; two halves are needed; fix: raise --held-out")
    trained = [token for tokens in scenes for token in tokens if token not in set(out)]
    if (held_scenes := sum(map(bool, held))) > 1:
        return TokenSplit(trained, out, [i for i, tokens in enumerate(held) for _ in tokens], f"{held_scenes} scenes")
    blocks = max(2, round(len(out) / BLOCK))
    return TokenSplit(trained, out, [i * blocks // len(out) for i in range(len(out))], f"{blocks} blocks of one scene")


class FrameDetector:
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
