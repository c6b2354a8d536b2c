# SPDX-License-Identifier: Apache-2.0
"""What the encoders build of rclpy messages survives the wire and decodes to what went in."""

import time

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message

from peft_dml_ros import conversions as c
from peft_dml_ros.conversions.boxes import VELOCITY_DTYPE
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import GnssFix, ImuSample, OdometrySample
from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_tools.datasets import encode
from peft_dml_tools.datasets.boxes_from_msg import boxes_from_msg
from tests.support import scenes

MAKE = RclpyFactory()
NOW_NS = 1_700_000_000_123_456_789


def wire(message):
    return deserialize_message(serialize_message(message), type(message))


def test_clouds_and_images():
    sweep, cycle, image = scenes.lidar(NOW_NS), scenes.radar(NOW_NS), scenes.image(NOW_NS)
    back = c.lidar_from_msg(wire(encode.lidar_to_msg(sweep, "lidar_top", MAKE)))
    assert back.stamp_ns == NOW_NS
    np.testing.assert_array_equal(back.points[:, :4], sweep.points[:, :4])
    np.testing.assert_array_equal(
        c.radar_from_msg(wire(encode.radar_to_msg(cycle, "radar_front", MAKE))).points, cycle.points
    )
    assert c.image_from_msg(wire(c.image_to_msg(image, "cam_front", MAKE))).jpeg == image.jpeg


def test_camera_info_and_transforms():
    rig = scenes.rig()
    model = rig["CAM_FRONT"].camera
    back = c.camera_model_from_msg(wire(encode.camera_info_to_msg(model, NOW_NS, "cam_front", MAKE)))
    np.testing.assert_allclose(back.intrinsics, model.intrinsics)
    tree = {child: moved for _, child, moved in c.transforms_from_msg(wire(encode.tf_static_to_msg(rig, MAKE)))}
    np.testing.assert_allclose(tree["lidar_top"].rotation, rig["LIDAR_TOP"].base_SE3_sensor.rotation, atol=1e-12)


def test_motion():
    imu = ImuSample(NOW_NS, np.array([0.1, 0.2, 9.8]), np.array([0.0, 0.0, 0.3]))
    np.testing.assert_array_equal(c.imu_from_msg(wire(encode.imu_to_msg(imu, "imu", MAKE))).gyro_radps, imu.gyro_radps)
    fix = GnssFix(NOW_NS, 1.3, 103.8, 12.0, 0.5)
    assert c.gnss_from_msg(wire(encode.gnss_to_msg(fix, "gnss", MAKE))) == fix
    pose = OdometrySample(NOW_NS, SE3.from_yaw(0.4, (5.0, 6.0, 0.0)))
    back = c.odometry_from_msg(wire(encode.odometry_to_msg(pose, MAKE)))
    np.testing.assert_allclose(back.odom_SE3_base.translation, [5.0, 6.0, 0.0])


@pytest.mark.parametrize("n", [0, 3])
def test_boxes(n):
    rng = np.random.default_rng(0)
    boxes = Boxes3D.make(rng.normal(size=(n, 3)), np.ones((n, 3)), rng.uniform(-3, 3, n), np.arange(n))
    back = boxes_from_msg(wire(encode.boxes_to_msg(boxes, NOW_NS, "base_link", CLASSES, MAKE)))
    np.testing.assert_allclose(back.centers_m, boxes.centers_m)
    np.testing.assert_allclose(back.yaws_rad, boxes.yaws_rad)
    assert len(wire(c.velocities_to_msg(boxes, NOW_NS, "base_link", MAKE)).data) == n * VELOCITY_DTYPE.itemsize


@pytest.mark.alone
def test_a_nuscenes_sized_cloud_is_built_in_milliseconds():
    sweep = scenes.lidar(NOW_NS, 34_720)
    encode.lidar_to_msg(sweep, "lidar_top", MAKE)
    begun_s = time.perf_counter()
    encode.lidar_to_msg(sweep, "lidar_top", MAKE)
    assert time.perf_counter() - begun_s < 0.03
