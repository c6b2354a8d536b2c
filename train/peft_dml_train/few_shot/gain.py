# SPDX-License-Identifier: Apache-2.0
"""Is one model better than another on a few frames? Mean AP at 2 m, with an interval from a bootstrap over frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.typing import BoolArray, FloatArray, IntArray
from peft_dml_train.evaluation.calibration import matched

RESAMPLES: Final = 1000
LEVEL: Final = 95.0
LEAST: Final = 0.1
"""Recall and precision below it do not count, as in nuScenes' AP."""


class FrameHits(NamedTuple):
    """The detections of one frame against its truth.

    Attributes:
        scores: (N,) confidence.
        labels: (N,) class.
        hits: (N,) which find a truth box of their class within 2 m.
        truth: (classes,) number of truth boxes by class.
    """

    scores: FloatArray
    labels: IntArray
    hits: BoolArray
    truth: IntArray


class Gain(NamedTuple):
    """How much one model is better than another.

    Attributes:
        before: Mean AP of the other one.
        after: Its own.
        low: Lower end of the 95 % interval of the difference.
        high: Upper end.
        frames: How many were compared.
    """

    before: float
    after: float
    low: float
    high: float
    frames: int

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "undecided"

    def __str__(self) -> str:
        """Return one line for people."""
        change = f"{self.after - self.before:+.3f} ({self.low:+.3f} to {self.high:+.3f})"
        return f"mAP at 2 m {self.before:.3f} -> {self.after:.3f}, {change}, {self.verdict} on {self.frames} frames"


def frame_hits(boxes: Boxes3D, truth: Boxes3D) -> FrameHits:
    """Compare the boxes of one frame, best first, with its truth."""
    counts = np.bincount(truth.labels, minlength=len(CLASSES))
    return FrameHits(boxes.scores, boxes.labels, matched(boxes, truth), counts)


def mean_ap(frames: Sequence[FrameHits]) -> float:
    """Return the mean AP over the classes that the truth holds; 0 where it holds none."""
    truth = np.sum([f.truth for f in frames], axis=0)
    scores, labels, hits = (np.concatenate([f[i] for f in frames]) for i in range(3))
    order = np.argsort(-scores, kind="stable")
    labels, hits = labels[order], hits[order]
    found = [_ap(hits[labels == c], int(truth[c])) for c in np.flatnonzero(truth)]
    return float(np.mean(found)) if found else 0.0


def _ap(hits: BoolArray, truth: int) -> float:
    """Return the area under the precision-recall curve, interpolated as nuscenes-devkit does."""
    if not len(hits):
        return 0.0
    positives = np.cumsum(hits)
    recall, precision = positives / truth, positives / np.arange(1, len(hits) + 1)
    at = np.interp(np.linspace(0, 1, 101), recall, precision, right=0.0)[round(100 * LEAST) + 1 :]
    return float(np.clip(at - LEAST, 0, None).mean() / (1 - LEAST))


def compare(before: Sequence[FrameHits], after: Sequence[FrameHits], seed: int = 0) -> Gain:
    """Return the gain on frames that both models have seen, resampled in pairs."""
    draw, n = np.random.default_rng(seed), len(before)
    changes = []
    for _ in range(RESAMPLES):
        picked = draw.integers(n, size=n)
        changes.append(mean_ap([after[i] for i in picked]) - mean_ap([before[i] for i in picked]))
    low, high = np.percentile(changes, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return Gain(mean_ap(before), mean_ap(after), float(low), float(high), n)
