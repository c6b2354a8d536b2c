# SPDX-License-Identifier: Apache-2.0
"""The whole stack over DDS in processes of its own: replay, perception, recorder; then bad input, then the end."""

import signal
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from peft_dml_ros.conversions import image_to_msg, stamp_ns_from_msg
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_ros.nodes.matched_subscription import LATCHED
from peft_dml_tools.datasets.bags import typestore
from peft_dml_tools.datasets.boxes_from_msg import boxes_from_msg
from peft_dml_tools.datasets.encode import camera_info_to_msg, lidar_to_msg, tf_static_to_msg
from peft_dml_tools.sim.faults import Fault, dump_faults
from tests.support import scenes
from tests.support.drive_bag import make_drive_bag
from tests.support.random_bundle import make_random_bundle
from tests.support.ros_processes import ros_process

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.alone]

NODES, TOOLS = "peft_dml_ros.nodes", "peft_dml_tools.nodes"
SILENT_S = (1.5, 2.7)
WAIT_FOR = ("/lidar_top/points=2", "/perception/velocities", "/perception/status", "/perception/markers")
SHAPE = (198, 352, 3)
MAKE = RclpyFactory()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_random_bundle(tmp_path_factory.mktemp("bundle") / "random")


@pytest.fixture(scope="module")
def session(tmp_path_factory, bundle):
    """One drive of four seconds, LiDAR silent in between, recorded; every process ended by a signal."""
    folder = tmp_path_factory.mktemp("session")
    drive = make_drive_bag(folder / "drive.mcap", 4000, lidar_points=3000)
    script = folder / "faults.yaml"
    silence = Fault(sensor="LIDAR_TOP", fault="silence", from_s=SILENT_S[0], to_s=SILENT_S[1])
    script.write_text(dump_faults([silence]), encoding="utf-8")
    out = folder / "recorded.mcap"
    with (
        ros_process(f"{NODES}.perception", "--ros-args", "-p", f"bundle:={bundle}", log=folder / "node.log") as node,
        ros_process(f"{TOOLS}.recorder", "--out", out, log=folder / "recorder.log") as recorder,
        ros_process(
            f"{TOOLS}.replay", drive, "--json", "--faults", script, "--wait-for", *WAIT_FOR, log=folder / "replay.log"
        ) as replay,
    ):
        codes = {"replay": replay.wait(120)}
        time.sleep(0.3)
        codes["recorder"] = recorder.stop(signal.SIGINT)
        codes["perception"] = node.stop(signal.SIGTERM)
        logs = SimpleNamespace(node=node.text, replay=replay.events, recorder=recorder.events)
    messages = read(out)
    return SimpleNamespace(codes=codes, logs=logs, messages=messages, start=logs.replay[1])


def read(path):
    """Messages by topic, in order of recording."""
    found: dict[str, list] = {}
    with AnyReader([path], default_typestore=typestore()) as reader:
        for connection, _, cdr in reader.messages():
            found.setdefault(connection.topic, []).append(reader.deserialize(cdr, connection.msgtype))
    return found


def stamps(messages):
    return [stamp_ns_from_msg(m) for m in messages]


def values(status):
    return {pair.key: pair.value for pair in status.values}


def test_all_processes_end_in_order(session):
    assert session.codes == {"replay": 0, "recorder": 0, "perception": 0}, session.logs.node
    assert "Traceback" not in session.logs.node
    assert "perception starts" in session.logs.node
    assert "bundle random" in session.logs.node


def frames(session):
    """Values of the frame's status by stamp."""
    messages = session.messages["/perception/status"]
    return dict(zip(stamps(messages), (values(m.status[0]) for m in messages), strict=True))


def skipped(frame):
    """Frames that a slow machine had no time for, as the node counts them."""
    return int(frame.get("drops.frame: superseded", 0))


