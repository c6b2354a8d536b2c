# SPDX-License-Identifier: Apache-2.0
"""Inertial unit, satellite receiver and odometry, all read off the ego's one path."""

from __future__ import annotations

from typing import Final

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import GnssFix, ImuSample, OdometrySample
from peft_dml_ros.core.typing import FloatArray
from peft_dml_ros.sim.world import World

GRAVITY_MPS2: Final = 9.81
ACCEL_SIGMA: Final = 0.15
GYRO_SIGMA: Final = 0.012
GNSS_SIGMA_M: Final = 0.4
EARTH_RADIUS_M: Final = 6378137.0

MAP_ORIGINS_DEG: Final = {
    "boston-seaport": (42.336849169438615, -71.05785369873047),
    "singapore-onenorth": (1.2882100868743724, 103.78475189208984),
}
"""Latitude and longitude of the maps' corners, as the nuScenes devkit gives them."""


def imu_biases(seed: int) -> tuple[FloatArray, FloatArray]:
    """Constant biases of a drive: (3,) m/s² and (3,) rad/s."""
    rng = np.random.default_rng([seed, 7])
    return rng.normal(0, 0.08, 3), rng.normal(0, 0.003, 3)


def imu_sample(world: World, time_s: float, stamp_ns: int, rng: np.random.Generator) -> ImuSample:
    """Specific force and rate in `base_link` axes: gravity on z, centripetal on y."""
    ego, grid = world.ego, world.times_s
    speed = float(np.interp(time_s, grid, ego.speed_mps))
    rate = float(np.interp(time_s, grid, ego.yaw_rate_radps))
    along = float(np.interp(time_s, grid, ego.accel_mps2))
    accel_bias, gyro_bias = imu_biases(world.seed)
    shake = ACCEL_SIGMA * (0.3 + min(speed, 12.0) / 12.0)
    accel = np.array([along, speed * rate, GRAVITY_MPS2]) + accel_bias + rng.normal(0, shake, 3)
    gyro = np.array([0.0, 0.0, rate]) + gyro_bias + rng.normal(0, GYRO_SIGMA, 3) * [1.0, 1.0, 0.3]
    return ImuSample(stamp_ns, accel, gyro)


def gnss_fix(
    world: World, global_SE3_world: SE3, location: str, time_s: float, stamp_ns: int, rng: np.random.Generator
) -> GnssFix:
    """Position by the map's origin, with white noise."""
    position = (global_SE3_world @ world.world_SE3_base(time_s)).translation
    east, north, up = position + rng.normal(0, [GNSS_SIGMA_M, GNSS_SIGMA_M, 2 * GNSS_SIGMA_M])
    latitude, longitude = MAP_ORIGINS_DEG[location]
    return GnssFix(
        stamp_ns,
        latitude + float(np.rad2deg(north / EARTH_RADIUS_M)),
        longitude + float(np.rad2deg(east / (EARTH_RADIUS_M * np.cos(np.deg2rad(latitude))))),
        float(up),
        GNSS_SIGMA_M,
    )


def odometry_sample(world: World, time_s: float, stamp_ns: int) -> OdometrySample:
    """Pose since the start of the drive; drift is below what sweeps of half a second can show."""
    return OdometrySample(stamp_ns, world.world_SE3_base(0.0).inverse() @ world.world_SE3_base(time_s))
