# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from peft_dml_tools.datasets.lidar_timing import spin_offsets_s
from peft_dml_tools.datasets.nuscenes import NuScenesReader

PERIOD_S = 0.05


def _turn(columns=1000, range_m=20.0):
    """Points (N, 3) of one level beam, and their times: clockwise from the left, the stamp at the end."""
    time_s = np.arange(columns) / columns * PERIOD_S - PERIOD_S
    azimuth = np.pi - (time_s / PERIOD_S + 1) * 2 * np.pi
    return range_m * np.stack([np.cos(azimuth), np.sin(azimuth), 0 * azimuth], axis=1), time_s


def test_directions_have_the_times_at_which_the_beam_passes_them():
    points = np.array([[0, 9, 0], [9, 0, 0], [0, -9, 0], [-9, -0.01, 0]], np.float32)
    offsets = spin_offsets_s(points, PERIOD_S)
    assert offsets.dtype == np.float32
    np.testing.assert_allclose(offsets, [-0.0375, -0.025, -0.0125, 0.0], atol=1e-4)


def test_order_does_not_matter_but_for_the_seam():
    points, time_s = _turn()
    order = np.random.default_rng(0).permutation(np.arange(5, 995))
    np.testing.assert_allclose(spin_offsets_s(points[order], PERIOD_S), time_s[order], atol=1e-6)


@pytest.mark.parametrize("lost", [0.0, 0.4])
def test_the_order_of_the_file_settles_the_seam_and_near_points(lost):
    points, time_s = _turn()
    kept = np.random.default_rng(1).random(len(points)) >= lost
    # Compensation for 20 m/s moves the first points across the seam, and firings without return off the origin.
    points[100:200] = 0.0
    points[:, 1] += 20.0 * time_s
    np.testing.assert_allclose(spin_offsets_s(points[kept], PERIOD_S), time_s[kept], atol=7e-4)


def test_odd_sweeps_have_times_too():
    assert spin_offsets_s(np.zeros((0, 3), np.float32), PERIOD_S).shape == (0,)
    for points in (np.zeros((40, 3)), np.full((40, 3), np.nan)):
        offsets = spin_offsets_s(points, PERIOD_S)
        assert ((offsets >= -PERIOD_S) & (offsets <= 0)).all()


def test_a_real_sweep_is_one_turn_and_was_compensated_for_the_vehicles_motion(real_keyframe):
    reader = NuScenesReader(real_keyframe)
    points = reader.load(reader.keyframes(reader.samples()[0])["LIDAR_TOP"]).points
    offsets = spin_offsets_s(points, PERIOD_S)
    column = np.arange(len(points)) // 32
    expected = column / (column[-1] + 1) * PERIOD_S - PERIOD_S
    assert np.quantile(np.abs(offsets - expected), 0.99) < 1e-3
    # Firings without return lie where the sensor was: it came forward at 9 m/s.
    idle = points[:, 4] >= 24
    idle &= np.linalg.norm(points[:, :3], axis=1) < 0.5
    speed = np.polyfit(expected[idle], points[idle, 1], 1)[0]
    assert speed == pytest.approx(9.05, abs=0.1)
