# SPDX-License-Identifier: Apache-2.0
"""The one table between sensor names, ROS topics, message types and frames.

Topics are relative, so that nodes can be remapped and put in a namespace; `bag_topic` gives the absolute name.
"""

import re
from typing import Final

from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_ros.core.spec import CameraSpec

BASE_FRAME: Final = "base_link"
ODOM_FRAME: Final = "odom"
TF: Final = "/tf"
TF_STATIC: Final = "/tf_static"
TRUTH: Final = "truth/boxes"
TRUTH_MARKERS: Final = "truth/markers"
TRUTH_VELOCITIES: Final = "truth/velocities"

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
SENSOR_TYPES: Final = (POINT_CLOUD, RADAR_SCAN, ARS548, COMPRESSED_IMAGE, IMAGE, CAMERA_INFO, IMU, FIX, ODOMETRY)
"""Types that measurements, and the calibration of cameras, come in."""

_SINGLE: Final = {"IMU": "imu/data", "GNSS": "gnss/fix", "ODOM": "odometry"}
_ENDINGS: Final = {"lidar": "points", "radar": "points", "camera": "image/compressed"}
_TYPES: Final = {"lidar": POINT_CLOUD, "radar": POINT_CLOUD, "camera": COMPRESSED_IMAGE, "imu": IMU, "gnss": FIX}


def topic_of(sensor: str) -> str:
    """Return the relative topic of a sensor's measurements, e.g. LIDAR_TOP -> lidar_top/points.

    Raises:
        ConfigError: the name has no known prefix.
    """
    if sensor in _SINGLE:
        return _SINGLE[sensor]
    modality = modality_of_channel(sensor)
    return f"{sensor.lower()}/{_ENDINGS.get(modality or '', 'data')}"


def raw_image_topic_of(sensor: str) -> str:
    """Return the relative topic of a camera's uncompressed images."""
    return f"{sensor.lower()}/image"


def camera_info_topic_of(sensor: str) -> str:
    """Return the relative topic of a camera's calibration."""
    return f"{sensor.lower()}/camera_info"


def type_of(sensor: str) -> str:
    """Return the message type of a sensor's measurements.

    Raises:
        ConfigError: the name has no known prefix.
    """
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


def sensor_of(topic: str) -> str:
    """Return the sensor name of a topic, relative or absolute, of measurements or of a camera's calibration.

    Raises:
        ConfigError: no sensor publishes on it.
    """
    bare = topic.removeprefix("/")
    for sensor, name in _SINGLE.items():
        if bare == name:
            return sensor
    first, _, rest = bare.partition("/")
    sensor = first.upper()
    try:
        known = {topic_of(sensor)}
        if modality_of_channel(sensor) == "camera":
            known |= {raw_image_topic_of(sensor), camera_info_topic_of(sensor)}
    except ConfigError:
        known = set()
    if not rest or bare not in known:
        choices = [*_SINGLE.values(), "lidar_top/points", "radar_front/points", "cam_front/image/compressed"]
        raise ConfigError(f"topic '{topic}' belongs to no sensor; {nearest(bare, choices)}")
    return sensor


def bag_topic(topic: str) -> str:
    """Return the absolute name under which a relative topic is recorded."""
    return topic if topic.startswith("/") else f"/{topic}"


def is_sensor_topic(topic: str) -> bool:
    """Return whether a topic belongs to a sensor of this package's names, a camera's calibration included."""
    try:
        sensor_of(topic)
    except ConfigError:
        return False
    return True


def rig_order(sensor: str) -> tuple[int, str]:
    """Return the sort key of sensors in a rig: cameras in the order of the network's slots, then all others by name."""
    cameras = CameraSpec().cameras
    return (cameras.index(sensor), "") if sensor in cameras else (len(cameras), sensor)
