# SPDX-License-Identifier: Apache-2.0
"""Doppler speeds alone: what stands comes out standing, what drives keeps its speed, whatever the radar does itself."""

import numpy as np
import pytest

from peft_dml_ros.core.doppler import points_from_returns, radar_velocity
from peft_dml_tools.datasets.nuscenes_files import read_radar

RNG = np.random.default_rng(3)


def returns_of(velocity, standing=60, moving=12, noise_mps=0.05):
    """(N, 5) returns of a radar that moves so; the last `moving` of them drive away at 7 m/s."""
    n = standing + moving
    azimuth, elevation = RNG.uniform(-0.8, 0.8, n), RNG.uniform(-0.05, 0.05, n)
    directions = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1) * np.cos(elevation)[:, None]
    doppler = -directions @ np.asarray(velocity) + RNG.normal(0, noise_mps, n)
    doppler[standing:] += 7.0
    return np.stack([RNG.uniform(5, 80, n), azimuth, elevation, doppler, RNG.uniform(-5, 25, n)], axis=1)


@pytest.mark.parametrize("velocity", [(15.0, 0.3), (0.0, 0.0), (-4.0, 9.0), (30.0, -2.0)])
def test_the_radars_own_motion_is_taken_out(velocity):
    returns = returns_of(velocity)
    points = points_from_returns(returns)
    speed = np.hypot(points["vx_comp"], points["vy_comp"])
    assert speed[:60].max() < 0.4
    np.testing.assert_allclose(speed[60:], 7.0, atol=0.4)
    # Away from the radar, along the line of sight.
    assert ((points["vx_comp"] * points["x"] + points["vy_comp"] * points["y"])[60:] > 0).all()
    np.testing.assert_allclose(np.hypot(points["vx"], points["vy"]), np.abs(returns[:, 3]), rtol=0.01, atol=0.05)


def test_places_follow_azimuth_anticlockwise_and_elevation_upwards():
    (point,) = points_from_returns(np.array([[10.0, np.pi / 6, np.pi / 6, 0.0, 8.0]]))
    np.testing.assert_allclose([point["x"], point["y"], point["z"]], [7.5, 10 * np.sqrt(3) / 4, 5.0], atol=1e-5)
    assert point["rcs"] == 8.0
    assert (point["is_quality_valid"], point["ambig_state"], point["invalid_state"]) == (1, 3, 0)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_returns_are_taken_to_stand(count):
    points = points_from_returns(returns_of((12.0, 0.0), standing=count, moving=0))
    assert len(points) == count
    assert not points["vx_comp"].any()


def test_no_velocity_is_invented_where_most_returns_disagree_or_lie_in_one_line():
    wild = returns_of((10.0, 0.0), standing=10, moving=0)
    directions = np.stack([np.cos(wild[:, 1]), np.sin(wild[:, 1])], axis=1)
    assert radar_velocity(directions, np.linspace(-40, 40, 10)) is None
    assert radar_velocity(np.tile([[1.0, 0.0]], (10, 1)), np.full(10, -10.0)) is None


def test_real_radars_find_the_same_speed_as_the_vehicle_gave_them(real_keyframe):
    """nuScenes gives both speeds of each point: what its radar moved by is their difference."""
    checked = 0
    for path in sorted(real_keyframe.glob("samples/RADAR_*/*.pcd")):
        points = read_radar(path, 0).points
        xy = np.stack([points["x"], points["y"]], axis=1).astype(np.float64)
        directions = xy / np.linalg.norm(xy, axis=1, keepdims=True)
        raw = (directions * np.stack([points["vx"], points["vy"]], axis=1)).sum(axis=1)
        known = (directions * np.stack([points["vx_comp"], points["vy_comp"]], axis=1)).sum(axis=1)
        velocity = radar_velocity(directions, raw)
        if velocity is None:
            continue
        checked += 1
        assert np.median(np.abs(raw + directions @ velocity - known)) < 0.3, path.name
    assert checked >= 1
