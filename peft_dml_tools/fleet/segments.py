# SPDX-License-Identifier: Apache-2.0
"""Splits long drives into segments that are run apart, and checks that the boxes are those of one run.

The synchroniser makes a frame at every LiDAR sweep that is at least a share of the period after the last frame. So
where a segment starts decides which sweeps become frames. The plan computes these frames from the stamps of the whole
drive and starts every segment at one of them. A segment begins `LEAD_S` early, so that buffers and sensor health reach
the state they have in one run, and ends `TAIL_S` late. The overlap of two neighbours must agree box by box; where it
does not, the later segment is run again one frame earlier, then with twice the lead, in the end from the start of the
drive.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from peft_dml_ros.core.params import SyncParams
from peft_dml_ros.core.sync import EARLY
from peft_dml_ros.core.typing import IntArray

LEAD_S: Final = 6.0
TAIL_S: Final = 0.5  #: Overlap after a boundary that two segments are compared on, besides the last second before it
STEADY: Final = 1.5  #: A gap between sweeps above this many median gaps is no place to split
NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a drive."""

    index: int  #: Place in the drive, from 0
    start_ns: int = 0  #: Stamp from which measurements are read; 0 for the start of the drive
    from_ns: int = 0  #: Stamp of the first frame that counts; 0 for the start of the drive
    to_ns: int = 0  #: Stamp of the first frame of the next segment; 0 for the end of the drive

    @property
    def read_until_ns(self) -> int:
        """Stamp after which no measurement is read; 0 for the end of the drive."""
        return self.to_ns + round(TAIL_S * NS) if self.to_ns else 0

    def counts(self, stamp_ns: int) -> bool:
        """Return whether a frame belongs to this segment and not to the overlap with a neighbour."""
        return self.from_ns <= stamp_ns and (not self.to_ns or stamp_ns < self.to_ns)

    def compared(self, stamp_ns: int, boundary_ns: int) -> bool:
        """Return whether a frame lies in the overlap around a boundary on which neighbours are compared."""
        return boundary_ns - NS <= stamp_ns < boundary_ns + round(TAIL_S * NS)


def frame_grid(stamps_ns: IntArray, sync: SyncParams) -> IntArray:
    """Return which ascending LiDAR stamps (N,) become frames in one run of the whole drive, where none is refused."""
    gap_ns, frames = int(EARLY * sync.period_s * 1e9), list[int]()
    for stamp in stamps_ns.tolist():
        if not frames or stamp - frames[-1] >= gap_ns:
            frames.append(stamp)
    return np.array(frames, dtype=np.int64)


def plan_segments(stamps_ns: Sequence[int], length_s: float, sync: SyncParams) -> tuple[Segment, ...]:
    """Return the segments of a drive.

    Args:
        stamps_ns: Ascending LiDAR stamps of the whole drive; a drive without LiDAR is not split.
        length_s: Wanted length of a segment; 0 does not split.
        sync: As of the node.
    """
    stamps = np.asarray(stamps_ns, dtype=np.int64)
    if not length_s or len(stamps) < 2:
        return (Segment(0),)
    grid = frame_grid(stamps, sync)
    gaps = np.diff(stamps)
    broken = stamps[1:][gaps > STEADY * np.median(gaps)]
    boundaries: list[int] = []
    target = int(grid[0]) + round(length_s * NS)
    while target < grid[-1] - round(length_s * NS / 2):
        boundary = _steady_frame(grid, broken, target, round(length_s * NS / 4))
        boundaries.append(boundary)
        target = boundary + round(length_s * NS)
    edges = [0, *boundaries, 0]
    segments = (Segment(i, 0, a, b) for i, (a, b) in enumerate(itertools.pairwise(edges)))
    return tuple(with_lead(segment, grid, LEAD_S) for segment in segments)


def with_lead(segment: Segment, grid: IntArray, lead_s: float, shift: int = 0) -> Segment:
    """Return a segment that starts reading at the last frame at least `lead_s` before its first one.

    Args:
        segment: What is read and counted.
        grid: Frames of the whole drive.
        lead_s: Seconds before its first frame.
        shift: Frames to start earlier still: encoders that run at every second frame depend on where they start.
    """
    if not segment.from_ns:
        return segment
    before = grid[grid <= segment.from_ns - round(lead_s * NS)]
    return replace(segment, start_ns=int(before[-1 - shift]) if len(before) > 1 + shift else 0)


def _steady_frame(grid: IntArray, broken: IntArray, target_ns: int, within_ns: int) -> int:
    """Return the frame nearest to a time whose lead has no gap of the LiDAR; the nearest of all where none has."""
    near = grid[np.abs(grid - target_ns) <= within_ns]
    near = near if len(near) else grid[[int(np.abs(grid - target_ns).argmin())]]
    lead = round(LEAD_S * NS)
    steady = [f for f in near.tolist() if not ((broken > f - lead) & (broken <= f)).any()]
    return int(min(steady or near.tolist(), key=lambda f: abs(f - target_ns)))
