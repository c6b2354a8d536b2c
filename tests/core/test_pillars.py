# SPDX-License-Identifier: Apache-2.0
"""Pillars against a plain numpy version of the same rule."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_dml_ros.core.pillars import lidar_pillars, radar_pillars
from peft_dml_ros.core.spec import GridSpec, LidarSpec, RadarSpec

GRID = GridSpec(half_range_m=16.0, size=16)
SPEC = LidarSpec(pillar_grid=32, pillars=300, points_per_pillar=4)


def cloud(n, seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-18, 18, (n, 5)).astype(np.float32)
    points[:, 2] = rng.uniform(-3, 6, n)
    points[:, 3:] = rng.uniform(0, 1, (n, 2))
    return points


def oracle(points, spec):
    """Cell -> the points that the pillar must hold, in order of arrival."""
    cells = {}
    for p in points[(points[:, 2] > spec.z_min_m) & (points[:, 2] < spec.z_max_m)]:
        column, row = np.floor((p[:2] + 16.0) / (32.0 / spec.pillar_grid)).astype(int)
        if 0 <= column < spec.pillar_grid and 0 <= row < spec.pillar_grid:
            cells.setdefault(row * spec.pillar_grid + column, []).append(p)
    return {cell: np.array(rows[: spec.points_per_pillar]) for cell, rows in cells.items()}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 250), st.integers(0, 1000))
def test_pillars_hold_what_the_oracle_says(n, seed):
    points = cloud(n, seed)
    features, index_map = lidar_pillars(points, GRID, SPEC)
    expected = oracle(points, SPEC)
    assert set(np.flatnonzero(index_map < SPEC.pillars)) == set(expected)
    for cell, rows in expected.items():
        pillar = features[index_map[cell]]
        np.testing.assert_allclose(pillar[: len(rows), :5], rows, rtol=1e-6)
        np.testing.assert_allclose(pillar[: len(rows), 5:8], rows[:, :3] - rows[:, :3].mean(axis=0), atol=1e-4)
        centre = (np.array([cell % 32, cell // 32]) + 0.5) - 16.0
        np.testing.assert_allclose(pillar[: len(rows), 8:], rows[:, :2] - centre, atol=1e-4)
        np.testing.assert_array_equal(pillar[len(rows) :], np.repeat(pillar[:1], 4 - len(rows), axis=0))


def test_overflow_drops_the_far_end_and_keeps_the_newest_points():
    points = cloud(3000, 1)
    few = SPEC.model_copy(update={"pillars": 50})
    features, index_map = lidar_pillars(points, GRID, few)
    expected = oracle(points, SPEC)
    kept = np.flatnonzero(index_map < 50)
    assert len(kept) == 50
    assert set(kept) <= set(expected)

    def distance(cells):
        cells = np.array(sorted(cells))
        return np.hypot(cells % 32 - 15.5, cells // 32 - 15.5)

    assert distance(kept).max() <= distance(set(expected) - set(kept)).min()
    for cell in kept:
        rows = expected[cell]
        np.testing.assert_allclose(features[index_map[cell]][: len(rows), :5], rows, rtol=1e-6)


def test_radar_pillars_scale_and_repeat():
    spec = RadarSpec(pillars=10, points_per_pillar=3)
    points = np.array([[1.2, 1.2, 10.0, 5.0, -5.0, 0.1], [1.4, 1.9, 0.0, 0, 0, 0.2]], dtype=np.float32)
    features, index_map = radar_pillars(points, GRID, spec)
    pillar = features[index_map[(16 // 2) * 16 + 8]]
    np.testing.assert_allclose(pillar[0], [1.2, 1.2, 0.5, 0.5, -0.5, 0.1, 0.2, 0.2], atol=1e-6)
    np.testing.assert_array_equal(pillar[2], pillar[0])
    assert (index_map < 10).sum() == 1


def test_no_points_no_pillars():
    features, index_map = radar_pillars(np.zeros((0, 6), dtype=np.float32), GRID, RadarSpec())
    assert not features.any()
    assert (index_map == RadarSpec().pillars).all()
