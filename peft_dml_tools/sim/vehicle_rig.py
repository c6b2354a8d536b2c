# SPDX-License-Identifier: Apache-2.0
"""The simulated vehicle's sensors, mounted like those of a nuScenes car."""

from __future__ import annotations

from typing import Final

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import CameraModel, Rig, Sensor, modality_of_channel
from peft_dml_ros.core.typing import FloatArray

FULL_WIDTH_PX: Final = 1600
FULL_HEIGHT_PX: Final = 900

_CAMERAS: Final[dict[str, tuple[tuple[float, float, float], float, float, float, float]]] = {
    # position in base_link (m), yaw (deg), focal length, principal point (px at full width)
    "CAM_FRONT": ((1.70, 0.016, 1.51), 0.0, 1266.0, 816.0, 491.0),
    "CAM_FRONT_RIGHT": ((1.55, -0.493, 1.50), -56.0, 1261.0, 808.0, 495.0),
    "CAM_BACK_RIGHT": ((1.01, -0.481, 1.56), -110.0, 1260.0, 807.0, 501.0),
    "CAM_BACK": ((0.03, 0.003, 1.58), 180.0, 809.0, 829.0, 482.0),
    "CAM_BACK_LEFT": ((1.04, 0.485, 1.59), 109.0, 1257.0, 792.0, 493.0),
    "CAM_FRONT_LEFT": ((1.52, 0.495, 1.51), 55.0, 1273.0, 827.0, 480.0),
}
_RADARS: Final[dict[str, tuple[tuple[float, float, float], float]]] = {
    "RADAR_FRONT": ((3.412, 0.0, 0.5), 0.0),
    "RADAR_FRONT_LEFT": ((2.422, 0.8, 0.78), 90.0),
    "RADAR_FRONT_RIGHT": ((2.422, -0.8, 0.77), -90.0),
    "RADAR_BACK_LEFT": ((-0.562, 0.628, 0.61), 175.0),
    "RADAR_BACK_RIGHT": ((-0.562, -0.618, 0.61), -175.0),
}
LIDAR_POSITION_M: Final = (0.94, 0.0, 1.84)


def optical_rotation(yaw_rad: float) -> FloatArray:
    """(3, 3) rotation of a level camera's optical frame (z forward, x right, y down) that looks along a yaw."""
    forward = np.array([np.cos(yaw_rad), np.sin(yaw_rad), 0.0])
    right = np.array([np.sin(yaw_rad), -np.cos(yaw_rad), 0.0])
    return np.stack([right, [0.0, 0.0, -1.0], forward], axis=1)


def make_rig(image_width_px: int = 352, lidar_height_m: float = LIDAR_POSITION_M[2], focal_scale: float = 1.0) -> Rig:
    """The rig.

    Args:
        image_width_px: Cameras are scaled to it; heights keep 16:9.
        lidar_height_m: Of the LiDAR above the ground.
        focal_scale: Focal lengths, times those of a nuScenes car.
    """
    scale = image_width_px / FULL_WIDTH_PX
    height = round(FULL_HEIGHT_PX * scale)
    sensors = {}
    for name, (position, yaw_deg, focal, cx, cy) in _CAMERAS.items():
        intrinsics = np.array([[1.0, 0.0, cx * scale], [0.0, 1.0, cy * scale], [0.0, 0.0, 1.0]])
        intrinsics[[0, 1], [0, 1]] = focal * scale * focal_scale
        pose = SE3(optical_rotation(np.deg2rad(yaw_deg)), np.array(position))
        sensors[name] = Sensor(name, "camera", pose, CameraModel(intrinsics, image_width_px, height))
    # The LiDAR's x points right and its y forward.
    sensors["LIDAR_TOP"] = Sensor(
        "LIDAR_TOP", "lidar", SE3.from_yaw(-np.pi / 2, (*LIDAR_POSITION_M[:2], lidar_height_m))
    )
    for name, (position, yaw_deg) in _RADARS.items():
        sensors[name] = Sensor(name, "radar", SE3.from_yaw(np.deg2rad(yaw_deg), position))
    for name in ("IMU", "GNSS", "ODOM"):
        sensors[name] = Sensor(name, modality_of_channel(name), SE3.identity())
    return Rig(sensors)
