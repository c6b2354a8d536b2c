# SPDX-License-Identifier: Apache-2.0
"""The plan of segments follows the frames of one run."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from peft_dml_ros.core.params import SyncParams
from peft_dml_tools.fleet.segments import LEAD_S, NS, frame_grid, plan_segments, with_lead

SYNC = SyncParams()


def stamps(seconds: float, hz: float) -> np.ndarray:
    return (np.arange(int(seconds * hz)) * NS / hz).astype(np.int64) + NS


def test_a_20_hz_lidar_gives_every_second_sweep() -> None:
    sweeps = stamps(3, 20)
    assert frame_grid(sweeps, SYNC).tolist() == sweeps[::2].tolist()


def test_segments_start_at_frames_of_the_whole_drive() -> None:
    sweeps = stamps(100, 20)
    grid = set(frame_grid(sweeps, SYNC).tolist())
    segments = plan_segments(sweeps, 30, SYNC)
    assert len(segments) == 3
    assert (segments[0].from_ns, segments[-1].to_ns) == (0, 0)
    for before, after in itertools.pairwise(segments):
        assert before.to_ns == after.from_ns
        assert {after.from_ns, after.start_ns} <= grid
        assert after.from_ns - after.start_ns >= LEAD_S * NS


def test_a_gap_of_the_lidar_is_no_place_to_split() -> None:
    sweeps = stamps(60, 10)
    hole = sweeps[(sweeps < 29 * NS) | (sweeps > 30 * NS)]
    (first, second) = plan_segments(hole, 30, SYNC)
    assert not 29 * NS <= first.to_ns <= 30 * NS + LEAD_S * NS
    assert second.from_ns == first.to_ns


def test_a_long_enough_lead_is_the_whole_drive() -> None:
    sweeps = stamps(60, 10)
    segment = plan_segments(sweeps, 30, SYNC)[1]
    assert with_lead(segment, frame_grid(sweeps, SYNC), 1000.0).start_ns == 0


@given(st.lists(st.integers(1, 400), min_size=2, max_size=400), st.floats(5, 40))
def test_every_frame_belongs_to_one_segment(gaps_ms, length_s) -> None:
    sweeps = np.cumsum(np.array(gaps_ms) * 1_000_000) + NS
    segments = plan_segments(sweeps, length_s, SYNC)
    for stamp in frame_grid(sweeps, SYNC).tolist():
        assert sum(segment.counts(stamp) for segment in segments) == 1