def test_every_lidar_sweep_has_its_boxes_or_is_counted(session):
    sent = stamps(session.messages["/lidar_top/points"])
    boxes = stamps(session.messages["/perception/detections"])
    assert len(sent) == 28
    assert len(set(boxes)) == len(boxes)
    last = list(frames(session).values())[-1]
    assert len(set(sent) - set(boxes)) <= skipped(last) + 1
    assert len(set(sent) & set(boxes)) >= 10


def test_boxes_go_on_while_the_lidar_is_silent(session):
    begin_ns = session.start["begin_ns"] + session.start["shift_ns"]
    low_ns, high_ns = (begin_ns + int(s * 1e9) for s in SILENT_S)
    silent = {s: v for s, v in frames(session).items() if low_ns + 150_000_000 <= s < high_ns}
    assert {v["reference"] for v in silent.values()} <= {"CAM_FRONT", "CAM_BACK"}
    triggered = [int(v["frames.triggered"]) for v in silent.values()]
    assert triggered[-1] - triggered[0] >= 7
    late = [v for s, v in silent.items() if s > low_ns + 300_000_000]
    assert late
    assert all(v["mask.lidar"] == "0" and v["mask.camera"] == "1" for v in late)
    after = [v for s, v in frames(session).items() if s >= high_ns + 200_000_000]
    assert "LIDAR_TOP" in {v["reference"] for v in after}


def test_outputs_agree_with_each_other(session):
    topics = ("detections", "velocities", "status")
    heard = {name: session.messages[f"/perception/{name}"] for name in topics}
    # The recorder comes to one topic after the other, and is stopped while the node goes on.
    begin, end = max(stamps(m)[0] for m in heard.values()), min(stamps(m)[-1] for m in heard.values())
    detections, velocities, status = ([m for m in heard[n] if begin <= stamps([m])[0] <= end] for n in topics)
    assert len(detections) > 30
    assert stamps(detections) == stamps(velocities) == stamps(status)
    assert all(m.header.frame_id == "base_link" for m in detections)
    assert [len(m.detections) for m in detections] == [m.width for m in velocities]
    assert max(len(boxes_from_msg(m)) for m in detections) > 0
    assert all(m.markers[0].action == 3 for m in session.messages["/perception/markers"])
    (labels,), (vision,) = session.messages["/perception/label_info"], session.messages["/perception/vision_info"]
    assert [c.class_name for c in labels.class_map][:2] == ["car", "truck"]
    assert vision.method == "random 0.0, adapter none"


def test_the_books_balance(session):
    for frame in frames(session).values():
        triggered, published, waiting = (int(frame[f"frames.{kind}"]) for kind in ("triggered", "published", "waiting"))
        assert triggered == published + skipped(frame) + waiting, frame
        assert not any("failed" in key or "malformed" in key for key in frame), frame
    names = {s.name for m in session.messages["/diagnostics"] for s in m.status}
    assert "perception: sensor LIDAR_TOP" in names
    done = session.logs.recorder[-1]
    assert done["event"] == "done"
    assert done["lost"] == 0
    assert done["counts"]["/imu/data"] == 400


@pytest.fixture
def perception(tmp_path, bundle):
    with ros_process(f"{NODES}.perception", "--ros-args", "-p", f"bundle:={bundle}", log=tmp_path / "log") as node:
        node.wait_for("perception active")
        yield node


