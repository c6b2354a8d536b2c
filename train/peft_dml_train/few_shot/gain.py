# SPDX-License-Identifier: Apache-2.0
"""Is one model better than another on a few frames? NDS, with an interval from a bootstrap over scenes and frames.

The score is nuscenes-devkit's (Caesar et al., CVPR 2020) over the classes that the frames hold. Boxes are matched once
a frame, so that hundreds of resamples take a second; `tests/train/test_gain.py` compares with the devkit itself.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from nuscenes.eval.common.config import config_factory

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.geometry import wrap_angle
from peft_dml_ros.core.typing import BoolArray, FloatArray, IntArray
from peft_dml_tools.datasets.nuscenes_scores import CONFIG
from peft_dml_train.evaluation.calibration import assigned

RESAMPLES: Final = 500
LEVEL: Final = 95.0
FEWEST_BOXES: Final = 20
"""Of a class that counts in a comparison: one object, seen in six frames, is no evidence but moves NDS as cars do."""
RULES: Final = config_factory(CONFIG)
RANGES_M: Final = np.array([RULES.class_range[name] for name in CLASSES])
RECALLS: Final = np.linspace(0, 1, 101)
FIRST: Final = round(100 * RULES.min_recall) + 1
"""First of `RECALLS` that counts."""
AT_ERRORS: Final = RULES.dist_ths.index(RULES.dist_th_tp)
"""Column of `FrameHits.hits` whose boxes have errors."""
UNDEFINED: Final[dict[str, tuple[int, ...]]] = {"traffic_cone": (2, 3, 4), "barrier": (3, 4)}
"""Errors that the devkit leaves out, by class: columns of `FrameHits.errors`."""


class FrameHits(NamedTuple):
    """The detections of one frame against its truth, both within their class's range.

    Attributes:
        scores: (N,) confidence.
        labels: (N,) class.
        hits: (N, distances) which find a truth box of their class within each of the devkit's distances.
        errors: (N, 5) of those that find one within 2 m: position in m, 1 - IoU of the sizes, heading in rad, velocity
            in m/s, attribute; NaN where the truth does not say, and without a truth box.
        truth: (classes,) number of truth boxes by class.
    """

    scores: FloatArray
    labels: IntArray
    hits: BoolArray
    errors: FloatArray
    truth: IntArray


class Accuracy(NamedTuple):
    """Mean AP and NDS over the classes that the truth holds."""

    mean_ap: float
    nds: float


class Gain(NamedTuple):
    """How much one model is better than another.

    Attributes:
        before: Of the other one.
        after: Its own.
        low: Lower end of the 95 % interval of the difference of NDS.
        high: Upper end.
        frames: How many were compared.
    """

    before: Accuracy
    after: Accuracy
    low: float
    high: float
    frames: int

    @property
    def change(self) -> float:
        """Difference of NDS."""
        return self.after.nds - self.before.nds

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "undecided"

    def __str__(self) -> str:
        """Return one line for people."""
        change = f"{self.change:+.3f} ({self.low:+.3f} to {self.high:+.3f}), {self.verdict} on {self.frames} frames"
        (old_map, old_nds), (new_map, new_nds) = self.before, self.after
        return f"NDS {old_nds:.3f} -> {new_nds:.3f}, {change}; mAP {old_map:.3f} -> {new_map:.3f}"


def frame_hits(boxes: Boxes3D, truth: Boxes3D) -> FrameHits:
    """Compare the boxes of one frame, best first, with its truth."""
    boxes, truth = (b[np.hypot(*b.centers_m[:, :2].T) < RANGES_M[b.labels]] for b in (boxes, truth))
    rows = {limit_m: assigned(boxes, truth, limit_m) for limit_m in RULES.dist_ths}
    counts = np.bincount(truth.labels, minlength=len(CLASSES))
    hits = np.stack([row >= 0 for row in rows.values()], axis=1)
    return FrameHits(boxes.scores, boxes.labels, hits, _errors(boxes, truth, rows[RULES.dist_th_tp]), counts)


def _errors(boxes: Boxes3D, truth: Boxes3D, rows: IntArray) -> FloatArray:
    """Return (N, 5) errors of the boxes against the rows of the truth; NaN where the row is -1."""
    errors = np.full((len(boxes), 5), np.nan)
    hit = rows >= 0
    found, real = boxes[hit], truth[rows[hit]]
    both = np.minimum(found.sizes_m, real.sizes_m).prod(axis=1)
    period = np.where(real.labels == CLASSES.index("barrier"), np.pi, 2 * np.pi)
    turned = wrap_angle((found.yaws_rad - real.yaws_rad) * (2 * np.pi / period)) * period / (2 * np.pi)
    wrong = np.where(real.attributes < 0, np.nan, found.attributes != real.attributes)
    errors[hit] = np.stack(
        [
            np.linalg.norm(found.centers_m[:, :2] - real.centers_m[:, :2], axis=1),
            1 - both / (found.sizes_m.prod(axis=1) + real.sizes_m.prod(axis=1) - both),
            np.abs(turned),
            np.linalg.norm(found.velocities_mps - real.velocities_mps, axis=1),
            wrong,
        ],
        axis=1,
    )
    for name, columns in UNDEFINED.items():
        errors[np.ix_(boxes.labels == CLASSES.index(name), columns)] = np.nan
    return errors


def accuracy(frames: Sequence[FrameHits]) -> Accuracy:
    """Return mean AP and NDS over the classes that the truth holds; 0 where it holds none."""
    truth = np.sum([f.truth for f in frames], axis=0)
    if not truth.any():
        return Accuracy(0.0, 0.0)
    scores, labels, hits, errors = (np.concatenate([f[i] for f in frames]) for i in range(4))
    order = np.argsort(-scores, kind="stable")
    scores, labels, hits, errors = (column[order] for column in (scores, labels, hits, errors))
    ap, wrong = [], []
    for c in np.flatnonzero(truth):
        of, count = labels == c, int(truth[c])
        ap.append([_ap(column, count) for column in hits[of].T])
        wrong.append(_mean_errors(scores[of], hits[of, AT_ERRORS], errors[of], count))
        wrong[-1][list(UNDEFINED.get(CLASSES[c], ()))] = np.nan
    # An error that no class of these frames defines counts as 1.
    table = np.where(np.isnan(wrong).all(axis=0), 1.0, wrong)
    right = np.clip(1 - np.nanmean(table, axis=0), 0, None)
    mean_ap, weight = float(np.mean(ap)), RULES.mean_ap_weight
    return Accuracy(mean_ap, float((weight * mean_ap + right.sum()) / (weight + len(right))))


def _ap(hits: BoolArray, truth: int) -> float:
    """Return the area under the precision-recall curve, interpolated as nuscenes-devkit does."""
    if not hits.any():
        return 0.0
    positives = np.cumsum(hits)
    at = np.interp(RECALLS, positives / truth, positives / np.arange(1, len(hits) + 1), right=0.0)[FIRST:]
    return float(np.clip(at - RULES.min_precision, 0, None).mean() / (1 - RULES.min_precision))


def _mean_errors(scores: FloatArray, hits: BoolArray, errors: FloatArray, truth: int) -> FloatArray:
    """Return (5,) errors of one class, each the mean over the recalls that are reached, as nuscenes-devkit takes it."""
    at = np.interp(RECALLS, np.cumsum(hits) / truth, scores, right=0.0) if hits.any() else np.zeros_like(RECALLS)
    last = np.flatnonzero(at)[-1:]
    if not len(last) or last[0] < FIRST:
        return np.ones(errors.shape[1])
    known = np.isfinite(errors[hits])
    counts = known.cumsum(axis=0)
    means = np.where(known, errors[hits], 0.0).cumsum(axis=0) / np.maximum(counts, 1)
    means[:, counts[-1] == 0] = 1.0
    columns = [np.interp(at[::-1], scores[hits][::-1], column[::-1])[::-1] for column in means.T]
    return np.array([column[FIRST : last[0] + 1].mean() for column in columns])


def common_classes(frames: Sequence[FrameHits]) -> BoolArray:
    """Return (classes,) which have `FEWEST_BOXES` truth boxes in these frames; all that occur where none has."""
    counts = np.sum([f.truth for f in frames], axis=0)
    common: BoolArray = counts >= (FEWEST_BOXES if counts.max() >= FEWEST_BOXES else 1)
    return common


def of_classes(frames: Sequence[FrameHits], classes: BoolArray) -> list[FrameHits]:
    """Return the hits of these classes alone."""
    kept = [(f, classes[f.labels]) for f in frames]
    return [FrameHits(f[0][k], f[1][k], f[2][k], f[3][k], np.where(classes, f.truth, 0)) for f, k in kept]


def compare(
    before: Sequence[FrameHits], after: Sequence[FrameHits], seed: int = 0, groups: Sequence[Any] = (), cut: int = 0
) -> Gain:
    """Return the gain on frames that both models have seen, resampled in pairs.

    `groups` is the scene of each frame. Scenes are resampled, then the frames of each, which resemble each other: an
    interval over frames alone is too narrow. Frames before and from `cut` on are scored apart and averaged, where they
    are two models': confidence that differs between the two would spoil a common precision-recall curve.
    """
    draw, n, changes = np.random.default_rng(seed), len(before), []
    scenes = np.array(groups or [0] * n)
    rows = [np.flatnonzero(scenes == scene) for scene in np.unique(scenes)]
    for _ in range(RESAMPLES):
        drawn = [rows[i] for i in draw.integers(len(rows), size=len(rows))]
        picked = np.concatenate([draw.choice(own, len(own)) for own in drawn])
        changes.append(_score(after, picked, cut).nds - _score(before, picked, cut).nds)
    low, high = np.percentile(changes, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    whole = np.arange(n)
    return Gain(_score(before, whole, cut), _score(after, whole, cut), float(low), float(high), n)


def _score(frames: Sequence[FrameHits], picked: IntArray, cut: int) -> Accuracy:
    parts = [part for part in (picked[picked < cut], picked[picked >= cut]) if len(part)]
    found = [accuracy([frames[i] for i in part]) for part in parts]
    return Accuracy(*np.average(found, axis=0, weights=[len(part) for part in parts]).tolist())
