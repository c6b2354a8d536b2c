# SPDX-License-Identifier: Apache-2.0
"""A lifecycle manager drives the node: it waits, starts, pauses, starts again, and ends; with QoS of all kinds."""

import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.time import Time
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray

from peft_dml_ros.conversions import stamp_ns_from_msg
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_ros.nodes.matched_subscription import LATCHED, MatchedSubscription, matched_qos, overridden
from peft_dml_tools.datasets.encode import lidar_to_msg, tf_static_to_msg
from tests.support import scenes
from tests.support.random_bundle import make_random_bundle
from tests.support.ros_processes import ros_process

pytestmark = pytest.mark.ros
MAKE = RclpyFactory()
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=5)


def spin_until(executor, condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        executor.spin_once(timeout_sec=0.02)


@pytest.fixture
def executor(ros_node):
    made = SingleThreadedExecutor(context=ros_node.context)
    made.add_node(ros_node)
    return made


@pytest.mark.slow
def test_states_are_obeyed(tmp_path, ros_node, executor):
    bundle = make_random_bundle(tmp_path / "bundle")
    arguments = ("--ros-args", "-p", f"bundle:={bundle}", "-p", "autostart:=false", "-r", "__ns:=/v1")
    with ros_process("peft_dml_ros.nodes.perception", *arguments, log=tmp_path / "log") as node:
        boxes = []
        ros_node.create_subscription(Detection3DArray, "/v1/perception/detections", boxes.append, 10)
        # A driver as many are: best effort, and there before the node listens or after, as it comes.
        cloud = ros_node.create_publisher(PointCloud2, "/v1/lidar_top/points", BEST_EFFORT)
        ros_node.create_publisher(TFMessage, "/tf_static", LATCHED).publish(tf_static_to_msg(scenes.rig(), MAKE))
        manager = ros_node.create_client(ChangeState, "/v1/perception/change_state")
        assert manager.wait_for_service(60)

        def change(transition):
            request = ChangeState.Request(transition=Transition(id=transition))
            answer = manager.call_async(request)
            spin_until(executor, answer.done)
            assert answer.result().success

        def frames_of_lidar(seconds):
            """Publish for a while; returns how many of the sweeps came back as boxes."""
            boxes.clear()
            sent = set()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                now_ns = ros_node.get_clock().now().nanoseconds
                sent.add(now_ns)
                cloud.publish(lidar_to_msg(scenes.lidar(now_ns), "lidar_top", MAKE))
                pause = time.monotonic() + 0.1
                while time.monotonic() < pause:
                    executor.spin_once(timeout_sec=0.02)
            return len(sent & {stamp_ns_from_msg(m) for m in boxes})

        assert frames_of_lidar(0.5) == 0
        change(Transition.TRANSITION_CONFIGURE)
        assert frames_of_lidar(0.5) == 0
        change(Transition.TRANSITION_ACTIVATE)
        assert frames_of_lidar(3.0) >= 5
        change(Transition.TRANSITION_DEACTIVATE)
        assert frames_of_lidar(0.5) <= 1
        change(Transition.TRANSITION_ACTIVATE)
        assert frames_of_lidar(3.0) >= 5
        change(Transition.TRANSITION_DEACTIVATE)
        change(Transition.TRANSITION_CLEANUP)
        assert node.stop() == 0
        assert "Traceback" not in node.text


def test_starting_again_and_again_leaves_nothing_behind(tmp_path, ros_node, executor):
    bundle = make_random_bundle(tmp_path / "bundle")
    # With one thread, the engines have no threads that could be left behind.
    several = ("-p", "threads:=3", "-p", "engine:=onnxruntime")
    arguments = ("--ros-args", "-p", f"bundle:={bundle}", "-p", "autostart:=false", *several, "-r", "__ns:=/v5")
    with ros_process("peft_dml_ros.nodes.perception", *arguments, log=tmp_path / "log") as node:
        cloud = ros_node.create_publisher(PointCloud2, "/v5/lidar_top/points", RELIABLE)
        manager = ros_node.create_client(ChangeState, "/v5/perception/change_state")
        assert manager.wait_for_service(60)

        def change(*transitions):
            for transition in transitions:
                answer = manager.call_async(ChangeState.Request(transition=Transition(id=transition)))
                spin_until(executor, answer.done, timeout_s=30.0)
                assert answer.result().success

        def cycle():
            change(Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
            spin_until(executor, lambda: cloud.get_subscription_count() == 1)
            change(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
            spin_until(executor, lambda: cloud.get_subscription_count() == 0)

        def held():
            process = Path(f"/proc/{node.process.pid}")
            return [len(list((process / folder).iterdir())) for folder in ("task", "fd")]

        for _ in range(2):
            cycle()
        threads, files = held()
        for _ in range(4):
            cycle()
        more_threads, more_files = held()
        assert more_threads <= threads + 1
        assert more_files <= files + 2
        assert node.stop() == 0


def test_a_transition_that_fails_says_why(tmp_path, ros_node, executor):
    arguments = ("--ros-args", "-p", "bundle:=/no/such", "-p", "autostart:=false", "-r", "__ns:=/v2")
    with ros_process("peft_dml_ros.nodes.perception", *arguments, log=tmp_path / "log") as node:
        manager = ros_node.create_client(ChangeState, "/v2/perception/change_state")
        assert manager.wait_for_service(60)
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        answer = manager.call_async(request)
        spin_until(executor, answer.done)
        assert not answer.result().success
        node.wait_for("no bundle '/no/such'")
        assert node.stop() == 0


def test_the_profile_fits_every_publisher():
    assert matched_qos([], depth=3).reliability == ReliabilityPolicy.RELIABLE
    assert matched_qos([RELIABLE], depth=3).reliability == ReliabilityPolicy.RELIABLE
    assert matched_qos([RELIABLE, BEST_EFFORT], depth=3).reliability == ReliabilityPolicy.BEST_EFFORT
    assert matched_qos([LATCHED], depth=3).durability == LATCHED.durability
    assert matched_qos([LATCHED, RELIABLE], depth=3).durability == RELIABLE.durability
    assert matched_qos([], depth=3, latched=True).durability == LATCHED.durability


def with_overrides(policies):
    given = {f"qos_overrides./lidar_top/points.subscription.{policy}": value for policy, value in policies.items()}
    return SimpleNamespace(_parameter_overrides={n: Parameter(n, value=v) for n, v in given.items()})


def test_parameters_override_the_profile_of_a_topic_and_no_other():
    node = with_overrides({"reliability": "best_effort", "depth": 9, "durability": "transient_local"})
    profile = overridden(matched_qos([RELIABLE], depth=3), node, "/lidar_top/points")
    assert (profile.reliability, profile.depth) == (ReliabilityPolicy.BEST_EFFORT, 9)
    assert profile.durability == LATCHED.durability
    assert overridden(matched_qos([RELIABLE], depth=3), node, "/lidar/points") == matched_qos([RELIABLE], depth=3)


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ({"reliability": "best"}, "reliability takes .*best_effort"),
        ({"depth": 0}, "1 and more"),
        ({"relyability": "reliable"}, "did you mean 'reliability'"),
    ],
)
def test_a_wrong_override_is_named_with_the_choices(policies, said):
    with pytest.raises(ConfigError, match=said):
        overridden(matched_qos([], depth=3), with_overrides(policies), "/lidar_top/points")


def test_an_override_reaches_a_live_node(tmp_path, ros_node, executor):
    """A best-effort subscription hears a best-effort driver and asks a reliable one for no more."""
    bundle = make_random_bundle(tmp_path / "bundle")
    override = "qos_overrides./v3/lidar_top/points.subscription.reliability:=best_effort"
    arguments = ("--ros-args", "-p", f"bundle:={bundle}", "-r", "__ns:=/v3", "-p", override)
    with ros_process("peft_dml_ros.nodes.perception", *arguments, log=tmp_path / "log") as node:
        ros_node.create_publisher(PointCloud2, "/v3/lidar_top/points", RELIABLE)
        node.wait_for("perception active")

        def reliabilities(name):
            infos = ros_node.get_subscriptions_info_by_topic(f"/v3/{name}")
            return [info.qos_profile.reliability for info in infos]

        spin_until(executor, lambda: reliabilities("lidar_top/points") == [ReliabilityPolicy.BEST_EFFORT])
        assert reliabilities("imu/data") == [ReliabilityPolicy.RELIABLE]
        assert node.stop(signal.SIGINT) == 0
        assert "Traceback" not in node.text


def test_a_clock_that_goes_back_empties_the_buffers_and_frames_go_on(tmp_path, ros_node, executor):
    bundle = make_random_bundle(tmp_path / "bundle")
    arguments = ("--ros-args", "-p", f"bundle:={bundle}", "-r", "__ns:=/v4", "-p", "use_sim_time:=true")
    with ros_process("peft_dml_ros.nodes.perception", *arguments, log=tmp_path / "log") as node:
        drops, stamps = {}, []

        def on_status(message):
            drops.update({pair.key: pair.value for pair in message.status[0].values if pair.key.startswith("drops.")})
            stamps.append(stamp_ns_from_msg(message))

        ros_node.create_subscription(DiagnosticArray, "/v4/perception/status", on_status, 10)
        clock = ros_node.create_publisher(ClockMessage, "/clock", 10)
        cloud = ros_node.create_publisher(PointCloud2, "/v4/lidar_top/points", 5)
        ros_node.create_publisher(TFMessage, "/tf_static", LATCHED).publish(tf_static_to_msg(scenes.rig(), MAKE))
        node.wait_for("perception active")
        spin_until(executor, lambda: clock.get_subscription_count() and cloud.get_subscription_count())
        now_ns = [1_000 * 10**9]

        def seen_after(begin_ns):
            now_ns[0] += 100_000_000
            clock.publish(ClockMessage(clock=Time(nanoseconds=now_ns[0]).to_msg()))
            executor.spin_once(timeout_sec=0.05)
            cloud.publish(lidar_to_msg(scenes.lidar(now_ns[0]), "lidar_top", MAKE))
            executor.spin_once(timeout_sec=0.05)
            return sum(begin_ns < stamp <= now_ns[0] for stamp in stamps) >= 3

        spin_until(executor, lambda: seen_after(1_000 * 10**9), timeout_s=60.0)
        assert "drops.reset" not in drops
        now_ns[0] = 500 * 10**9
        spin_until(executor, lambda: seen_after(500 * 10**9) and "drops.reset" in drops, timeout_s=60.0)
        assert node.stop() == 0
        assert "Traceback" not in node.text


def test_a_topic_that_fell_behind_is_taken_empty_in_one_turn(ros_node, executor):
    heard = []
    MatchedSubscription(ros_node, PointCloud2, "fast/points", heard.append, depth=50, raw=True, drain=True)
    driver = ros_node.create_publisher(PointCloud2, "fast/points", 50)
    spin_until(executor, driver.get_subscription_count)
    for width in range(30):
        driver.publish(PointCloud2(width=width))
    assert driver.wait_for_all_acked(Duration(seconds=5))
    turns = 0
    while len(heard) < 30 and turns < 20:
        executor.spin_once(timeout_sec=0.2)
        turns += 1
    assert [deserialize_message(cdr, PointCloud2).width for cdr in heard] == list(range(30))
    assert turns < 10


def test_a_best_effort_driver_that_comes_later_is_heard(ros_node, executor):
    heard = []
    subscription = MatchedSubscription(ros_node, PointCloud2, "late/points", heard.append)
    assert not subscription.refresh()
    driver = ros_node.create_publisher(PointCloud2, "late/points", BEST_EFFORT)
    spin_until(executor, lambda: subscription.refresh() or subscription.qos.reliability == BEST_EFFORT.reliability)
    spin_until(executor, driver.get_subscription_count)

    def heard_something():
        driver.publish(PointCloud2())
        return bool(heard)

    spin_until(executor, heard_something)
