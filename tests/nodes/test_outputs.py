# SPDX-License-Identifier: Apache-2.0
"""What the node gives out: boxes with covariance, velocities, markers, pictures; and nothing that nobody listens to."""

import runpy
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, PointCloud2
from std_msgs.msg import Float32
from vision_msgs.msg import Detection3DArray, LabelInfo, VisionInfo
from visualization_msgs.msg import MarkerArray

from peft_dml_ros.core.boxes import Boxes3D, decode_candidates
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.classes import CLASS_COLOURS
from peft_dml_ros.core.detector import Detections
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.nodes import overlays, publishers
from peft_dml_ros.nodes.diagnostics import NodeReport
from peft_dml_ros.nodes.drops import DropCounter
from peft_dml_ros.nodes.matched_subscription import LATCHED
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_ros.nodes.pipeline import FrameJob
from peft_dml_ros.nodes.publishers import NodeOutputs
from peft_dml_tools.datasets.boxes_from_msg import boxes_from_msg, with_velocities
from peft_dml_tools.node_interface import LATCHED as LATCHED_WORD
from peft_dml_tools.node_interface import SERVICES, outputs, published, subscribed
from tests.support import scenes
from tests.support.random_bundle import make_random_bundle
from tests.support.ros_processes import ros_process

pytestmark = pytest.mark.ros
STAMP_NS = scenes.START_NS
FRAME = "base_link"


def some_boxes():
    """A car ahead that drives off to the left, a pedestrian that stands, a truck of unknown velocity."""
    made = Boxes3D.make(
        np.array([[12.0, 1.0, 0.8], [8.0, -2.0, 0.9], [25.0, 4.0, 1.5]]),
        np.array([[4.5, 1.9, 1.6], [0.6, 0.6, 1.8], [9.0, 2.5, 3.2]]),
        np.array([0.3, 0.0, -0.1]),
        np.array([0, 5, 1]),
        velocities_mps=np.array([[3.0, 4.0], [0.1, 0.0], [np.nan, np.nan]]),
        scores=np.array([0.9, 0.6, 0.4]),
    )
    return replace(made, sigmas=np.array([[0.3, 0.3, 0.2, 0.1], [0.2, 0.2, 0.1, 0.5], [0.9, 0.9, 0.4, 0.2]]))


def job(image=None):
    image = image or scenes.image(STAMP_NS - 20 * scenes.MS)
    poses = tuple(scenes.odometry(STAMP_NS + dt * scenes.MS, 0.01 * dt) for dt in (-100, -50, 0))
    cameras = {"CAM_FRONT": image, "CAM_BACK": scenes.image(STAMP_NS - 10 * scenes.MS)}
    snapshot = Snapshot(STAMP_NS, "LIDAR_TOP", cameras=cameras, odometry=poses)
    return FrameJob(snapshot, scenes.rig(), {}, {}, {}, STAMP_NS)


