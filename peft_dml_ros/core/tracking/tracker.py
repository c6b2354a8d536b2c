# SPDX-License-Identifier: Apache-2.0
"""Boxes of successive frames to tracks: predict, match by class group, update, be born, coast, die.

Tracks coast on the motion model while the sensors that could see them are out: a missing detection lowers a track's
existence by what the sensors of the frame should have found there (Bayes), so that a LiDAR that dies ends no track.
What is missed may as well be hidden, for a while (a hidden Markov model of two states): it is not published then, and
has its identity when it comes into sight.
"""

from dataclasses import dataclass, fields
from itertools import count
from typing import Final

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.geometry import SE3, wrap_angle
from peft_dml_ros.core.params import TrackingParams
from peft_dml_ros.core.tracking.assignment import GATE, assign, distances
from peft_dml_ros.core.tracking.motion import GROUPS, carried, predict, update
from peft_dml_ros.core.tracking.visibility import Coverage
from peft_dml_ros.core.typing import BoolArray, FloatArray, IntArray

CLUTTER: Final = 0.12  #: Score at which a detection says nothing about a track's existence
TEMPER: Final = 0.4  #: Exponent of a detection's odds: those of successive frames are far from independent
LEARNING: Final = 0.3  #: Share of a new size and height in the track's
SLOWEST_MPS: Final = 2.0  #: From this speed on the direction of motion decides which end is the front
#: Share of objects that nothing hides. One that is missed is rather hidden than gone: misses of successive frames are
#: not independent either.
SEEN: Final = 0.8
HIDDEN_S: Final = 1.0  #: Time after which what was seen or hidden says little about what is
OTHER_CLASS: Final = 1.0  #: Price of a match with another class of the group, as a squared Mahalanobis distance
LARGEST_STEP_S: Final = 0.25
DEFAULT_SIGMAS: Final = (0.5, 0.5, 0.3, 0.3)
VELOCITY_SIGMA_MPS: Final = 1.0

_GROUP_OF = np.array([next(i for i, g in enumerate(GROUPS) if name in g.classes) for name in CLASSES])
_NOISE = np.array([(g.acceleration, g.turn) for g in GROUPS])
_SPEED = np.array([g.speed_mps for g in GROUPS])
_GATE_M = np.array([g.gate_m for g in GROUPS])


@dataclass(slots=True)
class Tracks:
    """N tracks, a row each."""

    ids: IntArray  #: (N,) numbers that are never given twice
    states: FloatArray  #: (N, 5) as `motion` has them
    covariances: FloatArray  #: (N, 5, 5)
    heights_m: FloatArray  #: (N,) z of the centre
    sizes_m: FloatArray  #: (N, 3)
    yaws_rad: FloatArray  #: (N,)
    yaw_variances: FloatArray  #: (N,)
    votes: FloatArray  #: (N, classes) decaying sum of scores by class
    attributes: IntArray  #: (N,)
    existence: FloatArray  #: (N,) probability that there is such an object
    visible: FloatArray  #: (N,) probability that it is not hidden from the sensors, if there is one
    scores: FloatArray  #: (N,) smoothed score of its detections
    coasted_s: FloatArray  #: (N,) time since the last one

    def __len__(self) -> int:
        """Number of tracks."""
        return len(self.ids)

    @property
    def labels(self) -> IntArray:
        """(N,) index of each track's class."""
        labels: IntArray = self.votes.argmax(axis=1)
        return labels

    def kept(self, keep: BoolArray | IntArray) -> "Tracks":
        """Return the rows that a mask or an order selects."""
        return Tracks(*(getattr(self, field.name)[keep] for field in fields(self)))

    def joined(self, others: "Tracks") -> "Tracks":
        """Return these and others."""
        pairs = ((getattr(self, field.name), getattr(others, field.name)) for field in fields(self))
        return Tracks(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True, slots=True)
