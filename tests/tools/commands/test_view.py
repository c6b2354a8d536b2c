# SPDX-License-Identifier: Apache-2.0
"""What a Foxglove client gets of a recording and of a running vehicle."""

import json
import re
import signal
import sys
import threading
import time
from urllib.parse import quote

import pytest
from std_msgs.msg import Float32
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.datasets.bag_storage import BagStorage
from peft_dml_tools.datasets.bag_types import typestore
from peft_dml_tools.live.bag_view import play_bag
from peft_dml_tools.live.foxglove_server import GATE, SENSORS, STATUS_TYPE, FoxgloveServer
from tests.support.drive_bag import make_drive_bag
from tests.support.foxglove_client import watch
from tests.support.ros_node import ros_node
from tests.support.ros_processes import ros_process

__all__ = ["ros_node"]


@pytest.fixture
def server():
    pytest.importorskip("foxglove", reason="no foxglove-sdk: pip install 'peft_dml_ros[view]'")
    opened = FoxgloveServer(port=0)
    yield opened
    opened.close()


def status():
    """A status of the node, serialised: LiDAR leads, the front radar is frozen."""
    types = typestore().types
    pair, one = types["diagnostic_msgs/msg/KeyValue"], types["diagnostic_msgs/msg/DiagnosticStatus"]
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](5, 0), "base_link")
    values = {"gate.lidar": "0.6", "gate.camera": "0.4", "boxes": "7", "latency_ms": "80.5", "mask.lidar": "1"}
    frame = one(0, "perception: frame", "", "", [pair(k, v) for k, v in values.items()])
    values = {"state": "FROZEN", "reason": "frozen", "detail": "the same 9 times"}
    radar = one(1, "perception: sensor RADAR_FRONT", "", "", [pair(k, v) for k, v in values.items()])
    message = types[STATUS_TYPE](header, [frame, radar])
    return bytes(typestore().serialize_cdr(message, STATUS_TYPE))


def test_a_recording_arrives_as_it_was_recorded(server, tmp_path):
    bag = make_drive_bag(tmp_path / "drive.mcap", 1000, lidar_points=500)
    stop = threading.Event()
    thread = threading.Thread(target=play_bag, args=(BagStorage(bag), server, stop), kwargs={"rate": 2.0})
    thread.start()
    try:
        channels, found = watch(server.address, ["/lidar_top/points", "/tf_static", "/imu/data"])
    finally:
        stop.set()
        thread.join()
    kept = {}
    for message in BagStorage(bag).logged({"/lidar_top/points", "/tf_static", "/imu/data"}):
        kept.setdefault(message.topic, set()).add(message.cdr)
    assert all(found[topic] in kept[topic] for topic in kept)
    cloud = channels["/lidar_top/points"]
    assert (cloud["encoding"], cloud["schemaName"]) == ("cdr", "sensor_msgs/msg/PointCloud2")
    assert "PointField[] fields" in cloud["schema"]


def test_gate_weights_and_states_are_plain_numbers_and_words(server):
    server.declare("/perception/status", STATUS_TYPE)
    done = threading.Event()

    def log():
        while not done.wait(0.05):
            server.log_status(status(), time.time_ns())

    thread = threading.Thread(target=log)
    thread.start()
    try:
        _, found = watch(server.address, [GATE, SENSORS])
    finally:
        done.set()
        thread.join()
    gate = json.loads(found[GATE])
    assert (gate["lidar"], gate["camera"], gate["boxes"], gate["sees"]) == (0.6, 0.4, 7, ["lidar"])
    assert json.loads(found[SENSORS]) == {"RADAR_FRONT": "FROZEN: the same 9 times"}


def test_a_topic_of_unknown_type_is_named_and_left_out(server):
    assert not server.declare("/strange", "no_such_msgs/msg/Thing")
    assert "no_such_msgs/msg/Thing" in server.skipped["/strange"]


def test_a_missing_sdk_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "foxglove", None)
    with pytest.raises(ConfigError, match=r"peft_dml_ros\[view\]"):
        FoxgloveServer(port=0)


def test_a_bag_that_is_none_is_one_clear_line(tmp_path):
    pytest.importorskip("foxglove", reason="no foxglove-sdk: pip install 'peft_dml_ros[view]'")
    done = CliRunner().invoke(app, ["view", str(tmp_path / "none.mcap"), "--port", "0"])
    assert done.exit_code == 2
    assert "none.mcap" in done.output
    assert "Open" not in done.output, "a link to nothing"


@pytest.mark.ros
def test_a_live_topic_is_taken_only_while_somebody_looks(ros_node, tmp_path):
    pytest.importorskip("foxglove", reason="no foxglove-sdk: pip install 'peft_dml_ros[view]'")
    publisher = ros_node.create_publisher(Float32, "/value", 5)
    with ros_process("peft_dml_tools.nodes.viewer", "--port", "0", log=tmp_path / "log") as viewer:
        viewer.wait_for('"ready"')
        address = next(event["address"] for event in viewer.events if event["event"] == "ready")
        time.sleep(2.5)
        assert publisher.get_subscription_count() == 0
        done = threading.Event()

        def publish():
            while not done.wait(0.05):
                publisher.publish(Float32(data=2.5))

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            channels, found = watch(address, ["/value"])
        finally:
            done.set()
            thread.join()
        assert channels["/value"]["schemaName"] == "std_msgs/msg/Float32"
        assert found["/value"][4:8] == b"\x00\x00\x20\x40"
        limit = time.monotonic() + 15
        while publisher.get_subscription_count():
            assert time.monotonic() < limit, "still subscribed after the viewer has gone"
            time.sleep(0.1)
        assert viewer.stop() == 0


@pytest.mark.ros
def test_a_running_vehicle_is_offered_by_a_link_once_the_server_runs(tmp_path):
    pytest.importorskip("foxglove", reason="no foxglove-sdk: pip install 'peft_dml_ros[view]'")
    with ros_process("peft_dml_ros.cli.main", "view", "live", "--port", "0", log=tmp_path / "log") as viewer:
        viewer.wait_for("layout to import there", 60.0)
        (address,) = re.findall(r"or (ws://127\.0\.0\.1:[1-9]\d+) in", viewer.text)
        assert quote(address, safe="") in viewer.text
        watch(address, [])
        assert viewer.stop(signal.SIGINT) == 0
        assert "{" not in viewer.text
