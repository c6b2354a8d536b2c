# SPDX-License-Identifier: Apache-2.0
"""The simulated vehicles and their sensors: a car equipped like nuScenes', and a van with other mountings."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import CameraModel, Rig, Sensor, modality_of_channel
from peft_dml_ros.core.typing import FloatArray

FULL_WIDTH_PX: Final = 1600
FULL_HEIGHT_PX: Final = 900

Position = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class SensorLayout:
    """Where a vehicle carries its sensors; positions in `base_link`, m."""

    #: Name -> position, yaw (deg), focal length, principal point x, y (px at full width)
    cameras: dict[str, tuple[Position, float, float, float, float]]
    radars: dict[str, tuple[Position, float]]  #: Name -> position, yaw (deg)
    lidar_m: Position  #: Position of the LiDAR; its x points right and its y forward
    roof_m: float  #: By how much roof and bonnet are higher than a nuScenes car's


NUSCENES: Final = SensorLayout(
    {
        "CAM_FRONT": ((1.70, 0.016, 1.51), 0.0, 1266.0, 816.0, 491.0),
        "CAM_FRONT_RIGHT": ((1.55, -0.493, 1.50), -56.0, 1261.0, 808.0, 495.0),
        "CAM_BACK_RIGHT": ((1.01, -0.481, 1.56), -110.0, 1260.0, 807.0, 501.0),
        "CAM_BACK": ((0.03, 0.003, 1.58), 180.0, 809.0, 829.0, 482.0),
        "CAM_BACK_LEFT": ((1.04, 0.485, 1.59), 109.0, 1257.0, 792.0, 493.0),
        "CAM_FRONT_LEFT": ((1.52, 0.495, 1.51), 55.0, 1273.0, 827.0, 480.0),
    },
    {
        "RADAR_FRONT": ((3.412, 0.0, 0.5), 0.0),
        "RADAR_FRONT_LEFT": ((2.422, 0.8, 0.78), 90.0),
        "RADAR_FRONT_RIGHT": ((2.422, -0.8, 0.77), -90.0),
        "RADAR_BACK_LEFT": ((-0.562, 0.628, 0.61), 175.0),
        "RADAR_BACK_RIGHT": ((-0.562, -0.618, 0.61), -175.0),
    },
    (0.94, 0.0, 1.84),
    0.0,
)
VAN: Final = SensorLayout(
    {
        "CAM_FRONT": ((2.10, 0.0, 1.78), 0.0, 1080.0, 800.0, 455.0),
        "CAM_FRONT_RIGHT": ((1.92, -0.70, 1.86), -62.0, 1080.0, 806.0, 446.0),
        "CAM_BACK_RIGHT": ((0.35, -0.72, 1.92), -122.0, 1080.0, 795.0, 452.0),
        "CAM_BACK": ((-0.80, 0.0, 1.90), 180.0, 960.0, 804.0, 449.0),
        "CAM_BACK_LEFT": ((0.35, 0.72, 1.92), 122.0, 1080.0, 803.0, 460.0),
        "CAM_FRONT_LEFT": ((1.92, 0.70, 1.86), 62.0, 1080.0, 797.0, 451.0),
    },
    {
        "RADAR_FRONT": ((3.75, 0.0, 0.62), 0.0),
        "RADAR_FRONT_LEFT": ((3.45, 0.85, 0.66), 62.0),
        "RADAR_FRONT_RIGHT": ((3.45, -0.85, 0.66), -62.0),
        "RADAR_BACK_LEFT": ((-0.95, 0.82, 0.7), 140.0),
        "RADAR_BACK_RIGHT": ((-0.95, -0.82, 0.7), -140.0),
    },
    (0.60, 0.0, 2.28),
    0.38,
)
VEHICLES: Final = {"nuscenes": NUSCENES, "van": VAN}


def optical_rotation(yaw_rad: float) -> FloatArray:
    """Return the rotation (3, 3) of a level camera's optical frame (z forward, x right) that looks along a yaw."""
    forward = np.array([np.cos(yaw_rad), np.sin(yaw_rad), 0.0])
    right = np.array([np.sin(yaw_rad), -np.cos(yaw_rad), 0.0])
    return np.stack([right, [0.0, 0.0, -1.0], forward], axis=1)


def make_rig(
    image_width_px: int = 352, lidar_height_m: float | None = None, focal_scale: float = 1.0, vehicle: str = "nuscenes"
) -> Rig:
    """Return the sensors of a vehicle.

    Args:
        image_width_px: Cameras are scaled to it; heights keep 16:9.
        lidar_height_m: Of the LiDAR above the ground; the vehicle's own by default.
        focal_scale: Factor on the vehicle's focal lengths.
        vehicle: A name in `VEHICLES`.
    """
    carrier = VEHICLES[vehicle]
    scale = image_width_px / FULL_WIDTH_PX
    height = round(FULL_HEIGHT_PX * scale)
    sensors = {}
    for name, (position, yaw_deg, focal, cx, cy) in carrier.cameras.items():
        intrinsics = np.array([[1.0, 0.0, cx * scale], [0.0, 1.0, cy * scale], [0.0, 0.0, 1.0]])
        intrinsics[[0, 1], [0, 1]] = focal * scale * focal_scale
        pose = SE3(optical_rotation(np.deg2rad(yaw_deg)), np.array(position))
        sensors[name] = Sensor(name, "camera", pose, CameraModel(intrinsics, image_width_px, height))
    x, y, z = carrier.lidar_m
    lidar = SE3.from_yaw(-np.pi / 2, (x, y, z if lidar_height_m is None else lidar_height_m))
    sensors["LIDAR_TOP"] = Sensor("LIDAR_TOP", "lidar", lidar)
    for name, (position, yaw_deg) in carrier.radars.items():
        sensors[name] = Sensor(name, "radar", SE3.from_yaw(np.deg2rad(yaw_deg), position))
    for name in ("IMU", "GNSS", "ODOM"):
        sensors[name] = Sensor(name, modality_of_channel(name), SE3.identity())
    return Rig(sensors)
