# SPDX-License-Identifier: Apache-2.0
"""The router in a live node: off by default; on, it follows the scene, says why, and leaves what cannot be loaded."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from peft_dml_ros.core.adapter import CARD, WEIGHTS, AdapterCard
from peft_dml_ros.core.adapter_domain import DOMAIN, scene_figures
from peft_dml_ros.core.bundle import ADAPTERS
from peft_dml_ros.core.measurements import LidarSweep
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.verified_files import sha256
from peft_dml_ros.nodes.matched_subscription import LATCHED
from peft_dml_train.export.adapter import domain_of
from tests.nodes.test_hot_swap import Vehicle
from tests.support import scenes
from tests.support.random_bundle import make_random_adapter, make_random_base
from tests.support.ros_processes import ros_process

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.alone]


def near_scene(stamp_ns):
    """The usual cloud at a third of its distances."""
    sweep = scenes.lidar(stamp_ns)
    return LidarSweep(stamp_ns, sweep.points * np.array([1 / 3, 1 / 3, 1, 1, 1], np.float32))


def make_adapter(base, name, scene, bias):
    folder = make_random_adapter(base / ADAPTERS / name, base, name, bias=bias)
    seen = [scene_figures(Snapshot(0, "LIDAR_TOP", lidar={"LIDAR_TOP": (scene(i),)})) for i in range(9)]
    (folder / DOMAIN).write_text(domain_of(seen).model_dump_json())
    card = AdapterCard.model_validate_json((folder / CARD).read_bytes())
    files = {**card.files, DOMAIN: sha256(folder / DOMAIN)}
    (folder / CARD).write_text(card.model_copy(update={"files": files}).model_dump_json())
    return folder


def test_the_router_follows_the_scene_and_leaves_what_cannot_be_loaded(tmp_path, ros_node):
    base = make_random_base(tmp_path / "base")
    default = make_adapter(base, "default", scenes.lidar, 0.5)
    make_adapter(base, "near", near_scene, -1.0)
    settings = ("bundle:=" + str(base), "router.hold_s:=1.0", "router.window_s:=0.5", "detection.score_threshold:=0.0")
    arguments = ["--ros-args", "-r", "__ns:=/swap", *(part for s in settings for part in ("-p", s))]
    with ros_process("peft_dml_ros.nodes.perception", *arguments, log=tmp_path / "log") as node:
        vehicle, said = Vehicle(ros_node), []
        ros_node.create_subscription(DiagnosticStatus, "/swap/perception/adapter_choice", said.append, LATCHED)
        vehicle.drive_until(lambda: len(vehicle.boxes) >= 3, 60.0)
        vehicle.scene = near_scene
        vehicle.sent.clear()
        vehicle.drive_until(lambda: len(vehicle.sent) > 15)
        assert not said, "off by default"
        assert vehicle.models[-1].method.endswith("adapter default")

        assert vehicle.set_parameter("router.enabled", value=True).results[0].successful
        vehicle.drive_until(lambda: vehicle.models[-1].method.endswith("adapter near"))
        assert vehicle.parameter("adapter").string_value == "near"
        vehicle.drive_until(lambda: said[-1].message == "the scene is most like its domain")
        values = {pair.key: pair.value for pair in said[-1].values}
        assert values["adapter"] == "near"
        assert float(values["fit near"]) > float(values["fit default"])
        assert any("more than that of 'default'; it follows 'default'" in status.message for status in said)

        (default / WEIGHTS).write_bytes(b"cut short")
        vehicle.scene = scenes.lidar
        vehicle.drive_until(lambda: "'default' gave way to 'near' again and is chosen no more" in node.text, 40.0)
        vehicle.drive_until(lambda: vehicle.parameter("adapter").string_value == "near")

        assert vehicle.set_parameter("adapter", "none").results[0].successful
        vehicle.drive_until(lambda: said[-1].message == "adapters are switched off, the router rests")
        assert node.stop() == 0
        assert "Traceback" not in node.text
