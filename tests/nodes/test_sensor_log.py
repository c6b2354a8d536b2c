# SPDX-License-Identifier: Apache-2.0
"""The log says which sensors go and come back, what the frames stand on, and does not flood."""

import pytest
from rclpy.logging import get_logger

from peft_dml_ros.core.health import SensorState, State
from peft_dml_ros.core.params import ALL_SENSORS
from peft_dml_ros.nodes.sensor_log import LONGEST_PAUSE_S, SensorLog

pytestmark = pytest.mark.ros


def reports(*gone):
    return {
        name: SensorState(State.STALE, "stale", "nothing usable for 0.8 s, limit 0.25 s")
        if name in gone
        else SensorState(State.OK)
        for name in ALL_SENSORS
    }


@pytest.fixture
def log():
    gone, back = [], []
    made = SensorLog(gone.append, back.append)
    made.gone, made.back = gone, back
    return made


def test_a_line_when_a_sensor_goes_and_when_it_comes_back(log):
    log.update(reports(), 0.0)
    log.update(reports("LIDAR_TOP"), 1.0)
    assert log.gone == [
        (
            "sensors gone: LIDAR_TOP (STALE: nothing usable for 0.8 s, limit 0.25 s); "
            "frames stand on 6 of 6 cameras, 5 of 5 radars, IMU, GNSS"
        )
    ]
    log.update(reports("LIDAR_TOP"), 10.0)
    log.update(reports(), 20.0)
    assert log.back == ["sensors there: LIDAR_TOP; frames stand on LiDAR, 6 of 6 cameras, 5 of 5 radars, IMU, GNSS"]
    assert len(log.gone) == 1


def test_without_all_that_sees_the_node_is_blind(log):
    log.update(reports(), 0.0)
    log.update(reports(*ALL_SENSORS), 1.0)
    assert log.gone[0].endswith("frames stand on nothing: the node is blind")


def test_a_sensor_that_comes_and_goes_is_mentioned_less_and_less_often(log):
    for second in range(600):
        log.update(reports("CAM_FRONT") if second % 2 else reports(), float(second))
    lines = log.gone + log.back
    assert 5 <= len(lines) <= 600 / LONGEST_PAUSE_S + 8
    assert "changes since the last line" in lines[-1]


def test_what_was_there_at_the_first_look_is_no_news(log):
    log.update(reports("CAM_FRONT"), 0.0)
    log.update(reports("CAM_FRONT"), 5.0)
    assert not log.gone + log.back


def test_a_real_logger_takes_both_kinds_of_lines():
    logger = get_logger("sensor_log")
    log = SensorLog(logger.warning, logger.info)
    for time_s, gone in enumerate(((), ("LIDAR_TOP",), ())):
        log.update(reports(*gone), 10.0 * time_s)
    assert log._used == frozenset(ALL_SENSORS)