class Vehicle:
    """Publishers of a test, and the status that comes back."""

    def __init__(self, node):
        self.node, self.status, self.seen = node, {}, 0
        self.executor = SingleThreadedExecutor(context=node.context)
        self.executor.add_node(node)
        node.create_subscription(DiagnosticArray, "/perception/status", self._on_status, 10)
        self.cloud = node.create_publisher(PointCloud2, "/lidar_top/points", 10)
        self.info = node.create_publisher(CameraInfo, "/cam_front/camera_info", 10)
        node.create_publisher(TFMessage, "/tf_static", LATCHED).publish(tf_static_to_msg(scenes.rig(), MAKE))
        self.image = node.create_publisher(CompressedImage, "/cam_front/image/compressed", 10)
        self.other_image = node.create_publisher(CompressedImage, "/cam_back/image/compressed", 10)

    def _on_status(self, message):
        self.seen += 1
        self.status = {s.name: values(s) for s in message.status}

    def drops(self):
        frame = self.status.get("perception: frame", {})
        return Counter({k.removeprefix("drops."): int(v) for k, v in frame.items() if k.startswith("drops.")})

    def now_ns(self):
        return self.node.get_clock().now().nanoseconds

    def spin_until(self, condition, timeout_s=30.0):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{self.status}"
            self.executor.spin_once(timeout_sec=0.02)

    def send_calibration(self):
        """Repeated, as drivers do with every image."""
        camera = scenes.rig()["CAM_FRONT"].camera
        self.info.publish(camera_info_to_msg(camera, self.now_ns(), "cam_front", MAKE))


def good_frames(vehicle, perception, n):
    """Publish good clouds until frames with LiDAR have come out."""
    started = vehicle.seen
    while vehicle.seen < started + n or vehicle.status["perception: frame"].get("mask.lidar") != "1":
        assert perception.alive, perception.text
        vehicle.cloud.publish(lidar_to_msg(scenes.lidar(vehicle.now_ns()), "lidar_top", MAKE))
        vehicle.send_calibration()
        vehicle.executor.spin_once(timeout_sec=0.05)
        time.sleep(0.05)


