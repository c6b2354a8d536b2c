# SPDX-License-Identifier: Apache-2.0
"""Hints after the start name what could really be listened to, and settings that are not on yet."""

import time

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from radar_msgs.msg import RadarScan
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2

from peft_dml_ros.core.health import SensorState, State
from peft_dml_ros.nodes.diagnostics import NodeReport, identity_of, to_diagnostics
from peft_dml_ros.nodes.matched_subscription import MatchedSubscription
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_ros.nodes.startup import findings, table

pytestmark = pytest.mark.ros
SENSORS = ("LIDAR_TOP", "RADAR_FRONT")


@pytest.fixture
def vehicle(ros_node):
    """A perception node of `/car1` with its own outputs, a second vehicle, and a driver under another name."""
    context, made = ros_node.context, []

    def node(name, namespace, *topics):
        made.append(rclpy.create_node(name, namespace=namespace, context=context))
        for topic in topics:
            made[-1].create_publisher(PointCloud2, topic, 1)
        return made[-1]

    node("perception", "/car2", "~/velocities", "/car2/velodyne/points")
    node("drivers", "/car1", "/car1/mast/points")
    perception = node("perception", "/car1", "~/velocities")
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(perception)
    connections = {
        name: MatchedSubscription(perception, PointCloud2, f"{name.lower()}/points", lambda _: None) for name in SENSORS
    }
    end = time.monotonic() + 5
    while len([t for t, _ in perception.get_topic_names_and_types() if "points" in t or "velocities" in t]) < 6:
        assert time.monotonic() < end
        executor.spin_once(timeout_sec=0.05)
    yield perception, connections, node
    executor.shutdown()
    for entry in made:
        entry.destroy_node()


def missing(*names):
    return {name: SensorState(State.MISSING, "missing", "nothing ever came") for name in names}


def test_neither_own_outputs_nor_another_vehicle_are_offered(vehicle):
    node, connections, _ = vehicle
    for finding in findings(node, connections, missing(*SENSORS), NodeParams()):
        assert "did you mean '/car1/mast/points'?" in finding.fix or "choices: /car1/mast/points)" in finding.fix
        assert "velocities" not in finding.fix
        assert "car2" not in finding.fix
        assert "set autodetect:=true" in finding.fix


def test_autodetect_is_not_proposed_when_it_is_on(vehicle):
    node, connections, _ = vehicle
    for finding in findings(node, connections, missing(*SENSORS), NodeParams(autodetect=True)):
        assert "autodetect" not in finding.fix


def test_a_topic_that_another_sensor_listens_to_is_not_offered(vehicle):
    node, connections, make = vehicle
    lidar = make("lidar_driver", "/car1", "/car1/lidar_top/points")
    end = time.monotonic() + 5
    while not connections["LIDAR_TOP"].offered:
        assert time.monotonic() < end
        time.sleep(0.05)
    (finding,) = findings(node, connections, missing("RADAR_FRONT"), NodeParams())
    assert "lidar_top" not in finding.fix
    lidar.destroy_node()


def test_a_type_that_is_installed_is_not_asked_for(vehicle):
    """Scans are listened to within a second of their coming; a report before that must not blame the installation."""
    node, connections, _ = vehicle
    # A process has one type a topic.
    elsewhere = Context()
    rclpy.init(context=elsewhere, args=[])
    driver = rclpy.create_node("radar_driver", context=elsewhere)
    driver.create_publisher(RadarScan, "/car1/radar_front/points", 1)
    try:
        end = time.monotonic() + 5
        while not connections["RADAR_FRONT"].offered:
            assert time.monotonic() < end
            time.sleep(0.05)
        (finding,) = findings(node, connections, missing("RADAR_FRONT"), NodeParams())
        assert finding.problem == "/car1/radar_front/points has 1 publishers, but nothing arrives"
    finally:
        driver.destroy_node()
        elsewhere.try_shutdown()


def test_the_table_gives_age_and_number(vehicle):
    _, connections, _ = vehicle
    frozen = SensorState(State.FROZEN, "frozen", "the same payload, 12 times for 1.1 s", received=40, rate_hz=10.0)
    text = table(connections, missing("RADAR_FRONT") | {"LIDAR_TOP": frozen})
    assert "FROZEN: the same payload, 12 times for 1.1 s" in text
    assert text.startswith("0 of 2 sensors are in use")


def test_diagnostics_carry_the_qualified_name_the_vehicle_and_what_was_given_up(vehicle):
    node, _, _ = vehicle
    report = NodeReport(missing("LIDAR_TOP"), {}, given_up=("cameras at 2.5 Hz, up to 0.4 s old",))
    cdr = to_diagnostics(report, 12_000_000_345, identity_of(node, "demo"))
    message = deserialize_message(cdr, DiagnosticArray)
    assert len(serialize_message(message)) == len(cdr)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 345)
    frame, load, lidar = message.status
    assert [s.name for s in message.status] == [
        "car1/perception: frame",
        "car1/perception: load",
        "car1/perception: sensor LIDAR_TOP",
    ]
    assert {s.hardware_id for s in message.status} == {"car1"}
    assert {pair.key: pair.value for pair in frame.values}["model"] == "demo"
    assert load.level == DiagnosticStatus.WARN
    assert load.message == "LOADED: cameras at 2.5 Hz, up to 0.4 s old"
    assert lidar.message == "MISSING: nothing ever came"
