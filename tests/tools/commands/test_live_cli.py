# SPDX-License-Identifier: Apache-2.0
"""`peft-dml status`, `topics` and `set` against a real node that is fed over DDS."""

import json

import pytest
from typer.testing import CliRunner

pytest.importorskip("rclpy")

from peft_dml_ros.cli.main import app
from tests.support.drive_bag import make_drive_bag
from tests.support.random_bundle import make_random_bundle
from tests.support.ros_processes import ros_process

pytestmark = pytest.mark.ros


def peft_dml(*arguments, code=0):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


@pytest.fixture(scope="module")
def vehicle(tmp_path_factory):
    """A perception node in a namespace, and a bag that is played into it for ever."""
    folder = tmp_path_factory.mktemp("vehicle")
    bundle = make_random_bundle(folder / "bundle")
    bag = make_drive_bag(folder / "drive.mcap", 4000)
    space = ("--ros-args", "-r", "__ns:=/v1", "-r", "/tf_static:=tf_static")
    perception = ("peft_dml_ros.nodes.perception", *space, "-p", f"bundle:={bundle}")
    replay = ("peft_dml_tools.nodes.replay", bag, "--json", "--loop", "--wait-for-node", "perception", *space)
    with (
        ros_process(*perception, log=folder / "node.log") as node,
        ros_process(*replay, log=folder / "replay.log") as bag,
    ):
        node.wait_for("perception active", 120.0)
        bag.wait_for('"progress"', 120.0)
        yield folder


def test_status_shows_frames_sensors_and_weights(vehicle):
    found = json.loads(peft_dml("status", "--json", "--seconds", "2"))
    assert found["node"] == "/v1/perception"
    assert found["frame_hz"] > 1.0
    level, _, values = found["statuses"]["frame"]
    assert level in {0, 1}
    assert float(values["gate.lidar"]) > 0.0
    assert found["statuses"]["sensor LIDAR_TOP"][2]["state"] == "OK"
    text = peft_dml("status", "--node", "/v1/perception")
    assert "gate weights: lidar" in text
    # Whole names and reasons with numbers, also on a narrow terminal.
    assert {"LIDAR_TOP", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "RADAR_FRONT_RIGHT"} <= set(text.split())
    assert "MISSING: nothing ever came" in " ".join(text.split())


def test_topics_are_listed_with_rates(vehicle):
    rows = {row["topic"]: row for row in json.loads(peft_dml("topics", "--json"))}
    lidar = rows["/v1/lidar_top/points"]
    assert lidar["rate_hz"] > 2.0
    assert (lidar["publishers"], lidar["subscribers"]) == (1, 1)
    assert lidar["bytes_per_s"] > 1e4
    assert "/v1/perception/detections" in rows
    text = peft_dml("topics", "/v1/lidar_top/points")
    assert len(text.strip().splitlines()) == 2
    assert "nobody publishes /lidar_top/points; did you mean '/v1/lidar_top/points'" in peft_dml(
        "topics", "/lidar_top/points", code=2
    )


def test_parameters_are_printed_set_and_refused(vehicle):
    assert "detection.score_threshold: " in peft_dml("set")
    # An integer is a number: `ros2 param set` would refuse it.
    assert peft_dml("set", "detection.score_threshold", "1", "--seconds", "0.2") == "detection.score_threshold: 1.0\n"
    assert peft_dml("set", "detection.score_threshold") == "detection.score_threshold: 1.0\n"
    assert "refuses detection.score_threshold = 7.0" in peft_dml("set", "detection.score_threshold", "7", code=2)
    assert "did you mean 'bundle'" in peft_dml("set", "bundel", "x", code=2)
    assert peft_dml("set", "weather", "fog=50", "--node", "replay", "--seconds", "0.2") == "weather: fog=50\n"


def test_what_the_node_warns_of_is_shown(vehicle):
    said = peft_dml("set", "sensors", "[LIDAR_TOP]", "--seconds", "3", code=1)
    assert "the node says: sensors, frames, paces and limits change with the next configure" in said


def test_a_node_that_does_not_run_is_named_with_those_that_do(vehicle):
    said = peft_dml("status", "--node", "percepton", code=2)
    assert "no node 'percepton' runs in this ROS domain" in said
    assert "/v1/perception" in said
