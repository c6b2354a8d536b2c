# SPDX-License-Identifier: Apache-2.0
"""Another model while frames go on: none is lost, the outputs speak for the new one, and a bad one is rolled back."""

import os
import time

import pytest
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import SetBool
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray, VisionInfo

from peft_dml_ros.conversions import stamp_ns_from_msg
from peft_dml_ros.core.adapter import WEIGHTS
from peft_dml_ros.core.bundle import ADAPTERS, MANIFEST
from peft_dml_ros.core.errors import BundleError
from peft_dml_ros.engines import LoadedEngines
from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_ros.nodes.matched_subscription import LATCHED
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_ros.nodes.pipeline import Pipeline
from peft_dml_tools.bundles.signing import make_keys, sign
from peft_dml_tools.datasets.encode import lidar_to_msg, tf_static_to_msg
from tests.support import scenes
from tests.support.random_bundle import make_random_adapter, make_random_base, make_random_bundle
from tests.support.ros_processes import ros_process

pytestmark = pytest.mark.ros
MAKE = RclpyFactory()
PERIOD_S = 0.2


class Vehicle:
    """A LiDAR, and what comes back from the node `/swap/perception`."""

    def __init__(self, node):
        self.node = node
        self.executor = SingleThreadedExecutor(context=node.context)
        self.executor.add_node(node)
        self.sent, self.boxes, self.models, self.scene = [], [], [], scenes.lidar
        node.create_subscription(Detection3DArray, "/swap/perception/detections", self.boxes.append, 50)
        node.create_subscription(VisionInfo, "/swap/perception/vision_info", self.models.append, LATCHED)
        self.cloud = node.create_publisher(PointCloud2, "/swap/lidar_top/points", 10)
        node.create_publisher(TFMessage, "/tf_static", LATCHED).publish(tf_static_to_msg(scenes.rig(), MAKE))
        self.set = node.create_client(SetParameters, "/swap/perception/set_parameters")
        self.get = node.create_client(GetParameters, "/swap/perception/get_parameters")

    def spin(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def drive_until(self, condition, timeout_s=60.0):
        """Publish sweeps until a condition holds."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end
            now_ns = self.node.get_clock().now().nanoseconds
            self.sent.append(now_ns)
            self.cloud.publish(lidar_to_msg(self.scene(now_ns), "lidar_top", MAKE))
            self.spin(PERIOD_S)

    def lost(self, timeout_s=10.0):
        """Stamps of sweeps whose boxes have not come when no more are sent."""
        end = time.monotonic() + timeout_s
        while (left := set(self.sent) - {stamp_ns_from_msg(m) for m in self.boxes}) and time.monotonic() < end:
            self.spin(PERIOD_S)
        return left

    def call(self, client, request):
        answer = client.call_async(request)
        self.drive_until(answer.done)
        return answer.result()

    def set_parameter(self, name, value):
        return self.call(self.set, SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()]))

    def parameter(self, name):
        return self.call(self.get, GetParameters.Request(names=[name])).values[0]


def test_a_model_is_swapped_without_losing_a_frame_and_a_bad_one_is_rolled_back(tmp_path, ros_node):
    first, second = (make_random_bundle(tmp_path / name, name=name) for name in ("first", "second"))
    arguments = ("--ros-args", "-p", f"bundle:={first}", "-r", "__ns:=/swap", "-p", "detection.score_threshold:=0.0")
    with ros_process("peft_dml_ros.nodes.perception", *arguments, log=tmp_path / "log") as node:
        vehicle = Vehicle(ros_node)
        vehicle.drive_until(lambda: len(vehicle.boxes) >= 3)
        vehicle.sent.clear()
        vehicle.boxes.clear()
        assert vehicle.set_parameter("bundle", str(second)).results[0].successful
        vehicle.drive_until(lambda: vehicle.models[-1].method.startswith("second"))

        refused = vehicle.set_parameter("bundle", str(tmp_path / "none")).results[0]
        assert not refused.successful
        assert "no bundle" in refused.reason
        graph = first / "imu.onnx"
        graph.write_bytes(graph.read_bytes()[:-9])
        assert vehicle.set_parameter("threads", 1).results[0].successful
        vehicle.drive_until(lambda: len(vehicle.models) == 3)
        assert vehicle.set_parameter("bundle", str(first)).results[0].successful
        node.wait_for("stays in use")
        assert f"bundle back from {first} to {second}" in node.text
        vehicle.drive_until(lambda: vehicle.parameter("bundle").string_value == str(second))
        assert vehicle.parameter("bundle").string_value == str(second)

        with_all = len(vehicle.boxes[-1].detections)
        assert vehicle.set_parameter("detection.max_boxes", 1).results[0].successful
        vehicle.drive_until(lambda: len(vehicle.boxes[-1].detections) == 1)
        assert with_all > 1
        assert not vehicle.lost(), node.text
        assert [m.method.partition(" ")[0] for m in vehicle.models] == ["first", "second", "second"]
        assert node.stop() == 0
        assert "Traceback" not in node.text


def test_only_a_model_of_whom_the_node_trusts_is_loaded(tmp_path):
    pytest.importorskip("minisign")
    bundle, secret = make_random_bundle(tmp_path / "bundle"), tmp_path / "key"
    wanted = NodeParams(bundle=str(bundle), trusted_key=make_keys(secret).to_base64().decode())
    with pytest.raises(BundleError, match="is not signed"):
        Pipeline(wanted)
    sign(bundle / MANIFEST, secret)
    assert Pipeline(wanted).bundle.manifest.name == "random"


def swap_adapters(vehicle, seconds):
    """Change the adapter every second under traffic, now and then to one that cannot be loaded.

    Returns:
        The adapters that were published as in use, and the longest time that a change took, in s.
    """
    wishes, slowest, turn = ("rain", "none", "broken", "default", "default=0.5,rain=0.5"), 0.0, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end or turn < len(wishes):
        wanted, begin = wishes[turn % len(wishes)], time.monotonic()
        assert vehicle.set_parameter("adapter", wanted).results[0].successful
        if wanted == "broken":
            vehicle.drive_until(lambda: vehicle.parameter("adapter").string_value != "broken")
        else:
            vehicle.drive_until(lambda name=wanted: vehicle.models[-1].method.endswith(f"adapter {name}"))
            slowest = max(slowest, time.monotonic() - begin)
        vehicle.drive_until(lambda begin=begin: time.monotonic() - begin > 1.0)
        turn += 1
    return {m.method.rpartition("adapter ")[2] for m in vehicle.models}, slowest


@pytest.mark.slow
@pytest.mark.alone
def test_adapters_are_swapped_every_second_without_losing_a_frame(tmp_path, ros_node):
    base = make_random_base(tmp_path / "base")
    for name, bias in (("default", 0.5), ("rain", -1.0), ("broken", 0.0)):
        make_random_adapter(base / ADAPTERS / name, base, name, bias=bias)
    (base / ADAPTERS / "broken" / WEIGHTS).write_bytes(b"cut short")
    arguments = ("--ros-args", "-p", f"bundle:={base}", "-r", "__ns:=/swap", "-p", "detection.score_threshold:=0.0")
    with ros_process("peft_dml_ros.nodes.perception", *arguments, log=tmp_path / "log") as node:
        vehicle = Vehicle(ros_node)
        vehicle.drive_until(lambda: len(vehicle.boxes) >= 3)
        assert vehicle.models[-1].method.endswith("adapter default")
        vehicle.sent.clear()
        vehicle.boxes.clear()
        seen, slowest = swap_adapters(vehicle, float(os.environ.get("PEFT_DML_SWAP_SECONDS", "8")))
        lost = vehicle.lost()
        print(f"{len(vehicle.sent)} frames, {len(vehicle.models) - 1} swaps, the slowest {slowest:.2f} s")  # pytest -s
        assert not lost, node.text
        assert seen == {"default", "rain", "none", "default=0.5,rain=0.5"}
        assert slowest < 2.0
        assert "'adapter_model.safetensors' was altered" in node.text
        assert node.stop() == 0
        assert "Traceback" not in node.text


def test_the_service_turns_adapters_off_and_on_again(tmp_path, ros_node):
    base = make_random_base(tmp_path / "base")
    for name, bias in (("default", 0.5), ("rain", 4.0)):
        make_random_adapter(base / ADAPTERS / name, base, name, bias=bias)
    arguments = ("--ros-args", "-p", f"bundle:={base}", "-p", "adapter:=rain", "-r", "__ns:=/swap")
    with ros_process("peft_dml_ros.nodes.perception", *arguments, log=tmp_path / "log") as node:
        vehicle = Vehicle(ros_node)
        vehicle.drive_until(lambda: len(vehicle.boxes) >= 2)
        switch = ros_node.create_client(SetBool, "/swap/perception/use_adapter")
        for on, name in ((False, "none"), (True, "rain")):
            answer = vehicle.call(switch, SetBool.Request(data=on))
            assert answer.success
            assert f"adapter {name} follows" in answer.message
            vehicle.drive_until(lambda name=name: vehicle.models[-1].method.endswith(f"adapter {name}"))
        assert node.stop() == 0


@pytest.mark.alone
def test_going_back_to_an_adapter_uses_its_engines_again(tmp_path):
    base = make_random_base(tmp_path / "base")
    for name in ("default", "rain"):
        make_random_adapter(base / ADAPTERS / name, base, name)
    kept = LoadedEngines()
    first, second = (Pipeline(NodeParams(bundle=str(base), adapter=name), kept) for name in ("default", "rain"))
    begin = time.monotonic()
    again = Pipeline(NodeParams(bundle=str(base), adapter="default"), kept)
    assert time.monotonic() - begin < 0.15
    assert again._engines is first._engines is not second._engines
    make_random_adapter(base / ADAPTERS / "default", base, "default", bias=9.0)
    changed = Pipeline(NodeParams(bundle=str(base), adapter="default"), kept)
    assert changed._engines is not first._engines