def report():
    five = np.ones(5, np.float32)
    found = Detections(STAMP_NS, "LIDAR_TOP", some_boxes(), five, five / 5, five, five, stages_ms={"fusion": 4.0})
    return NodeReport({}, {}, {}, found, latency_ms=60.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_random_bundle(tmp_path_factory.mktemp("bundle") / "random")


@pytest.fixture
def stage(ros_node, bundle):
    """An active node's outputs, and a listener next to it."""
    node = LifecycleNode("given_out", context=ros_node.context)
    drops = DropCounter(node.get_logger())
    made = NodeOutputs(node, load_bundle(bundle), NodeParams(), drops)
    node.trigger_configure()
    node.trigger_activate()
    executor = SingleThreadedExecutor(context=ros_node.context)
    executor.add_node(ros_node)
    executor.add_node(node)

    def spin_until(condition, timeout_s=8.0):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline
            executor.spin_once(timeout_sec=0.02)

    def listen(kind, topic, qos=10):
        heard = []
        ros_node.create_subscription(kind, f"/given_out/{topic}", heard.append, qos)
        spin_until(lambda: node.count_subscribers(f"/given_out/{topic}"))
        return heard

    yield SimpleNamespace(outputs=made, listen=listen, spin_until=spin_until, drops=drops)
    made.destroy()
    node.destroy_node()


@pytest.fixture
def made(monkeypatch):
    """How often each kind of message was made."""
    counts = dict.fromkeys(("boxes_to_cdr", "velocities_to_msg", "markers_to_cdr", "to_diagnostics", "overlay"), 0)

    def counting(name, function):
        def call(*arguments):
            counts[name] += 1
            return function(*arguments)

        return call

    for name in counts:
        module = overlays if name == "overlay" else publishers
        monkeypatch.setattr(module, name, counting(name, getattr(module, name)))
    return counts


def publish_all(outputs):
    outputs.publish_boxes(some_boxes(), STAMP_NS)
    outputs.publish_status(report())
    outputs.publish_views(some_boxes(), STAMP_NS, job())


def test_nothing_is_made_that_nobody_listens_to(stage, made):
    before = threading.active_count()
    publish_all(stage.outputs)
    assert set(made.values()) == {0}
    assert threading.active_count() == before


def test_covariance_is_the_predicted_variance(stage):
    heard, velocities = stage.listen(Detection3DArray, "detections"), stage.listen(PointCloud2, "velocities")
    spec = load_bundle("demo").spec
    regression = np.zeros((2, len(spec.regression)), np.float32)
    for name, value in (("log_var_xy", np.log(0.09)), ("log_var_z", np.log(0.04)), ("log_var_yaw", np.log(0.25))):
        regression[:, spec.regression.index(name)] = value
    network = {
        "scores": np.array([0.9, 0.8]),
        "regression": regression,
        "cells": np.array([10, 5000]),
        "labels": np.array([0, 5]),
        "attributes": np.zeros((2, 8)),
    }
    boxes = decode_candidates(network, spec, 0.1, 1.0)
    stage.outputs.publish_boxes(boxes, STAMP_NS)
    stage.spin_until(lambda: heard and velocities)
    for detection in heard[0].detections:
        pose = np.array(detection.results[0].pose.covariance).reshape(6, 6)
        assert np.allclose(np.diag(pose), [0.09, 0.09, 0.04, 0, 0, 0.25], atol=1e-6)
        assert np.count_nonzero(pose) == 4
    again = with_velocities(boxes_from_msg(heard[0]), velocities[0])
    assert np.allclose(again.velocities_mps, boxes.velocities_mps)
    assert velocities[0].header == heard[0].header


def test_markers_have_class_colours_and_arrows_where_something_moves(stage, made):
    heard = stage.listen(MarkerArray, "markers")
    stage.outputs.publish_views(some_boxes(), STAMP_NS, job())
    stage.spin_until(lambda: heard)
    clear, *rest = heard[0].markers
    assert clear.action == clear.DELETEALL
    assert [(m.ns, m.type) for m in rest] == [("car", 1), ("velocity", 0), ("pedestrian", 1), ("truck", 1)]
    car, arrow = rest[:2]
    assert [round(c * 255) for c in (car.color.r, car.color.g, car.color.b)] == list(CLASS_COLOURS["car"])
    start, end = arrow.points
    assert (end.x - start.x, end.y - start.y, end.z - start.z) == pytest.approx((3.0, 4.0, 0.0))
    assert made["overlay"] == 0


def test_only_the_camera_that_is_looked_at_is_drawn_once_a_frame(stage, made):
    heard = stage.listen(CompressedImage, "overlay/cam_front/compressed", 1)
    stage.outputs.publish_views(some_boxes(), STAMP_NS, job())
    stage.spin_until(lambda: heard)
    assert made == {**dict.fromkeys(made, 0), "overlay": 1}
    (picture,) = heard
    assert (picture.format, picture.header.frame_id) == ("jpeg", "cam_front")
    assert picture.header.stamp.nanosec == (STAMP_NS - 20 * scenes.MS) % 10**9
    assert cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_COLOR).shape == (198, 352, 3)


def test_drawing_never_makes_boxes_wait_and_the_newest_frame_wins(stage, monkeypatch):
    heard = stage.listen(CompressedImage, "overlay/cam_front/compressed", 10)
    going, started, drawn, real = threading.Event(), threading.Event(), [], overlays.overlay

    def slow(image, *rest):
        drawn.append(image.stamp_ns)
        started.set()
        assert going.wait(10)
        return real(image, *rest)

    monkeypatch.setattr(overlays, "overlay", slow)
    stamps = [STAMP_NS - age * scenes.MS for age in (40, 30, 20)]
    start_s = time.monotonic()
    for stamp in stamps:
        stage.outputs.publish_views(some_boxes(), STAMP_NS, job(scenes.image(stamp)))
        assert started.wait(5)
    assert time.monotonic() - start_s < 2.0
    going.set()
    stage.spin_until(lambda: len(heard) == 2)
    assert drawn == [stamps[0], stamps[2]]


@pytest.mark.alone
def test_drawing_takes_no_more_than_its_share_of_a_core(stage, monkeypatch):
    stage.listen(CompressedImage, "overlay/cam_front/compressed", 10)
    begun_s, real = [], overlays.overlay

    def slow(image, *rest):
        begun_s.append(time.monotonic())
        time.sleep(0.1)
        return real(image, *rest)

    monkeypatch.setattr(overlays, "overlay", slow)

    def again():
        stage.outputs.publish_views(some_boxes(), STAMP_NS, job())
        return len(begun_s) == 3

    stage.spin_until(again)
    assert min(np.diff(begun_s)) >= 0.1 / overlays.SHARE
    start_s = time.monotonic()
    stage.outputs.end_pictures()
    assert time.monotonic() - start_s < 0.2, "the rest is not waited for"


