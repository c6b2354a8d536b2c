# SPDX-License-Identifier: Apache-2.0
"""What a replay puts on the wire: the recording, shifted, with its faults, on schedule."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, PointCloud2
from tf2_msgs.msg import TFMessage

from peft_dml_ros.conversions import image_from_msg, lidar_from_msg
from peft_dml_ros.conversions.cdr import leading_stamp_ns
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_tools.datasets.bags import BagSource, write_bag
from peft_dml_tools.nodes.player import Player
from peft_dml_tools.nodes.recordings import RecordedMessage, SourceRecording, open_recording
from peft_dml_tools.nodes.replay_faults import CdrCarrier, MessageFaults, sensors_by_topic
from peft_dml_tools.nodes.replay_parameters import FaultParameters
from peft_dml_tools.sim.fault_stream import Arrival
from peft_dml_tools.sim.faults import Fault
from peft_dml_tools.sim.faulty_source import FaultySource
from tests.support.drive_bag import MadeUpDrive, make_drive_bag
from tests.support.ros_processes import ros_process
from tests.support.scenes import START_NS

LIDAR = "/lidar_top/points"


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return make_drive_bag(tmp_path_factory.mktemp("bag") / "drive.mcap", 1000)


def faulty(bag, *faults):
    recording = open_recording(bag)
    spoil = MessageFaults(recording.channels, lambda: recording.rig, recording.start_ns, faults)
    return list(spoil(recording.messages())), recording


def offsets_ms(messages, recording, topic):
    return [round((m.time_ns - recording.start_ns) / 1e6) for m in messages if m.topic == topic]


def test_a_bag_keeps_its_latched_topics_apart(bag):
    recording = open_recording(bag)
    assert [m.topic for m in recording.latched()] == ["/tf_static"]
    assert recording.channels["/tf_static"].qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert recording.channels[LIDAR].qos.reliability == ReliabilityPolicy.BEST_EFFORT
    times = [m.time_ns for m in recording.messages()]
    assert times == sorted(times)
    assert len(offsets_ms(recording.messages(recording.start_ns + 500_000_000), recording, LIDAR)) == 5


def test_a_source_is_encoded_as_the_bag_of_it_would_be(bag):
    from_bag, from_source = open_recording(bag), SourceRecording(MadeUpDrive(1000))
    mountings = [deserialize_message(next(r.latched()).cdr, TFMessage) for r in (from_bag, from_source)]
    assert mountings[0] == mountings[1]
    own, recorded = ({t: c.qos.reliability for t, c in r.channels.items()} for r in (from_source, from_bag))
    assert recorded.items() <= own.items()
    encoded = [(m.time_ns, m.topic) for m in from_source.messages()]
    assert encoded == [(m.time_ns, m.topic) for m in from_bag.messages()]
    first = next(m for m in from_source.messages() if m.topic == LIDAR)
    sweep = lidar_from_msg(deserialize_message(first.cdr, PointCloud2))
    expected = next(m for name, m in BagSource(bag).measurements() if name == "LIDAR_TOP")
    np.testing.assert_array_equal(sweep.points, expected.points)


def test_a_bag_with_foreign_topics_is_played_on_those_of_this_package(bag, tmp_path):
    foreign = write_bag(MadeUpDrive(1000), tmp_path / "foreign.mcap", preset="autoware")
    recording = open_recording(foreign)
    own = open_recording(bag)
    assert set(recording.channels) - {"/truth/boxes"} == set(own.channels)
    assert [(m.time_ns, m.topic) for m in recording.messages()] == [(m.time_ns, m.topic) for m in own.messages()]
    assert "/sensing/lidar/top/pointcloud_raw_ex" in open_recording(foreign, as_recorded=True).channels


def test_raw_images_of_a_foreign_bag_are_played_as_such(tmp_path):
    class Raw(MadeUpDrive):
        def measurements(self):
            for name, measurement in super().measurements():
                raw = CameraImage(measurement.stamp_ns, pixels=np.zeros((198, 352, 3), np.uint8))
                yield name, raw if name == "CAM_FRONT" else measurement

    recording = open_recording(write_bag(Raw(300), tmp_path / "raw.mcap", preset="nuscenes2bag"))
    assert {t for t in recording.channels if t.startswith("/cam_")} == {
        "/cam_front/image", "/cam_front/camera_info", "/cam_back/image/compressed", "/cam_back/camera_info"
    }  # fmt: skip
    assert offsets_ms(recording.messages(), recording, "/cam_front/image") == [7, 90, 173, 256]


@pytest.mark.parametrize("preset", ["default", "autoware"])
def test_a_bag_that_was_cut_off_is_played_as_far_as_it_goes(tmp_path, preset):
    path = write_bag(MadeUpDrive(3000, 20_000), tmp_path / "cut.mcap", preset=preset)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    recording = open_recording(path)
    sweeps = offsets_ms(recording.messages(), recording, LIDAR)
    assert sweeps == [100 * k for k in range(len(sweeps))]
    assert 10 <= len(sweeps) <= 20
    assert "cut.mcap is damaged" in recording.damage
    assert (recording.end_ns - recording.start_ns) / 1e9 == pytest.approx(len(sweeps) / 10, abs=0.2)


def test_damage_is_told_at_the_end_of_a_replay(bag, tmp_path):
    path = tmp_path / "cut.mcap"
    path.write_bytes(bag.read_bytes()[:-2000])
    with ros_process("peft_dml_tools.nodes.replay", path, "--json", "--rate", "20", log=tmp_path / "log") as process:
        assert process.wait(30) == 0
        assert "mcap recover" in process.events[-1]["damage"]
        assert "warning: bag" in process.text


def test_a_source_without_truth_lasts_until_its_last_measurement():
    assert SourceRecording(MadeUpDrive(1000)).end_ns == START_NS + 991_000_001


def test_silence_takes_a_modality_with_its_calibration(bag):
    messages, recording = faulty(bag, Fault(sensor="camera", fault="silence", from_s=0.2, to_s=0.6))
    for topic in ("/cam_front/image/compressed", "/cam_back/camera_info"):
        times = offsets_ms(messages, recording, topic)
        assert times
        assert not [t for t in times if 200 <= t < 600]
    assert len(offsets_ms(messages, recording, LIDAR)) == 10


def test_a_frozen_sensor_repeats_its_payload_with_new_stamps(bag):
    messages, _ = faulty(bag, Fault(sensor="LIDAR_TOP", fault="freeze", from_s=0.3, to_s=0.7))
    sweeps = [m for m in messages if m.topic == LIDAR]
    stamps = [leading_stamp_ns(m.cdr) for m in sweeps]
    assert np.diff(stamps).tolist() == [100_000_000] * 9
    payloads = [m.cdr[12:] for m in sweeps]
    assert len(set(payloads[3:7])) == 1
    assert len(set(payloads)) == 7


def test_delayed_messages_come_late_but_in_order(bag):
    messages, recording = faulty(bag, Fault(sensor="RADAR_FRONT", fault="delay", from_s=0.0, to_s=0.5, delay_s=0.25))
    times = [m.time_ns for m in messages]
    assert times == sorted(times)
    assert min(offsets_ms(messages, recording, "/radar_front/points")) >= 250
    assert len(messages) == len(list(recording.messages()))


def test_a_fault_of_a_sensor_that_is_not_there_is_refused(bag):
    with pytest.raises(ConfigError, match="did you mean 'RADAR_FRONT'"):
        faulty(bag, Fault(sensor="RADAR_FRONT_LEFT", fault="silence", from_s=0, to_s=1))


RAIN = Fault(fault="weather", weather="rain=50")


def test_weather_acts_on_messages_as_on_measurements(bag):
    messages, recording = faulty(bag, RAIN)
    sound = list(recording.messages())
    assert [(m.time_ns, m.topic) for m in messages] == [(m.time_ns, m.topic) for m in sound]
    assert [m.cdr for m in messages] == [m.cdr for m in faulty(bag, RAIN)[0]]
    changed = {m.topic for m, s in zip(messages, sound, strict=True) if m.cdr != s.cdr}
    assert changed == {LIDAR, "/radar_front/points", "/cam_front/image/compressed", "/cam_back/image/compressed"}
    offline = [m for name, m in FaultySource(BagSource(bag), [RAIN]).measurements() if name == "LIDAR_TOP"]
    live = [lidar_from_msg(deserialize_message(m.cdr, PointCloud2)) for m in messages if m.topic == LIDAR]
    assert [s.stamp_ns for s in live] == [s.stamp_ns for s in offline]
    assert all(np.array_equal(a.points, b.points) for a, b in zip(live, offline, strict=True))
    pictures = [m for name, m in FaultySource(BagSource(bag), [RAIN]).measurements() if name == "CAM_BACK"]
    (first, *_) = (m for m in messages if m.topic == "/cam_back/image/compressed")
    assert image_from_msg(deserialize_message(first.cdr, CompressedImage)).jpeg == pictures[0].jpeg


def test_bytes_are_damaged_behind_the_stamp(bag):
    messages, recording = faulty(bag, Fault(sensor="LIDAR_TOP", fault="corrupt", severity=1, share=0.5, to_s=0.9))
    pairs = [(m.cdr, s.cdr) for m, s in zip(messages, recording.messages(), strict=True) if m.topic == LIDAR]
    assert all(a[:12] == b[:12] and len(a) == len(b) for a, b in pairs)
    assert 2 <= sum(a != b for a, b in pairs) <= 8
    cut, _ = faulty(bag, Fault(sensor="LIDAR_TOP", fault="corrupt", severity=3))
    assert {len(m.cdr) for m in cut if m.topic == LIDAR} == {len(pairs[0][1]) // 2}


def test_a_camera_drops_picture_and_calibration_together(bag):
    messages, recording = faulty(bag, Fault(sensor="CAM_FRONT", fault="drop", share=0.5))
    pictures, infos = (offsets_ms(messages, recording, f"/cam_front/{t}") for t in ("image/compressed", "camera_info"))
    assert pictures == infos
    assert 1 <= len(pictures) <= 11


def test_a_message_that_is_none_passes_as_it_is(bag):
    recording = open_recording(bag)
    spoil = MessageFaults(recording.channels, lambda: recording.rig, recording.start_ns, [RAIN])
    broken = [
        RecordedMessage(recording.start_ns, LIDAR, cdr)
        for cdr in (b"", b"\0\1\0\0", b"\0\1\0\0" + bytes(60), b"x" * 99)
    ]
    assert list(spoil(broken)) == broken


@pytest.fixture(scope="module")
def one_of_each(bag):
    """Message types by topic, and one message of each topic that belongs to a sensor."""
    recording = open_recording(bag)
    kinds = {topic: channel.type_name for topic, channel in recording.channels.items()}
    late = recording.messages(recording.end_ns - 100_000_000)
    return kinds, {m.topic: m.cdr for m in late if m.topic in sensors_by_topic(kinds)}


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_messages_are_decoded_or_refused_and_nothing_else(one_of_each, data):
    kinds, first = one_of_each
    topic = data.draw(st.sampled_from(sorted(first)))
    damaged = bytearray(first[topic][: data.draw(st.integers(0, len(first[topic])))])
    for place in data.draw(st.lists(st.integers(0, max(min(len(damaged) - 1, 400), 0)), max_size=6)) if damaged else ():
        damaged[place] = data.draw(st.integers(0, 255))
    sent = Arrival(0, topic, sensors_by_topic(kinds)[topic], bytes(damaged))
    carrier = CdrCarrier(kinds)
    try:
        measurement = carrier.measurement(sent)
    except DataError as error:
        assert topic in str(error) or "frame" in str(error)  # noqa: PT017  may or may not be raised
        return
    if measurement is not None and not isinstance(measurement, CameraImage):
        assert isinstance(carrier.packed(sent, measurement), bytes)


@pytest.mark.ros
def test_weather_and_faults_are_switched_while_it_plays(bag, ros_node: Node):
    recording = open_recording(bag)
    spoil = MessageFaults(recording.channels, lambda: recording.rig, recording.start_ns)
    FaultParameters(ros_node, spoil, (), "clear")
    played = spoil(recording.messages())
    sweeps = (m for m in played if m.topic == LIDAR)
    sound = [m.cdr for m in recording.messages() if m.topic == LIDAR]
    assert next(sweeps).cdr == sound[0]
    assert ros_node.set_parameters([Parameter("weather", value="fog=30")])[0].successful
    assert next(sweeps).cdr != sound[1]
    assert ros_node.set_parameters([Parameter("faults", value="[{sensor: LIDAR_TOP, fault: skew, offset_s: 1}]")])
    assert leading_stamp_ns(next(sweeps).cdr) == leading_stamp_ns(sound[2]) + 1_000_000_000
    refused = ros_node.set_parameters([Parameter("faults", value="[{sensor: LIDAR_TOP, fault: skwe}]")])[0]
    assert "did you mean 'skew'" in refused.reason
    assert "fog" in ros_node.set_parameters([Parameter("weather", value="fgo=3")])[0].reason
    assert ros_node.set_parameters_atomically(
        [Parameter("weather", value=""), Parameter("faults", value="")]
    ).successful
    assert next(sweeps).cdr == sound[3]


@pytest.mark.ros
def test_weather_can_be_given_as_a_parameter_at_the_start(bag, tmp_path):
    for given_text, said in (("fog=30", None), ("fgo=30", "did you mean 'fog'")):
        arguments = (bag, "--json", "--rate", "20", "--ros-args", "-p", f"weather:={given_text}")
        with ros_process("peft_dml_tools.nodes.replay", *arguments, log=tmp_path / "log") as process:
            assert process.wait(30) == (2 if said else 0)
            assert said in process.text if said else process.events[0]["weather"] == given_text


@pytest.mark.parametrize("content", [b"", b"not a bag at all", b"\x89MCAP0\r\n" + bytes(40)])
def test_a_broken_bag_is_one_clear_error(tmp_path, content):
    path = tmp_path / "broken.mcap"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.mcap.*(mcap recover|empty|0 bytes)"):
        open_recording(path)


def test_a_wrong_number_of_subscribers_is_told_in_one_line(bag, tmp_path):
    with ros_process("peft_dml_tools.nodes.replay", bag, "--wait-for", f"{LIDAR}=two", log=tmp_path / "log") as process:
        assert process.wait(20) == 2
        assert "error: --wait-for" in process.text
        assert "Traceback" not in process.text


def test_excluded_topics_are_not_played(bag, tmp_path):
    arguments = (bag, "--json", "--exclude", "^/(lidar|radar|cam)", "--rate", "20", "--weather", "snow=5")
    with ros_process("peft_dml_tools.nodes.replay", *arguments, log=tmp_path / "log") as process:
        assert process.wait(30) == 0
        published = process.events[-1]["published"]
    kept = [m for r in (open_recording(bag),) for m in (*r.latched(), *r.messages())]
    assert published == sum(not m.topic.startswith(("/lidar", "/radar", "/cam")) for m in kept)


def test_a_missing_source_is_named():
    with pytest.raises(DataError, match="does not exist"):
        open_recording(Path("/no/such/drive"))


@pytest.mark.ros
def test_the_schedule_is_absolute_and_stamps_are_shifted(bag, ros_node: Node):
    recording = open_recording(bag)
    player = Player(ros_node, recording.channels.values(), rate=4.0)
    sent: list[tuple[float, RecordedMessage]] = []
    player._send = lambda topic, cdr: sent.append((time.monotonic(), RecordedMessage(0, topic, cdr)))
    shift_ns = 12_345_678_900
    player.play(recording.messages(), recording.start_ns, shift_ns, threading.Event())
    sweeps = [(at, m) for at, m in sent if m.topic == LIDAR]
    assert [leading_stamp_ns(m.cdr) for _, m in sweeps] == [
        recording.start_ns + shift_ns + i * 100_000_000 for i in range(10)
    ]
    # Nine sweeps of 100 ms at four times the speed; no drift, whatever single messages were late by.
    assert sweeps[-1][0] - sweeps[0][0] == pytest.approx(0.225, abs=0.12)


@pytest.mark.ros
def test_a_stop_ends_a_replay_at_once(bag, ros_node: Node):
    recording, stop = open_recording(bag), threading.Event()
    player = Player(ros_node, recording.channels.values(), rate=0.01)
    threading.Timer(0.2, stop.set).start()
    begun_s = time.monotonic()
    player.play(recording.messages(), recording.start_ns, 0, stop)
    assert time.monotonic() - begun_s < 1.0
    assert player.subscribers(LIDAR) == player.subscribers("/no/such/topic") == 0
