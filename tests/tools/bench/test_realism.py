# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from peft_dml_ros.core.classes import CLASSES
from peft_dml_tools.bench import published
from peft_dml_tools.bench.realism import realism_rows
from peft_dml_tools.bench.statistics import RANGE_BINS_M, FolderStatistics, Objects, Sweeps, measure_folder


def made(*, points=1.0, size=1.0, rcs_db=0.0, near_m=0.05, names=tuple(published.CLASSES)):
    """A folder that measures what is published, but for these factors: one object a class and range bin."""
    rows = []
    for name in names:
        one = published.CLASSES[name]
        for (low, high), pair in zip(RANGE_BINS_M, one.lidar_points, strict=True):
            count = 0 if pair is None else pair[0] * points
            rows.append((CLASSES.index(name), *(size * s for s in one.size_m), (low + high) / 2, count))
    table = np.array(rows)
    objects = Objects(
        table[:, 0].astype(int), table[:, 1:4], table[:, 4], table[:, 5].astype(int), np.zeros(len(table), int)
    )
    lidar = Sweeps(np.array([34736]), (np.array([near_m] * 24 + [6.7] * 70 + [36.0] * 6),), (np.linspace(0, 60, 100),))
    levels = np.array([*np.full(10, 0.0), *np.full(80, 7.9), *np.full(10, 23.3)]) + rcs_db
    return FolderStatistics(1, objects, lidar, Sweeps(np.array([60]), (np.linspace(0, 90, 100),), (levels,)))


def by_name(rows):
    return {(row["group"], row["name"]): row for row in rows}


def test_equal_figures_have_ratio_one():
    rows = by_name(realism_rows(made()))
    for name, one in published.CLASSES.items():
        assert rows[name, "length"]["ratio"] == pytest.approx(1)
        assert rows[name, "length"]["within_1_5"]
        assert rows[name, "LiDAR points, 20-30 m"]["simulated"] == one.lidar_points[2][0]
        assert rows[name, "LiDAR points, 20-30 m"]["real_count"] == one.lidar_points[2][1]
    assert rows["front radar", "RCS p50"]["ratio"] == pytest.approx(1)


@pytest.mark.parametrize(("factor", "near"), [(1.45, True), (1.6, False), (0.7, True), (0.6, False)])
def test_the_factor_decides(factor, near):
    rows = by_name(realism_rows(made(points=factor, size=factor)))
    assert rows["car", "length"]["within_1_5"] is near
    assert rows["car", "LiDAR points, 0-10 m"]["within_1_5"] is near
    assert rows["car", "LiDAR points, 0-10 m"]["ratio"] == pytest.approx(factor, rel=0.01)


@pytest.mark.parametrize(("shift_db", "near"), [(1.7, True), (1.9, False), (-1.7, True), (-1.9, False)])
def test_cross_sections_are_compared_in_square_metres(shift_db, near):
    row = by_name(realism_rows(made(rcs_db=shift_db)))["front radar", "RCS p50"]
    assert row["within_1_5"] is near
    assert row["ratio"] == pytest.approx(10 ** (shift_db / 10), rel=0.001)


@pytest.mark.parametrize(("near_m", "near"), [(0.1, True), (0.12, False), (0.0, True)])
def test_a_difference_within_the_last_digit_is_near(near_m, near):
    row = by_name(realism_rows(made(near_m=near_m)))["LiDAR sweep", "range p5"]
    assert (row["real"], row["rounding"]) == (0.05, 0.05)
    assert row["ratio"] == pytest.approx(near_m / 0.05)
    assert row["within_1_5"] is near


def test_what_is_not_there_is_not_near():
    row = by_name(realism_rows(made(names=("car",))))["truck", "length"]
    assert (row["simulated"], row["simulated_count"], row["ratio"], row["within_1_5"]) == (None, 0, None, False)


def test_a_real_folder_stands_beside_and_changes_nothing_else(simulated):
    alone, compared = realism_rows(made()), realism_rows(made(), measure_folder(simulated))
    assert any(row["keyframe"] is not None for row in compared)
    assert [row | {"keyframe": None} for row in compared] == alone


def test_every_class_the_issue_names_has_every_figure():
    names = {name for group, name in by_name(realism_rows(made())) if group == "car"}
    assert len(names) == 8
    for group in ("pedestrian", "truck", "motorcycle"):
        assert {name for g, name in by_name(realism_rows(made())) if g == group} == names
