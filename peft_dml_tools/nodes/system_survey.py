# SPDX-License-Identifier: Apache-2.0
"""Looks at a running system for a few seconds and writes what it saw to stdout, as one line of JSON.

    python -m peft_dml_tools.nodes.system_survey --seconds 3

A process of its own: whatever is wrong with the ROS installation ends this one, and not the one that asks.
"""

import argparse
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.utilities import get_rmw_implementation_identifier, remove_ros_args
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray

from peft_dml_ros.conversions import camera_model_from_msg, decoder_of, is_rectified, transforms_from_msg
from peft_dml_ros.conversions.cdr import leading_frame_id, leading_stamp_ns
from peft_dml_ros.conversions.topics import (
    BASE_FRAME,
    TF_STATIC,
    camera_info_topic_of,
    frame_of,
    other_types_of,
    topic_of,
    type_of,
)
from peft_dml_ros.core.cloud_checks import Hint
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import ImuSample
from peft_dml_ros.core.params import ALL_SENSORS
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_ros.core.sensor_checks import SAMPLES, SensorChecks
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.transforms import RigBuilder
from peft_dml_ros.nodes.matched_subscription import MatchedSubscription, message_class
from peft_dml_ros.nodes.runtime import ros_main, spin
from peft_dml_tools.nodes.command_line import emit

DISCOVERY_S = 1.0


class Listener:
    """One sensor's topic: how much comes, from which frame, and how its stamps stand to the clock here."""

    def __init__(self, node: Node, sensor: str) -> None:
        self._node, self._name = node, sensor
        self._offsets_s: list[float] = []
        self._bytes, self._frame = 0, ""
        self._info: dict[str, Any] = {}
        self._newest: deque[tuple[bytes, type[Any]]] = deque(
            maxlen=SAMPLES if modality_of_channel(sensor) == "imu" else 1
        )
        self._camera: CameraInfo | None = None
        self.subscription = MatchedSubscription(
            node,
            message_class(type_of(sensor)),
            topic_of(sensor),
            self._take,
            depth=20,
            raw=True,
            typed=True,
            others=other_types_of(sensor),
        )
        self._infos = (
            MatchedSubscription(node, CameraInfo, camera_info_topic_of(sensor), self._take_info, depth=1, raw=True)
            if modality_of_channel(sensor) == "camera"
            else None
        )

    def refresh(self) -> None:
        """Fit the publishers that are there now."""
        self.subscription.refresh()
        if self._infos is not None:
            self._infos.refresh()

    def _take(self, cdr: bytes, kind: type[Any]) -> None:
        self._newest.append((cdr, kind))
        self._offsets_s.append((self._node.get_clock().now().nanoseconds - leading_stamp_ns(cdr)) * 1e-9)
        self._bytes, self._frame = max(self._bytes, len(cdr)), leading_frame_id(cdr)

    def _take_info(self, cdr: bytes) -> None:
        self._camera = info = deserialize_message(cdr, CameraInfo)
        self._info = {"fx": float(info.k[0]), "width": int(info.width), "height": int(info.height)}

    def hints(self, builder: RigBuilder, checks: SensorChecks) -> list[Hint]:
        """Return what looks wrong with the newest measurements; nothing where they cannot be read or placed."""
        name = self._name
        try:
            builder.name_frame(name, self._frame)
            if self._camera is not None:
                flat = is_rectified(name, self.subscription.topic)
                builder.set_camera(name, camera_model_from_msg(self._camera, rectified=flat))
            sensor = builder.rig().sensors.get(name)
            found = [decoder_of(name)(deserialize_message(cdr, kind)) for cdr, kind in self._newest]
        except DataError:
            return []
        if sensor is None or not found:
            return []
        turn = sensor.base_SE3_sensor.rotation
        turned = [replace(m, accel_mps2=turn @ m.accel_mps2) if isinstance(m, ImuSample) else m for m in found]
        return checks.survey(name, turned, sensor)

    def facts(self, seconds: float) -> dict[str, Any]:
        """Return what was seen."""
        late = self._offsets_s
        offered = self._node.get_publishers_info_by_topic(self.subscription.topic)
        return {
            "topic": self.subscription.topic,
            "publishers": len(offered),
            "types": sorted({info.topic_type for info in offered}),
            "best_effort": any(info.qos_profile.reliability.name == "BEST_EFFORT" for info in offered),
            "messages": len(late),
            "rate_hz": len(late) / seconds,
            "bytes": self._bytes,
            "frame": self._frame,
            "late_s": {"min": min(late), "median": median(late), "max": max(late)} if late else {},
            "camera_info": self._info,
        }


def survey(seconds: float, stop: threading.Event) -> None:
    """Listen, then write the facts."""
    node = Node("survey", start_parameter_services=False)
    transforms: dict[str, str] = {}
    builder = RigBuilder({name: frame_of(name) for name in ALL_SENSORS}, BASE_FRAME)

    def take(message: TFMessage) -> None:
        builder.tree.update(transforms_from_msg(message))
        transforms.update((t.child_frame_id.lstrip("/"), t.header.frame_id.lstrip("/")) for t in message.transforms)

    static = MatchedSubscription(node, TFMessage, TF_STATIC, take, depth=100, latched=True)
    listeners = {name: Listener(node, name) for name in ALL_SENSORS}
    begun_s = [time.monotonic()]

    def refresh() -> None:
        static.refresh()
        for listener in listeners.values():
            listener.refresh()
        if time.monotonic() - begun_s[0] > seconds + DISCOVERY_S:
            stop.set()

    node.create_timer(0.25, refresh)
    spin(node, stop)
    facts = {name: listener.facts(seconds + DISCOVERY_S) for name, listener in listeners.items()}
    checks = SensorChecks(ModelSpec())
    hints = [hint._asdict() for listener in listeners.values() for hint in listener.hints(builder, checks)]
    hashes = {i.topic_type: str(i.topic_type_hash) for i in _own_boxes(node)}
    emit(
        "survey",
        middleware=get_rmw_implementation_identifier(),
        topics={t: kinds for t, kinds in node.get_topic_names_and_types() if node.count_publishers(t)},
        nodes=sorted(f"{ns.rstrip('/')}/{name}" for name, ns in node.get_node_names_and_namespaces()),
        sensors=facts,
        parents=transforms,
        hints=hints,
        type_hashes=hashes,
    )
    node.destroy_node()


def _own_boxes(node: Node) -> Sequence[Any]:
    """Return the graph's view of a publisher of boxes, made here: it tells the hash of the installed message type."""
    topic = "~/type_hash"
    node.create_publisher(Detection3DArray, topic, 1)
    infos: Sequence[Any] = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
    return [info for info in infos if hasattr(info, "topic_type_hash")]


def main(args: Sequence[str] | None = None) -> None:
    """Run as a process; `args` as on the command line, including `--ros-args`."""
    given = sys.argv if args is None else ["survey", *args]
    parser = argparse.ArgumentParser(prog="survey", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to listen")
    options = parser.parse_args(remove_ros_args(given)[1:])
    ros_main(partial(survey, options.seconds), args)


if __name__ == "__main__":
    main()
