# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pymap3d
import pytest

from peft_dml_tools.sim import motion
from peft_dml_tools.sim.drive import Drive, DriveSpec
from peft_dml_tools.sim.world import World

QUIET = DriveSpec(camera_hz=0, radar_hz=0, lidar_hz=2)


def _motion_of(drive, sensor):
    """Only this sensor's measurements: the rest is not rendered."""
    events = [e for e in drive.events if e.sensor == sensor]
    return [rendered.measurement for rendered in drive._rendered(events)]


@pytest.fixture(scope="module")
def turning() -> Drive:
    """A drive around a corner."""
    drives = (Drive(seed, 8.0, QUIET) for seed in range(60))
    return next(d for d in drives if np.abs(d.world.ego.yaw_rate_radps).max() > 0.35)


def test_imu_feels_gravity_and_the_turn(turning):
    samples = _motion_of(turning, "IMU")
    ego, grid = turning.world.ego, turning.world.times_s
    times = np.array([turning.time_s(m.stamp_ns) for m in samples])
    accel, gyro = (np.array([getattr(m, f) for m in samples]) for f in ("accel_mps2", "gyro_radps"))
    assert accel[:, 2].mean() == pytest.approx(9.81, abs=0.3)
    rate, speed = np.interp(times, grid, ego.yaw_rate_radps), np.interp(times, grid, ego.speed_mps)
    assert np.corrcoef(gyro[:, 2], rate)[0, 1] > 0.99
    assert np.corrcoef(accel[:, 1], speed * rate)[0, 1] > 0.9
    turn = np.interp(8.0, grid, ego.pose[:, 2]) - ego.pose[0, 2]
    assert gyro[:, 2].mean() * 8.0 == pytest.approx(turn, abs=0.12)
    # Real: accel std .12 to .37 m/s^2, gyro .004 to .022 rad/s.
    assert 0.05 < (accel[:, 2]).std() < 0.4
    assert 0.004 < gyro[:, 0].std() < 0.03


def test_imu_has_the_gaps_of_a_real_bus():
    stamps = np.array([e.stamp_ns for e in Drive(1, 20.0, QUIET).events if e.sensor == "IMU"])
    gaps_ms = np.diff(stamps) * 1e-6
    assert np.median(gaps_ms) == pytest.approx(10.0, abs=0.3)
    assert 2.5 < gaps_ms.min() < 6.0
    assert 17.0 < gaps_ms.max() < 23.0
    assert len(stamps) == pytest.approx(2000, abs=5)


@pytest.mark.parametrize(
    "begin", [lambda d: 0.0, lambda d: float(d.world.times_s[np.argmax(np.abs(d.world.ego.yaw_rate_radps))]) - 0.25]
)
def test_odometry_brings_sweeps_together_within_centimetres(turning, begin):
    world, start = turning.world, max(begin(turning), 0.0)
    true = world.world_SE3_base(start).inverse() @ world.world_SE3_base(start + 0.5)
    first, last = (turning.odometry.sample(t, 0).odom_SE3_base for t in (start, start + 0.5))
    measured = first.inverse() @ last
    assert 0 < np.linalg.norm(measured.translation - true.translation) < 0.04
    assert abs(measured.yaw_rad - true.yaw_rad) < 0.004


def test_odometry_drifts_a_little_over_a_drive():
    errors = []
    for seed in range(5):
        world = World.make(seed, 10.0)
        odometry = motion.Odometry(world)
        true = world.world_SE3_base(0.0).inverse() @ world.world_SE3_base(10.0)
        way = np.hypot(*np.diff(world.ego.pose[:, :2], axis=0).T).sum()
        errors.append(np.linalg.norm(odometry.sample(10.0, 0).odom_SE3_base.translation - true.translation) / way)
        assert 0.995 <= odometry.scale <= 1.005
    assert 0.0002 < np.median(errors) < 0.006
    assert max(errors) < 0.02


def test_standing_wheels_do_not_turn(bare_world):
    odometry = motion.Odometry(bare_world())
    np.testing.assert_allclose(odometry.sample(3.0, 0).odom_SE3_base.translation, 0.0, atol=1e-9)


def test_gnss_agrees_with_the_path_on_every_map():
    maps = {drive.location: drive for drive in (Drive(seed, 1.0, QUIET) for seed in range(12))}
    assert set(maps) == set(motion.MAP_ORIGINS_DEG)
    for location, drive in maps.items():
        assert ("boston" in location) == (drive.world.road.hand > 0)
        latitude, longitude = motion.MAP_ORIGINS_DEG[location]
        error = []
        for fix in (f for f in _motion_of(drive, "GNSS") if f.has_fix):
            east, north, _ = pymap3d.geodetic2enu(fix.latitude_deg, fix.longitude_deg, 0.0, latitude, longitude, 0.0)
            error.append(np.array([east, north]) - drive.global_SE3_base(fix.stamp_ns).translation[:2])
        # Spherical, as the devkit maps positions: up to 0.7 % off the ellipsoid.
        away = np.linalg.norm(drive.global_SE3_base(drive.events[0].stamp_ns).translation[:2])
        assert np.abs(np.mean(error, axis=0)).max() < 1.0 + 0.007 * away


def test_some_drives_lose_the_satellites_for_a_while():
    spans = [motion.outage_s(seed, 20.0) for seed in range(200)]
    lost = [seed for seed, (begin, _) in enumerate(spans) if np.isfinite(begin)]
    assert 30 < len(lost) < 70
    seed = next(s for s in lost if spans[s][0] > 2.0 and spans[s][1] < 19.0)
    fixes = _motion_of(Drive(seed, 20.0, QUIET), "GNSS")
    good = np.array([f.has_fix for f in fixes])
    assert good[0]
    assert good[-1]
    runs = [len(list(group)) for has, group in itertools.groupby(good) if not has]
    assert runs == [pytest.approx(10 * (spans[seed][1] - spans[seed][0]), abs=1)]
    held = {(f.latitude_deg, f.longitude_deg) for f in fixes if not f.has_fix}
    assert len(held) == 1
