# SPDX-License-Identifier: Apache-2.0
"""The recorder refuses what it cannot do, and what it wrote is a bag whatever ended it."""

import signal
import time

import pytest
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import Reader
from std_msgs.msg import Float32

from peft_dml_tools.nodes.bag_file import RawBagFile
from tests.support.ros_processes import ros_process

pytestmark = pytest.mark.ros
RECORDER = "peft_dml_tools.nodes.recorder"


def test_an_existing_file_is_not_overwritten(tmp_path):
    out = tmp_path / "old.mcap"
    out.write_bytes(b"precious")
    with ros_process(RECORDER, "--out", out, log=tmp_path / "log") as recorder:
        assert recorder.wait(20) == 2
        assert "error: " in recorder.text
        assert "old.mcap exists already" in recorder.text
        assert "Traceback" not in recorder.text
    assert out.read_bytes() == b"precious"


def test_a_wrong_pattern_is_told_without_a_traceback(tmp_path):
    with ros_process(RECORDER, "--out", tmp_path / "x.mcap", "--exclude", "(", log=tmp_path / "log") as recorder:
        assert recorder.wait(20) == 2
        assert "no regular expression" in recorder.text
        assert "Traceback" not in recorder.text


def test_times_never_go_back(tmp_path):
    with RawBagFile(tmp_path / "values.mcap") as bag:
        channel = bag.add_topic("/value", "std_msgs/msg/Float32", [])
        for time_ns in (1000, 3000, 2000, 4000):
            bag.write_cdr(channel, time_ns, serialize_message(Float32(data=1.0)))
    with Reader(tmp_path / "values.mcap") as reader:
        assert [time_ns for _, time_ns, _ in reader.messages()] == [1000, 3000, 3000, 4000]


@pytest.mark.parametrize("name", ["values.mcap", "values"])
def test_selected_topics_are_recorded_with_their_profiles(tmp_path, ros_node, name):
    wanted, other = (ros_node.create_publisher(Float32, topic, 7) for topic in ("/wanted", "/other"))
    arguments = ("--out", tmp_path / name, "--topics", "/wanted", "--period-s", "0.05")
    with ros_process(RECORDER, *arguments, log=tmp_path / "log") as recorder:
        recorder.wait_for('"ready"')
        for value in range(500):
            other.publish(Float32(data=0.0))
            wanted.publish(Float32(data=float(value)))
            if any(e.get("counts", {}).get("/wanted", 0) >= 3 for e in recorder.events):
                break
            time.sleep(0.02)
        assert recorder.stop(signal.SIGTERM) == 0
        done = recorder.events[-1]
    with Reader(tmp_path / name) as reader:
        (connection,) = reader.connections
        assert connection.topic == "/wanted"
        assert connection.ext.offered_qos_profiles[0].reliability.name == "RELIABLE"
        assert reader.message_count == done["counts"]["/wanted"] >= 3
