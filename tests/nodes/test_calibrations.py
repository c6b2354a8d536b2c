# SPDX-License-Identifier: Apache-2.0
"""A damaged CameraInfo changes nothing; a changed calibration counts once it is certain."""

import numpy as np
import pytest
from rclpy.logging import get_logger
from rclpy.serialization import serialize_message

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.rig import CameraModel
from peft_dml_ros.nodes.calibrations import CameraInfoFilter
from peft_dml_ros.nodes.drops import DropCounter
from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_tools.datasets.encode import camera_info_to_msg


def info(width_px: int, stamp_ns: int, focal_px: float = 500.0) -> bytes:
    model = CameraModel(np.array([[focal_px, 0, 320], [0, focal_px, 200], [0, 0, 1.0]]), width_px, 400)
    return bytes(serialize_message(camera_info_to_msg(model, stamp_ns, "cam_front", RclpyFactory())))


@pytest.fixture
def drops():
    return DropCounter(get_logger("test"))


@pytest.fixture
def calibrations(drops):
    made = CameraInfoFilter(drops)
    assert made.take("CAM_FRONT", info(640, 1)).width_px == 640
    assert made.take("CAM_FRONT", info(640, 2)) is None
    return made


def test_single_odd_messages_are_counted_and_change_nothing(calibrations, drops):
    for stamp_ns, width_px in enumerate((16896, 640, 641, 642, 640), start=3):
        assert calibrations.take("CAM_FRONT", info(width_px, stamp_ns)) is None
    with pytest.raises(DataError):
        calibrations.take("CAM_FRONT", info(640, 9, focal_px=0.0))
    assert calibrations.take("CAM_FRONT", info(640, 10)) is None
    assert [calibrations.uncontradicted() for _ in range(4)] == [{}] * 4
    assert drops.totals() == {"CAM_FRONT calibration: unconfirmed": 3}


def test_a_change_counts_when_it_comes_twice(calibrations, drops):
    assert calibrations.take("CAM_FRONT", info(800, 3)) is None
    assert calibrations.take("CAM_FRONT", info(800, 4)).width_px == 800
    assert calibrations.take("CAM_FRONT", info(800, 5)) is None
    assert not drops.totals()


def test_a_change_that_comes_once_counts_when_nothing_contradicts_it(calibrations):
    assert calibrations.take("CAM_FRONT", info(800, 3)) is None
    assert calibrations.uncontradicted() == {}
    assert calibrations.uncontradicted()["CAM_FRONT"].width_px == 800
    assert calibrations.uncontradicted() == {}
