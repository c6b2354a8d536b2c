# SPDX-License-Identifier: Apache-2.0
"""Small made-up measurements for tests of the core."""

import cv2
import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import (
    RADAR_DTYPE,
    CameraImage,
    GnssFix,
    ImuSample,
    LidarSweep,
    OdometrySample,
    RadarSweep,
)
from peft_dml_ros.core.rig import CameraModel, Rig, Sensor

MS = 1_000_000
START_NS = 1_700_000_000_000 * MS
CAMERAS = ("CAM_FRONT", "CAM_BACK")
base_R_optical = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def rig() -> Rig:
    """A LiDAR, two cameras, one radar, IMU, GNSS and odometry."""
    camera = CameraModel(np.array([[280.0, 0, 176], [0, 280, 99], [0, 0, 1]]), 352, 198)
    front = SE3(base_R_optical, np.array([1.7, 0, 1.5]))
    back = SE3.from_yaw(np.pi) @ front
    sensors = [
        Sensor("LIDAR_TOP", "lidar", SE3.from_yaw(-np.pi / 2, (0.94, 0, 1.84))),
        Sensor("CAM_FRONT", "camera", front, camera),
        Sensor("CAM_BACK", "camera", back, camera),
        Sensor("RADAR_FRONT", "radar", SE3.from_yaw(0.1, (3.4, 0, 0.5))),
        Sensor("IMU", "imu", SE3.identity()),
        Sensor("GNSS", "gnss", SE3.identity()),
        Sensor("ODOM", None, SE3.identity()),
    ]
    return Rig({s.name: s for s in sensors})


def lidar(stamp_ns: int, n: int = 500) -> LidarSweep:
    """Random points that differ from stamp to stamp."""
    points = np.random.default_rng(stamp_ns % 2**32).uniform(-40, 40, (n, 5)).astype(np.float32)
    points[:, 2] = np.abs(points[:, 2]) / 20 - 1.5
    points[:, 3] = np.abs(points[:, 3])
    return LidarSweep(stamp_ns, points)


def radar(stamp_ns: int, n: int = 20) -> RadarSweep:
    """Random radar points that differ from stamp to stamp."""
    rng = np.random.default_rng(stamp_ns % 2**32)
    points = np.zeros(n, dtype=RADAR_DTYPE)
    points["x"], points["y"] = rng.uniform(5, 40, n), rng.uniform(-10, 10, n)
    points["rcs"] = rng.normal(5, 3, n)
    points["ambig_state"] = 3
    return RadarSweep(stamp_ns, points)


def image(stamp_ns: int) -> CameraImage:
    """A JPEG, brighter to the right, whose colour depends on the stamp."""
    shade = stamp_ns // MS % 150 + 20
    pixels = np.full((198, 352, 3), shade, np.uint8) + np.linspace(0, 80, 352, dtype=np.uint8)[None, :, None]
    ok, data = cv2.imencode(".jpg", pixels)
    assert ok
    return CameraImage(stamp_ns, data.tobytes())


def imu(stamp_ns: int, yaw_rate: float = 0.0) -> ImuSample:
    """At rest but for a yaw rate."""
    return ImuSample(stamp_ns, np.array([0.0, 0.0, 9.81]), np.array([0.0, 0.0, yaw_rate]))


def gnss(stamp_ns: int, north_m: float = 0.0) -> GnssFix:
    """A fix north of a point in Singapore."""
    return GnssFix(stamp_ns, 1.2882 + np.rad2deg(north_m / 6378137.0), 103.7847, 10.0, 1.0)


def odometry(stamp_ns: int, x_m: float = 0.0) -> OdometrySample:
    """Straight ahead along x of the odometry frame."""
    return OdometrySample(stamp_ns, SE3.from_yaw(0.0, (x_m, 0.0, 0.0)))
