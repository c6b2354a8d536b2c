# SPDX-License-Identifier: Apache-2.0
"""Every conversion between ROS messages and arrays: pure functions, no ROS import, rclpy and rosbags messages alike."""

from peft_dml_ros.conversions.boxes import (
    VELOCITY_DTYPE,
    boxes_from_msg,
    boxes_to_msg,
    cloud_to_msg,
    velocities_to_msg,
    with_velocities,
)
from peft_dml_ros.conversions.decode import (
    UNKNOWN_SIGMA_M,
    camera_model_from_msg,
    gnss_from_msg,
    image_from_msg,
    imu_from_msg,
    lidar_from_msg,
    odometry_from_msg,
    points_dropped,
    radar_from_msg,
    se3_from_msg,
    stamp_ns_from_msg,
    transforms_from_msg,
)
from peft_dml_ros.conversions.encode import (
    LIDAR_DTYPE,
    TURN_S,
    camera_info_to_msg,
    gnss_to_msg,
    image_to_msg,
    imu_to_msg,
    lidar_to_msg,
    odometry_to_msg,
    radar_to_msg,
    tf_static_to_msg,
    tf_to_msg,
)
from peft_dml_ros.conversions.factory import MessageFactory, header, stamp
from peft_dml_ros.conversions.markers import markers_to_msg
from peft_dml_ros.conversions.pointcloud import cloud_view

__all__ = [
    "LIDAR_DTYPE",
    "TURN_S",
    "UNKNOWN_SIGMA_M",
    "VELOCITY_DTYPE",
    "MessageFactory",
    "boxes_from_msg",
    "boxes_to_msg",
    "camera_info_to_msg",
    "camera_model_from_msg",
    "cloud_to_msg",
    "cloud_view",
    "gnss_from_msg",
    "gnss_to_msg",
    "header",
    "image_from_msg",
    "image_to_msg",
    "imu_from_msg",
    "imu_to_msg",
    "lidar_from_msg",
    "lidar_to_msg",
    "markers_to_msg",
    "odometry_from_msg",
    "odometry_to_msg",
    "points_dropped",
    "radar_from_msg",
    "radar_to_msg",
    "se3_from_msg",
    "stamp",
    "stamp_ns_from_msg",
    "tf_static_to_msg",
    "tf_to_msg",
    "transforms_from_msg",
    "velocities_to_msg",
    "with_velocities",
]
