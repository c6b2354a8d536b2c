# SPDX-License-Identifier: Apache-2.0
"""Inertial unit, satellite receiver and odometry, all read off the ego's one path."""

from typing import Final

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import GnssFix, ImuSample, OdometrySample
from peft_dml_ros.core.motion import EARTH_RADIUS_M
from peft_dml_ros.core.typing import FloatArray
from peft_dml_tools.map_origins import MAP_ORIGINS_DEG
from peft_dml_tools.sim.suspension import attitude
from peft_dml_tools.sim.traffic import STEP_S
from peft_dml_tools.sim.world import World

GRAVITY_MPS2: Final = 9.81
ACCEL_SIGMA: Final = 0.15
GYRO_SIGMA: Final = 0.012
GNSS_SIGMA_M: Final = 0.4
GNSS_DRIFT_M: Final = 0.3
OUTAGE_SHARE: Final = 0.25  #: Share of drives with an outage of 1 to 6 s: a tunnel, a canyon of houses
ODOM_SCALE_SIGMA: Final = 0.002
ODOM_SPEED_SIGMA_MPS: Final = 0.02
ODOM_RATE_SIGMA_RADPS: Final = 0.0003
ODOM_LEVEL_SIGMA_RAD: Final = 0.001


def imu_biases(seed: int) -> tuple[FloatArray, FloatArray]:
    """Return the constant biases of a drive: (3,) m/s² and (3,) rad/s."""
    rng = np.random.default_rng([seed, 7])
    return rng.normal(0, 0.08, 3), rng.normal(0, 0.003, 3)


def imu_sample(world: World, time_s: float, stamp_ns: int, rng: np.random.Generator) -> ImuSample:
    """Return specific force and rates in `base_link` axes: gravity mostly on z, centripetal on y."""
    ego, grid = world.ego, world.times_s
    speed = float(np.interp(time_s, grid, ego.speed_mps))
    rate = float(np.interp(time_s, grid, ego.yaw_rate_radps))
    along = float(np.interp(time_s, grid, ego.accel_mps2))
    accel_bias, gyro_bias = imu_biases(world.seed)
    shake = ACCEL_SIGMA * (0.3 + min(speed, 12.0) / 12.0)
    up = world.world_SE3_base(time_s).rotation[2]
    accel = np.array([along, speed * rate, 0.0]) + GRAVITY_MPS2 * up + accel_bias + rng.normal(0, shake, 3)
    first, last = (_at(time_s + shift, grid, ego.body) for shift in (-STEP_S / 2, STEP_S / 2))
    roll_rate, pitch_rate = (last - first)[1:] / STEP_S
    gyro = np.array([roll_rate, pitch_rate, rate]) + gyro_bias + rng.normal(0, GYRO_SIGMA, 3) * [1.0, 1.0, 0.3]
    return ImuSample(stamp_ns, accel, gyro)


def _at(time_s: float, grid: FloatArray, rows: FloatArray) -> FloatArray:
    """Return rows (T, K) of the time grid at a time."""
    return np.array([np.interp(time_s, grid, column) for column in rows.T])


def map_of(seed: int, hand: int) -> str:
    """Return the nuScenes map that a drive is set on: traffic keeps right in Boston, left on the three of Singapore."""
    if hand > 0:
        return "boston-seaport"
    return ("singapore-onenorth", "singapore-hollandvillage", "singapore-queenstown")[seed % 3]


def outage_s(seed: int, duration_s: float) -> tuple[float, float]:
    """Return the begin and end of the time without satellites; both infinite for none."""
    rng = np.random.default_rng([seed, 9])
    begin, length = float(rng.uniform(0, duration_s)), float(rng.uniform(1, 6))
    return (begin, begin + length) if rng.random() < OUTAGE_SHARE else (np.inf, np.inf)


def gnss_fix(
    world: World, global_SE3_world: SE3, location: str, time_s: float, stamp_ns: int, rng: np.random.Generator
) -> GnssFix:
    """Return a position by the map's origin: white noise, a slow drift, and in some drives no fix for some seconds.

    Without a fix the last position stays, as receivers report it, and `has_fix` is false.
    """
    begin, end = outage_s(world.seed, world.duration_s)
    lost = begin <= time_s < end
    position = (global_SE3_world @ world.world_SE3_base(begin if lost else time_s)).translation
    phase = np.random.default_rng([world.seed, 10]).uniform(0, 2 * np.pi, 3)
    drift = GNSS_DRIFT_M * np.sin(phase + 2 * np.pi * (begin if lost else time_s) / 40.0)
    noise = np.zeros(3) if lost else rng.normal(0, [GNSS_SIGMA_M, GNSS_SIGMA_M, 2 * GNSS_SIGMA_M])
    east, north, up = position + drift + noise
    latitude, longitude = MAP_ORIGINS_DEG[location]
    return GnssFix(
        stamp_ns,
        latitude + float(np.rad2deg(north / EARTH_RADIUS_M)),
        longitude + float(np.rad2deg(east / (EARTH_RADIUS_M * np.cos(np.deg2rad(latitude))))),
        float(up),
        GNSS_SIGMA_M,
        has_fix=not lost,
    )


class Odometry:
    """Pose since the start of the drive: counted wheel turns, a yaw rate that drifts, and the body's attitude.

    The tyre's radius is a little wrong and wheels slip; height is that of the way driven; roll and pitch are levelled
    by gravity, as an inertial unit does it.
    """

    def __init__(self, world: World) -> None:
        rng = np.random.default_rng([world.seed, 11])
        self.scale = 1.0 + float(np.clip(rng.normal(0, ODOM_SCALE_SIGMA), -0.005, 0.005))
        bias = float(rng.normal(0, ODOM_RATE_SIGMA_RADPS))
        ego, self._times_s = world.ego, world.times_s
        step = np.diff(world.times_s)
        turning = np.diff(ego.pose[:, 2]) * self.scale + bias * step
        yaw = np.concatenate([[0.0], np.cumsum(turning)])
        moved = np.diff(ego.pose[:, :2], axis=0)
        cos, sin = np.cos(ego.pose[:-1, 2]), np.sin(ego.pose[:-1, 2])
        rolling = np.minimum(np.hypot(moved[:, 0], moved[:, 1]) / step, 1.0)
        slip = rng.normal(0, ODOM_SPEED_SIGMA_MPS, len(step)) * rolling * step
        ahead = (moved[:, 0] * cos + moved[:, 1] * sin) * self.scale + slip
        aside = (moved[:, 1] * cos - moved[:, 0] * sin) * self.scale
        steps = np.stack(
            [ahead * np.cos(yaw[:-1]) - aside * np.sin(yaw[:-1]), ahead * np.sin(yaw[:-1]) + aside * np.cos(yaw[:-1])],
            axis=1,
        )
        self._pose = np.column_stack([np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)]), yaw, ego.body])
        self._pose[:, 3] = (ego.body[:, 0] - ego.body[0, 0]) * self.scale
        self._pose[:, 4:] += rng.normal(0, ODOM_LEVEL_SIGMA_RAD, 2)

    def sample(self, time_s: float, stamp_ns: int) -> OdometrySample:
        """Return the pose at a time."""
        x, y, yaw, z, roll, pitch = map(float, _at(time_s, self._times_s, self._pose))
        return OdometrySample(stamp_ns, attitude(yaw, roll, pitch, (x, y, z)))