class TrackedBoxes:
    """Confirmed tracks of one frame."""

    boxes: Boxes3D  #: `ids` set; `scores` are probabilities that the object exists, `sigmas` those of the filter
    covariances: FloatArray  #: (N, 5, 5) of x, y, vx, vy and turn rate
    turn_rates: FloatArray  #: (N,) rad/s
    coasted_s: FloatArray  #: (N,) time since each was last detected; 0 for those detected in this frame


class Tracker:
    """Detections of one frame after the other in, confirmed tracks out; `params` may be replaced between frames."""

    def __init__(self, params: TrackingParams | None = None) -> None:
        self.params = params or TrackingParams()
        self._numbers = count(1)
        self._stamp_ns: int | None = None
        self._tracks = self._born(Boxes3D.empty())

    def __call__(self, boxes: Boxes3D, stamp_ns: int, now_SE3_last: SE3 | None, coverage: Coverage) -> TrackedBoxes:
        """Take the detections of a frame in.

        Args:
            boxes: In `base_link` at the stamp.
            stamp_ns: Time of the frame; one that goes back ends all tracks, as when a bag loops.
            now_SE3_last: Motion of the vehicle since the last frame; None where unknown: it is taken to stand.
            coverage: What the sensors of this frame reach.
        """
        if self._stamp_ns is None or stamp_ns < self._stamp_ns or stamp_ns - self._stamp_ns > self._limit_ns:
            self._tracks = self._born(Boxes3D.empty())
        elif stamp_ns > self._stamp_ns:
            self._predict((stamp_ns - self._stamp_ns) * 1e-9, now_SE3_last or SE3.identity())
        self._stamp_ns = stamp_ns
        rows, columns = self._match(boxes)
        found = coverage.found(self._tracks.states[:, :2], self._tracks.labels)
        self._miss(np.setdiff1d(np.arange(len(self._tracks)), rows), found)
        self._update(rows, boxes[columns])
        fresh = np.ones(len(boxes), dtype=np.bool_)
        fresh[columns] = False
        fresh &= boxes.scores >= self.params.birth_score
        self._tracks = self._alive()
        if fresh.any():
            self._tracks = self._tracks.joined(self._born(boxes[fresh]))
        return self._confirmed()

    @property
    def size(self) -> int:
        """Number of tracks, confirmed or not."""
        return len(self._tracks)

    @property
    def _limit_ns(self) -> int:
        return int(self.params.max_coast_s * 1e9)

    def _predict(self, dt_s: float, now_SE3_last: SE3) -> None:
        t, noise = self._tracks, _NOISE[_GROUP_OF[self._tracks.labels]]
        t.states, t.covariances = carried(t.states, t.covariances, now_SE3_last)
        t.yaws_rad = t.yaws_rad + now_SE3_last.yaw_rad
        t.heights_m = t.heights_m + now_SE3_last.translation[2]
        steps = max(1, int(np.ceil(dt_s / LARGEST_STEP_S)))
        for _ in range(steps):
            t.yaws_rad = wrap_angle(t.yaws_rad + t.states[:, 4] * dt_s / steps)
            t.states, t.covariances = predict(t.states, t.covariances, noise, dt_s / steps)
        t.yaw_variances = t.yaw_variances + (0.1 + noise[:, 1] ** 2) * dt_s**2
        t.coasted_s = t.coasted_s + dt_s
        t.visible = SEEN + (t.visible - SEEN) * np.exp(-dt_s / HIDDEN_S)

    def _match(self, boxes: Boxes3D) -> tuple[IntArray, IntArray]:
        """Return which tracks take which boxes."""
        t = self._tracks
        if not len(t) or not len(boxes):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        labels = t.labels
        group = _GROUP_OF[labels]
        centers_m = np.ascontiguousarray(boxes.centers_m[:, :2])
        variances = np.ascontiguousarray(_variances(boxes)[:, 0])
        cost = distances(t.states, t.covariances, centers_m, variances, _GATE_M[group])
        cost[group[:, None] != _GROUP_OF[boxes.labels]] = np.inf
        cost += OTHER_CLASS * (labels[:, None] != boxes.labels)
        matched = assign(cost, GATE + 10.0)
        rows = np.flatnonzero(matched >= 0)
        return rows, matched[rows]

    def _miss(self, rows: IntArray, found: FloatArray) -> None:
        """Lower the existence of tracks that nothing was detected of, and what is believed of their visibility."""
        t = self._tracks
        e, v, p = t.existence[rows], t.visible[rows], found[rows]
        t.existence[rows] = e * (1 - v * p) / (1 - e * v * p)
        t.visible[rows] = v * (1 - p) / (1 - v * p)

    def _update(self, rows: IntArray, boxes: Boxes3D) -> None:
        t = self._tracks
        if not len(rows):
            return
        r = _variances(boxes)
        moving = np.isfinite(boxes.velocities_mps).all(axis=1)
        velocity = np.where(moving[:, None], boxes.velocities_mps, t.states[rows, 2:4])
        spread = np.where(moving, np.minimum(VELOCITY_SIGMA_MPS, _SPEED[_GROUP_OF[boxes.labels]]) ** 2, 1e4)
        measured = np.concatenate([boxes.centers_m[:, :2], velocity], axis=1)
        variances = np.stack([r[:, 0], r[:, 1], spread, spread], axis=1)
        t.states[rows], t.covariances[rows] = update(t.states[rows], t.covariances[rows], measured, variances)
        t.heights_m[rows] += LEARNING * (boxes.centers_m[:, 2] - t.heights_m[rows])
        t.sizes_m[rows] += LEARNING * (boxes.sizes_m - t.sizes_m[rows])
        gain = t.yaw_variances[rows] / (t.yaw_variances[rows] + r[:, 3])
        t.yaws_rad[rows] = wrap_angle(t.yaws_rad[rows] + gain * self._turned(rows, boxes.yaws_rad))
        t.yaw_variances[rows] *= 1 - gain
        t.votes[rows] *= 0.9
        t.votes[rows, boxes.labels] += boxes.scores
        t.attributes[rows] = boxes.attributes
        odds = boxes.scores / np.maximum(1e-3, 1 - boxes.scores) / (CLUTTER / (1 - CLUTTER))
        e, ratio = t.existence[rows], odds**TEMPER
        t.existence[rows] = np.clip(e * ratio / (1 - e + e * ratio), 0.02, 0.995)
        t.visible[rows] = 1.0
        t.scores[rows] += 0.4 * (boxes.scores - t.scores[rows])
        t.coasted_s[rows] = 0.0

    def _turned(self, rows: IntArray, yaws_rad: FloatArray) -> FloatArray:
        """Return the difference to the tracks' yaws, by the end that fits the motion, or else the track."""
        t = self._tracks
        velocity = t.states[rows, 2:4]
        course = np.arctan2(velocity[:, 1], velocity[:, 0])
        moving = np.hypot(velocity[:, 0], velocity[:, 1]) > SLOWEST_MPS
        guide = np.where(moving, course, t.yaws_rad[rows])
        flip = np.abs(wrap_angle(yaws_rad - guide)) > np.pi / 2
        return wrap_angle(yaws_rad + np.pi * flip - t.yaws_rad[rows])

    def _born(self, boxes: Boxes3D) -> Tracks:
        n = len(boxes)
        group, r = _GROUP_OF[boxes.labels], _variances(boxes)
        velocity = np.nan_to_num(boxes.velocities_mps)
        covariances = np.zeros((n, 5, 5))
        index = np.arange(2)
        covariances[:, index, index] = r[:, :2]
        known = np.isfinite(boxes.velocities_mps).all(axis=1)
        spread = np.where(known, np.minimum(VELOCITY_SIGMA_MPS, _SPEED[group]), _SPEED[group]) ** 2
        covariances[:, index + 2, index + 2] = spread[:, None]
        covariances[:, 4, 4] = (_NOISE[group, 1]) ** 2
        votes = np.zeros((n, len(CLASSES)))
        votes[np.arange(n), boxes.labels] = boxes.scores
        return Tracks(
            ids=np.array([next(self._numbers) for _ in range(n)], dtype=np.int64),
            states=np.concatenate([boxes.centers_m[:, :2], velocity, np.zeros((n, 1))], axis=1),
            covariances=covariances,
            heights_m=boxes.centers_m[:, 2].copy(),
            sizes_m=boxes.sizes_m.copy(),
            yaws_rad=boxes.yaws_rad.copy(),
            yaw_variances=r[:, 3],
            votes=votes,
            attributes=boxes.attributes.copy(),
            existence=boxes.scores * self.params.birth_trust,
            visible=np.ones(n),
            scores=boxes.scores.copy(),
            coasted_s=np.zeros(n),
        )

    def _alive(self) -> Tracks:
        t = self._tracks
        # A filter that has lost its object must not wander over the road.
        lost = np.sqrt(t.covariances[:, 0, 0] + t.covariances[:, 1, 1]) > 2 * _GATE_M[_GROUP_OF[t.labels]]
        return t.kept((t.existence >= self.params.death) & (t.coasted_s <= self.params.max_coast_s) & ~lost)

    def _confirmed(self) -> TrackedBoxes:
        there = self._tracks.existence * self._tracks.visible
        order = np.argsort(-there * self._tracks.scores, kind="stable")
        t = self._tracks.kept(order[there[order] >= self.params.publish])
        variances = np.stack([t.covariances[:, 0, 0], t.covariances[:, 1, 1]], axis=1)
        boxes = Boxes3D(
            centers_m=np.concatenate([t.states[:, :2], t.heights_m[:, None]], axis=1),
            sizes_m=t.sizes_m,
            yaws_rad=t.yaws_rad,
            velocities_mps=t.states[:, 2:4],
            labels=t.labels,
            scores=np.clip(t.existence * t.visible * t.scores, 0.0, 1.0),
            attributes=t.attributes,
            sigmas=np.sqrt(np.column_stack([variances, np.full(len(t), 0.04), t.yaw_variances])),
            ids=tuple(map(str, t.ids)),
        )
        return TrackedBoxes(boxes, t.covariances, t.states[:, 4], t.coasted_s)