def test_a_broken_image_is_counted(stage):
    stage.listen(CompressedImage, "overlay/cam_front/compressed", 1)
    broken = replace(scenes.image(STAMP_NS), jpeg=b"\xff\xd8\xff none")
    stage.outputs.publish_views(some_boxes(), STAMP_NS, job(broken))
    stage.spin_until(lambda: stage.drops.totals()["overlay: failed"] == 1)


def test_boxes_lie_where_the_camera_saw_them():
    """A box three metres ahead in the image's axes covers its middle, also when the vehicle has moved since."""
    boxes = Boxes3D.make(np.array([[11.0, 0.0, 1.5]]), np.ones((1, 3)), np.zeros(1), np.zeros(1, np.int64))
    rig = scenes.rig()
    plain = scenes.image(STAMP_NS)
    still = overlays.overlay(plain, rig["CAM_FRONT"], SE3.identity(), boxes, ["car"])
    moved = overlays.overlay(plain, rig["CAM_FRONT"], SE3.from_yaw(0.0, (-3.0, 0, 0)), boxes, ["car"])

    def span(pixels):
        found = np.argwhere(np.abs(pixels.astype(int) - CLASS_COLOURS["car"]).sum(axis=2) < 40)
        return found.min(axis=0), found.max(axis=0)

    for pixels, near_m in ((still, 11.0 - 1.7 - 0.5), (moved, 8.0 - 1.7 - 0.5)):
        (top, left), (bottom, right) = span(pixels)
        assert (top + bottom) / 2 == pytest.approx(99, abs=2)
        assert (left + right) / 2 == pytest.approx(176, abs=2)
        assert right - left == pytest.approx(280 / near_m, abs=4)


def test_latched_facts_and_stage_times_reach_who_comes_later(stage):
    stage.outputs.announce(0.2)
    labels = stage.listen(LabelInfo, "label_info", LATCHED)
    vision = stage.listen(VisionInfo, "vision_info", LATCHED)
    stage.spin_until(lambda: labels and vision)
    assert labels[0].threshold == pytest.approx(0.2)
    assert vision[0].database_location == "/given_out/label_info"
    total, fusion = stage.listen(Float32, "debug/total_ms"), stage.listen(Float32, "debug/fusion_ms")
    status = stage.listen(DiagnosticArray, "status")
    stage.outputs.publish_status(report())
    stage.spin_until(lambda: total and fusion and status)
    assert (total[0].data, fusion[0].data) == (60.0, 4.0)


def wait_until_known(node, topics):
    """Publishers, subscriptions and services of the live node, when discovery has had its time."""
    deadline, found = time.monotonic() + 8, ({}, {}, {})
    while time.monotonic() < deadline and (len(found[0]) < topics or len(found[2]) < len(SERVICES)):
        time.sleep(0.1)
        if ("perception", "/") in node.get_node_names_and_namespaces():
            found = (
                dict(node.get_publisher_names_and_types_by_node("perception", "/")),
                dict(node.get_subscriber_names_and_types_by_node("perception", "/")),
                dict(node.get_service_names_and_types_by_node("perception", "/")),
            )
    return found


@pytest.mark.slow
def test_the_interface_and_its_access_policy_are_what_a_live_node_does(tmp_path, ros_node, bundle, repository):
    with ros_process(
        "peft_dml_ros.nodes.perception", "--ros-args", "-p", f"bundle:={bundle}", log=tmp_path / "log"
    ) as node:
        node.wait_for("perception active", 60)
        optional = {topic.name for topic in outputs() if "autoware:=true" in topic.when}
        live, heard, served = wait_until_known(ros_node, len(set(published()) - optional))

    def full(name):
        return name.replace("~/", "/perception/") if name.startswith(("~", "/")) else f"/{name}"

    assert set(live) == {full(name) for name in set(published()) - optional}
    for topic in [topic for topic in outputs() if topic.name not in optional]:
        assert live[full(topic.name)] == [topic.type]
        assert topic.meaning
        assert topic.when != LATCHED_WORD or topic.name.endswith(("_info", "_choice"))
    assert set(heard) <= {full(name) for name in subscribed()}
    text = (repository / "config" / "sros2" / "perception.policy.xml").read_text(encoding="utf-8")
    made = runpy.run_path(str(repository / "docs" / "make_config.py"))["policy"]()
    assert text == made, "run python docs/make_config.py"
    assert all(f"<service>{name.removeprefix('/')}</service>" in text for name in served)
    assert text.count("<service>") == len(served), served