def send_bad_input(vehicle):
    """A truncated cloud, one with points that are not finite, one from the future, a text, half a JPEG, half bytes."""
    truncated = lidar_to_msg(scenes.lidar(vehicle.now_ns()), "lidar_top", MAKE)
    truncated.data = truncated.data[: len(truncated.data) // 2]
    sweep = scenes.lidar(vehicle.now_ns() + 1)
    sweep.points[:7, 0] = np.nan
    future = scenes.lidar(vehicle.now_ns() + 10**9)
    for cloud in (truncated, lidar_to_msg(sweep, "lidar_top", MAKE), lidar_to_msg(future, "lidar_top", MAKE)):
        vehicle.cloud.publish(cloud)
        time.sleep(0.15)  # a subscription keeps the last few sweeps only: in one burst the first would be lost
    text = CompressedImage(data=b"this is no image", format="jpeg")
    text.header.frame_id = "cam_front"
    corrupt = image_to_msg(scenes.image(vehicle.now_ns()), "cam_front", MAKE)
    corrupt.data = corrupt.data[:200]
    for image in (text, corrupt):
        vehicle.image.publish(image)
    # Half of a message's own bytes, which rclpy would lose without a word.
    whole = serialize_message(image_to_msg(scenes.image(vehicle.now_ns()), "cam_back", MAKE))
    vehicle.other_image.publish(whole[: len(whole) // 2])


def raw_image(vehicle):
    # Never the same twice: a payload that repeats itself is a frozen camera's.
    pixels = np.random.default_rng(vehicle.now_ns()).integers(0, 256, SHAPE, dtype=np.uint8)
    return image_to_msg(CameraImage(vehicle.now_ns(), pixels=pixels), "cam_front", MAKE)


def test_bad_input_is_counted_by_name_and_the_node_lives_on(perception, ros_node):
    vehicle = Vehicle(ros_node)
    wanted = (vehicle.cloud, vehicle.image, vehicle.other_image)
    vehicle.spin_until(lambda: all(publisher.get_subscription_count() for publisher in wanted))
    good_frames(vehicle, perception, 3)
    send_bad_input(vehicle)
    good_frames(vehicle, perception, 5)
    drops = vehicle.drops()
    assert drops["LIDAR_TOP: malformed"] == 1, drops
    assert drops["LIDAR_TOP: points not finite"] == 7, drops
    assert drops["LIDAR_TOP: stamp from the future"] == 1, drops
    assert drops["CAM_FRONT: malformed"] == 2, drops
    assert drops["CAM_BACK: malformed"] == 1, drops
    perception.wait_for("dropped, CAM_BACK: malformed (1 so far): /cam_back/image/compressed: ")

    # Nothing usable comes compressed any more: after a while the raw images are taken.
    raw = vehicle.node.create_publisher(Image, "/cam_front/image", 10)

    def camera_is_used():
        raw.publish(raw_image(vehicle))
        return vehicle.status["perception: frame"].get("mask.camera") == "1"

    vehicle.spin_until(camera_is_used)
    assert vehicle.drops()["CAM_FRONT: malformed"] == 2
    assert perception.stop() == 0
    assert "Traceback" not in perception.text


def damaged_image(vehicle):
    """Broken in the middle, with its end marker intact: a lenient decoder gives half of it in grey."""
    message = image_to_msg(scenes.image(vehicle.now_ns()), "cam_front", MAKE)
    data = bytes(message.data)
    middle = len(data) // 2
    message.data = data[:middle] + data[middle + 200 :]
    return message


def test_a_picture_damaged_inside_is_counted_and_shuts_the_camera_out_until_it_is_sound(perception, ros_node):
    vehicle = Vehicle(ros_node)
    vehicle.spin_until(lambda: vehicle.image.get_subscription_count() and vehicle.cloud.get_subscription_count())
    good_frames(vehicle, perception, 2)

    def send(image):
        good_frames(vehicle, perception, 1)
        vehicle.image.publish(image)
        return vehicle.status["perception: frame"].get("mask.camera") == "1"

    def degraded():
        assert not send(damaged_image(vehicle))
        camera = vehicle.status["perception: sensor CAM_FRONT"]
        return camera["state"] == "DEGRADED" and vehicle.drops()["CAM_FRONT: damaged image"] >= 2

    vehicle.spin_until(degraded, timeout_s=20.0)
    vehicle.spin_until(lambda: send(image_to_msg(scenes.image(vehicle.now_ns()), "cam_front", MAKE)), timeout_s=20.0)


def test_raw_images_beside_compressed_ones_are_left_alone_until_these_end(perception, ros_node):
    vehicle = Vehicle(ros_node)
    raw = vehicle.node.create_publisher(Image, "/cam_front/image", 10)
    vehicle.spin_until(vehicle.image.get_subscription_count)

    def send():
        good_frames(vehicle, perception, 1)
        vehicle.image.publish(image_to_msg(scenes.image(vehicle.now_ns()), "cam_front", MAKE))
        raw.publish(raw_image(vehicle))

    vehicle.spin_until(lambda: send() or vehicle.status["perception: frame"].get("mask.camera") == "1")
    # Who saw the raw publisher first lets go of it within a second.
    vehicle.spin_until(lambda: send() or not raw.get_subscription_count())
    end_s = time.monotonic() + 4.0
    while time.monotonic() < end_s:
        send()
        assert raw.get_subscription_count() == 0
    vehicle.node.destroy_publisher(vehicle.image)
    vehicle.spin_until(raw.get_subscription_count)


def test_an_unknown_parameter_is_one_line_and_exit_code_2(tmp_path, bundle):
    arguments = ("--ros-args", "-p", f"bundle:={bundle}", "-p", "detection.score_treshold:=0.3")
    with ros_process(f"{NODES}.perception", *arguments, log=tmp_path / "log") as node:
        assert node.wait(20) == 2
        (line,) = [row for row in node.text.splitlines() if "[FATAL]" in row]
        assert "[perception]: error: " in line
        assert "did you mean 'detection.score_threshold'?" in line
        assert "Traceback" not in node.text


def test_a_missing_bundle_is_one_line_and_exit_code_2(tmp_path):
    with ros_process(f"{NODES}.perception", "--ros-args", "-p", "bundle:=/no/such", log=tmp_path / "log") as node:
        assert node.wait(20) == 2
        assert "[perception]: error: no bundle '/no/such'" in node.text
        assert "Traceback" not in node.text