def future(tracks: TrackedBoxes, horizon_s: float, step_s: float) -> FloatArray:
    """Return (N, steps + 1, 4) x, y, z, yaw of tracks from now on, every `step_s`."""
    boxes = tracks.boxes
    states = np.concatenate([boxes.centers_m[:, :2], boxes.velocities_mps, tracks.turn_rates[:, None]], axis=1)
    yaws, noise, poses = boxes.yaws_rad, _NOISE[_GROUP_OF[boxes.labels]], []
    for _ in range(round(horizon_s / step_s) + 1):
        poses.append(np.column_stack([states[:, :2], boxes.centers_m[:, 2], yaws]))
        yaws = wrap_angle(yaws + states[:, 4] * step_s)
        states, _ = predict(states, np.zeros((len(boxes), 5, 5)), noise, step_s)
    return np.stack(poses, axis=1)


def _variances(boxes: Boxes3D) -> FloatArray:
    """Return (N, 4) variances of x, y, z, yaw; defaults where a detector says nothing."""
    floor = np.array([0.1, 0.1, 0.1, 0.05])
    sigmas: FloatArray = np.where(boxes.sigmas > 0, np.maximum(boxes.sigmas, floor), DEFAULT_SIGMAS)
    return sigmas**2


def compile_kernels() -> None:
    """Compile once, so that the first frame is as fast as the rest."""
    one = np.ones((1, 5))
    distances(one, np.ones((1, 5, 5)), np.ones((1, 2)), np.ones(1), np.ones(1))
    update(one, np.ones((1, 5, 5)), np.ones((1, 4)), np.ones((1, 4)))
    assign(np.zeros((1, 1)), 1.0)
