# SPDX-License-Identifier: Apache-2.0
"""Another sensor layout than a nuScenes car's."""

import numpy as np
import pytest

from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.commands.simulate import _layout
from peft_dml_tools.sim.drive import Drive, DriveSpec
from peft_dml_tools.sim.lidar import AZIMUTHS
from peft_dml_tools.sim.vehicle_rig import make_rig


def test_the_usual_layout_is_not_mentioned():
    assert _layout(1.84, 32, 1.0) == {}
    assert _layout(1.5, 16, 0.8) == {"lidar_height_m": 1.5, "lidar_beams": 16, "focal_scale": 0.8}
    with pytest.raises(ConfigError, match="choose 32, 16 or 8"):
        _layout(1.84, 5, 1.0)


def test_height_and_focal_length_reach_the_rig():
    usual, other = make_rig(352), make_rig(352, 2.3, 0.8)
    assert other["LIDAR_TOP"].base_SE3_sensor.translation[2] == pytest.approx(2.3)
    for name in ("CAM_FRONT", "CAM_BACK"):
        a, b = usual[name].camera.intrinsics, other[name].camera.intrinsics
        assert b[0, 0] == pytest.approx(0.8 * a[0, 0])
        assert b[1, 1] == pytest.approx(0.8 * a[1, 1])
        np.testing.assert_allclose(a[:, 2], b[:, 2])


def test_fewer_beams_are_the_same_beams():
    spec = {"camera_hz": 0, "radar_hz": 0, "lidar_hz": 2}
    usual, half = (Drive(5, 1.5, DriveSpec(**spec, lidar_beams=beams)) for beams in (32, 16))
    a, b = (next(m for name, m in drive.measurements() if name == "LIDAR_TOP") for drive in (usual, half))
    assert len(b.points) == 16 * AZIMUTHS
    np.testing.assert_array_equal(a.points[a.points[:, 4] % 2 == 0], b.points)
