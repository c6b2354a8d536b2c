# SPDX-License-Identifier: Apache-2.0
"""Another sensor layout than a nuScenes car's."""

import numpy as np
import pytest

from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.commands.simulate import _keep_every
from peft_dml_tools.sim.drive import Drive, DriveSpec
from peft_dml_tools.sim.lidar import HDL32E
from peft_dml_tools.sim.vehicle_rig import make_rig


def test_beams_are_those_that_the_lidar_has():
    assert [_keep_every("hdl32e", beams) for beams in (None, 32, 16, 8)] == [1, 1, 2, 4]
    assert _keep_every("pandar40p", 10) == 4
    with pytest.raises(ConfigError, match="choose 32, 16 or 8"):
        _keep_every("hdl32e", 5)


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
    usual, half = (Drive(5, 1.5, DriveSpec(**spec, lidar_keep_every=every)) for every in (1, 2))
    a, b = (next(m for name, m in drive.measurements() if name == "LIDAR_TOP") for drive in (usual, half))
    assert len(b.points) == 16 * HDL32E.azimuths
    np.testing.assert_array_equal(a.points[a.points[:, 4] % 2 == 0], b.points)
