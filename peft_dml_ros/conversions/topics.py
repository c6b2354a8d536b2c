# SPDX-License-Identifier: Apache-2.0
"""The one table between sensor names, ROS topics, message types and frames.

Topics are relative, so that nodes can be remapped and put in a namespace.
"""

import re
from typing import Final

from peft_dml_ros.core.rig import modality_of_channel

BASE_FRAME: Final = "base_link"
ODOM_FRAME: Final = "odom"
TF_STATIC: Final = "/tf_static"

POINT_CLOUD: Final = "sensor_msgs/msg/PointCloud2"
RADAR_SCAN: Final = "radar_msgs/msg/RadarScan"
ARS548: Final = "continental_msgs/msg/ContinentalArs548DetectionList"
COMPRESSED_IMAGE: Final = "sensor_msgs/msg/CompressedImage"
IMAGE: Final = "sensor_msgs/msg/Image"
CAMERA_INFO: Final = "sensor_msgs/msg/CameraInfo"
IMU: Final = "sensor_msgs/msg/Imu"
FIX: Final = "sensor_msgs/msg/NavSatFix"
ODOMETRY: Final = "nav_msgs/msg/Odometry"
TRANSFORMS: Final = "tf2_msgs/msg/TFMessage"
DETECTIONS: Final = "vision_msgs/msg/Detection3DArray"
MARKERS: Final = "visualization_msgs/msg/MarkerArray"
#: Types that measurements, and the calibration of cameras, come in
SENSOR_TYPES: Final = (POINT_CLOUD, RADAR_SCAN, ARS548, COMPRESSED_IMAGE, IMAGE, CAMERA_INFO, IMU, FIX, ODOMETRY)

SINGLE: Final = {"IMU": "imu/data", "GNSS": "gnss/fix", "ODOM": "odometry"}
_ENDINGS: Final = {"lidar": "points", "radar": "points", "camera": "image/compressed"}
_TYPES: Final = {"lidar": POINT_CLOUD, "radar": POINT_CLOUD, "camera": COMPRESSED_IMAGE, "imu": IMU, "gnss": FIX}


def topic_of(sensor: str) -> str:
    """Return a sensor's relative topic: LIDAR_TOP -> lidar_top/points. Raises ConfigError: no known prefix."""
    if sensor in SINGLE:
        return SINGLE[sensor]
    modality = modality_of_channel(sensor)
    return f"{sensor.lower()}/{_ENDINGS.get(modality or '', 'data')}"


def raw_image_topic_of(sensor: str) -> str:
    """Return the relative topic of a camera's uncompressed images."""
    return f"{sensor.lower()}/image"


def camera_info_topic_of(sensor: str) -> str:
    """Return the relative topic of a camera's calibration."""
    return f"{sensor.lower()}/camera_info"


def type_of(sensor: str) -> str:
    """Return the message type of a sensor's measurements. Raises ConfigError: the name has no known prefix."""
    modality = modality_of_channel(sensor)
    return ODOMETRY if modality is None else _TYPES[modality]


def other_types_of(sensor: str) -> tuple[str, ...]:
    """Return the message types that a sensor's topic may carry instead."""
    return (RADAR_SCAN, ARS548) if modality_of_channel(sensor) == "radar" else ()


def frame_of(sensor: str) -> str:
    """Return `header.frame_id` of a sensor's measurements; a camera's is its optical frame."""
    return ODOM_FRAME if sensor == "ODOM" else sensor.lower()


def sensor_of_frame(frame_id: str) -> str:
    """Return the sensor name of a frame, the inverse of `frame_of`; optical frames and links count as the sensor."""
    return re.sub(r"(_frame|_link|_optical)+$", "", frame_id.removeprefix("/")).upper()
