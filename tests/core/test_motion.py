# SPDX-License-Identifier: Apache-2.0
"""Ego motion from odometry, from IMU and GNSS, or unknown; windows that hold no absolute position."""

from dataclasses import replace

import numpy as np
import pytest

from peft_dml_ros.core.motion import EgoMotion, gnss_window, imu_window
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import GnssSpec, ImuSpec
from tests.support import scenes
from tests.support.scenes import MS, START_NS


def test_odometry_is_interpolated():
    odometry = tuple(scenes.odometry(START_NS + k * 100 * MS, 1.0 * k) for k in range(-3, 1))
    motion = EgoMotion(Snapshot(START_NS, "LIDAR_TOP", odometry=odometry))
    now_SE3_then = motion.now_SE3_then(START_NS - 150 * MS)
    np.testing.assert_allclose(now_SE3_then.translation, [-1.5, 0, 0], atol=1e-9)


def test_odometry_a_little_late_is_extrapolated_and_much_too_late_is_not_used():
    def motion(last_ms):
        odometry = tuple(scenes.odometry(START_NS + t * MS, 10e-3 * t) for t in (last_ms - 20, last_ms))
        return EgoMotion(Snapshot(START_NS, "LIDAR_TOP", odometry=odometry))

    np.testing.assert_allclose(motion(-50).now_SE3_then(START_NS - 60 * MS).translation, [-0.6, 0, 0], atol=1e-9)
    assert motion(-400).now_SE3_then(START_NS - 410 * MS) is None


def test_without_odometry_imu_and_gnss_carry_on():
    imu = tuple(scenes.imu(START_NS - k * 10 * MS, yaw_rate=0.2) for k in range(20))[::-1]
    gnss = tuple(scenes.gnss(START_NS - k * 100 * MS, -1.0 * k) for k in range(5))[::-1]
    now_SE3_then = EgoMotion(Snapshot(START_NS, "LIDAR_TOP", imu=imu, gnss=gnss)).now_SE3_then(START_NS - 500 * MS)
    assert now_SE3_then.yaw_rad == pytest.approx(-0.1)
    assert now_SE3_then.translation[0] == pytest.approx(-5.0, abs=0.02)


def test_without_any_motion_only_the_present_is_known():
    motion = EgoMotion(Snapshot(START_NS, "LIDAR_TOP"))
    assert motion.now_SE3_then(START_NS - MS) is None
    np.testing.assert_array_equal(motion.now_SE3_then(START_NS).translation, 0)


def test_imu_gaps_are_marked_not_filled():
    spec = ImuSpec()
    samples = [scenes.imu(START_NS - k * 10 * MS) for k in range(60) if not 20 <= k < 35][::-1]
    window, share = imu_window(samples, START_NS, spec)
    assert window[-1, 2] == pytest.approx(1.0)
    assert 0.6 < share < 0.95
    assert not window[window[:, 6] == 0].any()
    assert imu_window([], START_NS, spec)[1] == 0


def test_gnss_window_is_the_same_anywhere_on_earth():
    spec = GnssSpec()
    here = [scenes.gnss(START_NS - k * 100 * MS, -1.5 * k) for k in range(6)][::-1]
    there = [replace(f, latitude_deg=f.latitude_deg + 41.0, longitude_deg=-71.05) for f in here]
    first, share = gnss_window(here, START_NS, spec)
    second, _ = gnss_window(there, START_NS, spec)
    np.testing.assert_allclose(first, second, atol=1e-5)
    np.testing.assert_allclose(first[-6:, 1] * 10, [-7.5, -6.0, -4.5, -3.0, -1.5, 0], atol=1e-3)
    assert share == pytest.approx(6 / 8)
    assert gnss_window([replace(f, has_fix=False) for f in here], START_NS, spec)[1] == 0


def test_gnss_window_over_the_180th_meridian_goes_the_short_way():
    still = [scenes.gnss(START_NS - k * 100 * MS, 0.0) for k in range(6)][::-1]
    east = [replace(f, longitude_deg=7.0 + 1e-5 * k) for k, f in enumerate(still)]
    over = [replace(f, longitude_deg=179.99997 + 1e-5 * k - 360.0 * (k > 2)) for k, f in enumerate(still)]
    np.testing.assert_allclose(*(gnss_window(fixes, START_NS, GnssSpec())[0] for fixes in (east, over)), atol=1e-5)
