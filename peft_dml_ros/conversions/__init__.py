# SPDX-License-Identifier: Apache-2.0
"""Convert ROS messages to arrays and back: pure functions without ROS, for messages of rclpy and rosbags alike."""

from peft_dml_ros.conversions.boxes import velocities_to_msg as velocities_to_msg
from peft_dml_ros.conversions.decode import gnss_from_msg as gnss_from_msg
from peft_dml_ros.conversions.decode import imu_from_msg as imu_from_msg
from peft_dml_ros.conversions.decode import odometry_from_msg as odometry_from_msg
from peft_dml_ros.conversions.decode import stamp_ns_from_msg as stamp_ns_from_msg
from peft_dml_ros.conversions.decode import transforms_from_msg as transforms_from_msg
from peft_dml_ros.conversions.decoders import decoder_of as decoder_of
from peft_dml_ros.conversions.decoders import is_rectified as is_rectified
from peft_dml_ros.conversions.factory import MessageFactory as MessageFactory
from peft_dml_ros.conversions.factory import header as header
from peft_dml_ros.conversions.factory import image_to_msg as image_to_msg
from peft_dml_ros.conversions.images import camera_model_from_msg as camera_model_from_msg
from peft_dml_ros.conversions.images import image_from_msg as image_from_msg
from peft_dml_ros.conversions.lidar import lidar_from_msg as lidar_from_msg
from peft_dml_ros.conversions.markers import markers_to_cdr as markers_to_cdr
from peft_dml_ros.conversions.markers import trails_to_cdr as trails_to_cdr
from peft_dml_ros.conversions.pointcloud import points_dropped as points_dropped
from peft_dml_ros.conversions.radar import radar_from_msg as radar_from_msg
