# SPDX-License-Identifier: Apache-2.0
"""What is connected and what is missing, once after the start, with the argument that fixes it."""

from collections.abc import Mapping
from typing import NamedTuple

from rclpy.node import Node

from peft_dml_ros.conversions.topics import CAMERA_INFO, TF_STATIC, frame_of, other_types_of, type_of
from peft_dml_ros.core.errors import nearest
from peft_dml_ros.core.health import SensorState, State
from peft_dml_ros.nodes.calibrations import info_of
from peft_dml_ros.nodes.interface import NODE
from peft_dml_ros.nodes.matched_subscription import MatchedSubscription, installed
from peft_dml_ros.nodes.parameter_file import NodeParams


class UnusedSensor(NamedTuple):
    """One sensor that is not used."""

    sensor: str  #: Its name
    problem: str  #: What is missing
    fix: str  #: What to do about it


def table(connections: Mapping[str, MatchedSubscription], reports: Mapping[str, SensorState]) -> str:
    """Return one line per sensor: topic, publishers, rate, state."""
    good = sum(report.used for report in reports.values())
    width = max(len(connections[name].topic) for name in reports)
    lines = [f"{good} of {len(reports)} sensors are in use"]
    for name, report in reports.items():
        topic, publishers = connections[name].topic, len(connections[name].offered)
        rate = f"{report.rate_hz:5.1f} Hz" if report.received else "     -  "
        lines.append(f"  {name:18} {topic:{width}}  {publishers} publishers  {rate}  {report.words}")
    return "\n".join(lines)


def findings(
    node: Node, connections: Mapping[str, MatchedSubscription], reports: Mapping[str, SensorState], params: NodeParams
) -> list[UnusedSensor]:
    """Return every sensor that is not used, why, and the fix."""
    graph = _OfferedTopics(node, connections)
    found = []
    for name, report in reports.items():
        if report.used:
            continue
        if report.state is State.UNCALIBRATED:
            problem, fix = _uncalibrated(graph, name, report, params.base_frame)
        elif report.received:
            problem, fix = report.words, "see the health.* parameters for its limits"
        else:
            problem, fix = _silent(graph, name, autodetect=params.autodetect)
        found.append(UnusedSensor(name, problem, fix))
    return found


class _OfferedTopics:
    """Topics that this node could listen to.

    Not among them: outputs of this and other perception nodes, topics of other vehicles (outside the namespace of this
    node), and topics that are listened to already.
    """

    def __init__(self, node: Node, connections: Mapping[str, MatchedSubscription]) -> None:
        self._node, self.connections = node, connections
        self.types: dict[str, list[str]] = dict(node.get_topic_names_and_types())
        self._prefix = node.get_namespace().rstrip("/") + "/"
        self._taken = {connection.topic for connection in connections.values() if connection.offered}

    def publishers(self, topic: str, kind: str) -> int:
        """Return how many publishers of a topic send a type."""
        return sum(info.topic_type == kind for info in self._node.get_publishers_info_by_topic(topic))

    def choices(self, kind: str, besides: str) -> list[str]:
        """Return topics of a type that somebody else publishes."""
        return [
            topic
            for topic, kinds in self.types.items()
            if kind in kinds and topic != besides and topic not in self._taken and self._may_be_input(topic)
        ]

    def _may_be_input(self, topic: str) -> bool:
        publishers = self._node.get_publishers_info_by_topic(topic)
        outputs = any(info.node_name == NODE or f"/{NODE}/" in topic for info in publishers)
        return bool(publishers) and not outputs and topic.startswith(self._prefix)


def _silent(graph: _OfferedTopics, name: str, *, autodetect: bool) -> tuple[str, str]:
    connection, wanted = graph.connections[name], type_of(name)
    topic = connection.topic
    others = [kind for kind in graph.types.get(topic, []) if kind != wanted]
    if others and not graph.publishers(topic, wanted):
        if others[0] not in other_types_of(name):
            return f"{topic} carries {others[0]}, expected {wanted}", f"remap {topic} to a topic of {wanted}"
        if not installed(others[0]):
            package = others[0].partition("/")[0]
            fix = f"install it: apt install ros-$ROS_DISTRO-{package.replace('_', '-')}, or python interfaces/build.py"
            return f"{topic} carries {others[0]}, and {package} is not installed", fix
    if connection.offered:
        return (
            f"{topic} has {len(connection.offered)} publishers, but nothing arrives",
            "check that it publishes (ros2 topic hz), and use config/fastdds_large_messages.xml on both sides",
        )
    if alike := graph.choices(wanted, topic):
        fix = f"remap it (-r {topic}:=TOPIC; {nearest(topic, alike)})"
        fix += "" if autodetect else ", set autodetect:=true"
    else:
        fix = "start its driver"
    return f"nobody publishes {topic}", f"{fix}, or leave {name} out of 'sensors'"


def _uncalibrated(graph: _OfferedTopics, name: str, report: SensorState, base_frame: str) -> tuple[str, str]:
    if "transform" in report.reason:
        count = len(graph.connections[TF_STATIC].offered)
        fix = (
            f"ros2 run tf2_ros static_transform_publisher --frame-id {base_frame} --child-frame-id {frame_of(name)}"
            f" --x .. --y .. --z .. --yaw .., or calibration:=FILE ({count} publishers of /tf_static)"
        )
        return report.reason, fix
    info = graph.connections.get(info_of(name))
    if info is None or info.offered:
        return report.reason, "let CameraInfo fit the images (K[0] > 0, their width and height), or calibration:=FILE"
    alike = graph.choices(CAMERA_INFO, info.topic)
    choice = f"-r {info.topic}:=TOPIC; {nearest(info.topic, alike)}" if alike else "publish it"
    return f"nobody publishes {info.topic}", f"{choice}, or calibration:=FILE"
