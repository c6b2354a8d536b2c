# SPDX-License-Identifier: Apache-2.0
"""The doctor finds what was broken on purpose, names the fix, and finds nothing on a healthy system."""

import json
import os
import subprocess
import sys
import threading

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, PointCloud2
from tf2_msgs.msg import TFMessage

from peft_dml_ros import conversions
from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_ros.nodes.matched_subscription import LATCHED
from peft_dml_tools.commands.doctor.rules import RULES
from peft_dml_tools.datasets import encode
from tests.support import scenes
from tests.support.scenes import MS

MAKE = RclpyFactory()


def ask(*arguments, environment=None):
    command = [sys.executable, "-m", "peft_dml_ros.cli.main", "doctor", "--json", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=150, env=os.environ | (environment or {}), check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    report = json.loads(done.stdout)
    return done.returncode, report, {finding["id"]: finding for finding in report["findings"]}


def test_a_healthy_machine_passes(repository):
    profile = {"FASTDDS_DEFAULT_PROFILES_FILE": str(repository / "config" / "fastdds_large_messages.xml")}
    status, report, found = ask("--no-live", environment=profile)
    assert status == 0, report
    assert set(found) <= {"ROS002", "ENV003", "DDS002"}
    assert {"ENV002", "BUN001", "ENG001", "ROS001", "DDS001"} <= set(report["rules"])


def test_every_wrong_thing_of_a_machine_is_named(tmp_path):
    (tmp_path / "params.yaml").write_text("perception: {ros__parameters: {bundel: demo}}", encoding="utf-8")
    (tmp_path / "small.xml").write_text("<dds><segment_size>524288</segment_size></dds>", encoding="utf-8")
    status, report, found = ask(
        "--no-live", "--params-file", str(tmp_path / "params.yaml"), "--bundle", str(tmp_path / "none"),
        environment={"FASTDDS_DEFAULT_PROFILES_FILE": str(tmp_path / "small.xml")},
    )  # fmt: skip
    assert status == 1
    assert not report["passed"]
    assert "did you mean 'bundle'?" in found["CFG001"]["what"]
    assert "no bundle" in found["BUN001"]["what"]
    assert "512 KiB" in found["DDS001"]["what"]
    assert all(finding["fix"] for finding in report["findings"])


@pytest.mark.ros
def test_a_middleware_that_is_not_there_is_named_and_the_rest_still_looked_at():
    status, _, found = ask("--seconds", "0.5", environment={"RMW_IMPLEMENTATION": "rmw_no_such_cpp"})
    assert status == 1
    assert "rmw_no_such_cpp" in found["ROS001"]["what"]
    assert found["ROS003"]["severity"] == "error"


@pytest.fixture
def vehicle():
    """A node that is spun in the background; what it publishes is set by the test."""
    context = Context()
    rclpy.init(context=context, args=[])
    node = Node("vehicle", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield node
    executor.shutdown()
    thread.join(5)
    # A failed test is kept by pytest with all it refers to: publishers would go on to be seen by the tests after it.
    node.destroy_node()
    context.try_shutdown()


def repeat(node, kind, topic, make):
    publisher = node.create_publisher(kind, topic, 5)
    node.create_timer(0.1, lambda: publisher.publish(make(node.get_clock().now().nanoseconds)))


def photons(ns):
    sweep = scenes.lidar(ns)
    sweep.points[:, 3] *= 300
    return sweep


@pytest.mark.ros
def test_the_running_system_is_looked_at(vehicle):
    repeat(vehicle, PointCloud2, "/lidar_top/points", lambda ns: encode.lidar_to_msg(
        photons(ns + 400 * MS), "lidar_top", MAKE))  # fmt: skip
    repeat(vehicle, PointCloud2, "/radar_front/points", lambda ns: encode.radar_to_msg(
        scenes.radar(ns - 300 * MS), "nowhere", MAKE))  # fmt: skip
    vehicle.create_publisher(PointCloud2, "/radar_front/points", 5)
    repeat(vehicle, CompressedImage, "/cam_front/image/compressed", lambda ns: conversions.image_to_msg(
        scenes.image(ns), "cam_front", MAKE))  # fmt: skip
    vehicle.create_publisher(CompressedImage, "/imu/data", 5)

    def uncalibrated(ns):
        info = encode.camera_info_to_msg(scenes.rig()["CAM_FRONT"].camera, ns, "cam_front", MAKE)
        info.k[0] = 0.0
        return info

    repeat(vehicle, CameraInfo, "/cam_front/camera_info", uncalibrated)
    vehicle.create_publisher(TFMessage, "/tf_static", LATCHED).publish(encode.tf_static_to_msg(scenes.rig(), MAKE))
    status, report, found = ask("--seconds", "3")
    assert status == 1
    assert (
        "LIDAR_TOP is stamped 0.3" in found["LIV007"]["what"] or "LIDAR_TOP is stamped 0.4" in found["LIV007"]["what"]
    )
    assert "'nowhere'" in found["LIV005"]["what"]
    assert "CompressedImage" in found["LIV002"]["what"]
    assert "/radar_front/points has 2" in found["LIV003"]["what"]
    assert "CAM_FRONT" in found["LIV006"]["what"]
    assert "RADAR_FRONT arrives" in found["LIV008"]["what"]
    assert "LIDAR_TOP: field 'intensity' has median" in found["LIV010"]["what"]
    assert "[SEN102]" in found["LIV010"]["what"]
    assert "LIV001" not in found
    assert "ROS004" not in found
    assert len(report["rules"]) == len(set(report["rules"])) >= 18


def test_ids_are_stable_and_say_what_must_hold():
    from peft_dml_tools.commands.doctor import machine, system

    assert machine
    assert system
    for rule_id, rule in RULES.items():
        assert rule_id[:3] in {"ENV", "ENG", "BUN", "CFG", "DDS", "ROS", "LIV"}
        assert rule_id[3:].isdigit()
        assert rule.title
