# SPDX-License-Identifier: Apache-2.0
"""Brings boxes and points that belong to one instant to another: the vehicle moves, and so do the things around it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import OdometrySample
from peft_dml_ros.core.motion import EgoMotion
from peft_dml_ros.core.snapshot import Snapshot

TRUTH_WITHIN_NS = 60_000_000  #: Truth is moved over at most this gap; a frame farther from any truth stays without
WINDOW_NS = 500_000_000


class Alignment:
    """Ego motion of a whole session."""

    def __init__(self, odometry: Sequence[OdometrySample]) -> None:
        self._odometry = odometry
        self._stamps = np.array([sample.stamp_ns for sample in odometry], dtype=np.int64)

    def now_SE3_then(self, now_ns: int, then_ns: int) -> SE3:
        """Transform from `base_link` at one time to `base_link` at another; the identity where odometry is missing."""
        low, high = min(now_ns, then_ns) - WINDOW_NS, max(now_ns, then_ns) + WINDOW_NS
        first, last = np.searchsorted(self._stamps, (low, high))
        near = tuple(self._odometry[int(first) : int(last)])
        motion = EgoMotion(Snapshot(now_ns, "", odometry=near)).now_SE3_then(then_ns)
        return motion or SE3.identity()

    def truth_at(self, truth: dict[int, Boxes3D], stamp_ns: int) -> Boxes3D | None:
        """Return the nearest truth moved to a time, or None when none is within `TRUTH_WITHIN_NS`."""
        if not truth:
            return None
        stamps = np.fromiter(truth, dtype=np.int64, count=len(truth))
        then_ns = int(stamps[np.abs(stamps - stamp_ns).argmin()])
        if abs(then_ns - stamp_ns) > TRUTH_WITHIN_NS:
            return None
        boxes = truth[then_ns]
        moved = np.nan_to_num(boxes.velocities_mps) * (stamp_ns - then_ns) * 1e-9
        centers_m = boxes.centers_m + np.concatenate([moved, np.zeros((len(boxes), 1))], axis=1)
        return replace(boxes, centers_m=centers_m).transform(self.now_SE3_then(stamp_ns, then_ns))
