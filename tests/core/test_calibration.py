# SPDX-License-Identifier: Apache-2.0
"""A rig from a file: the same transforms as from ROS, and every mistake named."""

import numpy as np
import pytest

from peft_dml_ros.core.calibration import load_calibration
from peft_dml_ros.core.errors import ConfigError

GOOD = """
sensors:
  LIDAR_TOP: {xyz: [0.94, 0.0, 1.84], rpy: [0.0, 0.0, -1.5707963267948966]}
  CAM_FRONT:
    xyz: [1.7, 0.0, 1.5]
    quaternion_xyzw: [-0.5, 0.5, -0.5, 0.5]
    camera: {width: 1600, height: 900, fx: 1266.4, fy: 1260.0, cx: 816.3, cy: 491.5}
"""


def read(tmp_path, text):
    path = tmp_path / "rig.yaml"
    path.write_text(text, encoding="utf-8")
    return load_calibration(path)


def test_mounting_and_projection(tmp_path):
    rig = read(tmp_path, GOOD)
    # The nuScenes LiDAR looks along its y axis; a camera along z, which is ahead.
    np.testing.assert_allclose(
        rig["LIDAR_TOP"].base_SE3_sensor.transform(np.array([[0, 1, 0.0]])), [[1.94, 0, 1.84]], atol=1e-12
    )
    np.testing.assert_allclose(
        rig["CAM_FRONT"].base_SE3_sensor.transform(np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0]])),
        [[2.7, 0, 1.5], [1.7, -1, 1.5], [1.7, 0, 0.5]],
        atol=1e-12,
    )
    assert rig["CAM_FRONT"].camera.intrinsics[1, 1] == 1260.0
    assert rig["CAM_FRONT"].camera.width_px == 1600


def test_angles_are_those_of_urdf(tmp_path):
    rig = read(tmp_path, "sensors: {LIDAR_A: {xyz: [0, 0, 0], rpy: [0.1, -0.2, 0.7]}}")
    yaw, pitch, roll = (np.array(m) for m in _elementary(0.1, -0.2, 0.7))
    np.testing.assert_allclose(rig["LIDAR_A"].base_SE3_sensor.rotation, yaw @ pitch @ roll, atol=1e-12)


def _elementary(roll, pitch, yaw):
    c, s = np.cos, np.sin
    return (
        [[c(yaw), -s(yaw), 0], [s(yaw), c(yaw), 0], [0, 0, 1]],
        [[c(pitch), 0, s(pitch)], [0, 1, 0], [-s(pitch), 0, c(pitch)]],
        [[1, 0, 0], [0, c(roll), -s(roll)], [0, s(roll), c(roll)]],
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sensors: [", "cannot read"),
        ("[]", "a valid dictionary"),
        ("sensors: {}", "sensors"),
        (GOOD.replace("xyz: [0.94, 0.0, 1.84]", "xyz: [0.94, 0.0]"), "LIDAR_TOP.xyz"),
        (GOOD.replace(", rpy: [0.0, 0.0, -1.5707963267948966]", ""), "either 'rpy'"),
        (GOOD.replace("fx: 1266.4", "fx: 0"), "CAM_FRONT.camera.fx"),
        (GOOD.replace("CAM_FRONT", "EYE"), "begin it with"),
        (GOOD.replace("[-0.5, 0.5, -0.5, 0.5]", "[0, 0, 0, 0]"), "quaternion"),
        (GOOD.replace("width", "widht"), "widht"),
    ],
)
def test_mistakes_are_named(tmp_path, text, said):
    with pytest.raises(ConfigError, match=r"rig\.yaml") as caught:
        read(tmp_path, text)
    assert said in str(caught.value)
