# SPDX-License-Identifier: Apache-2.0
"""What is connected and what is missing, once after the start, with the argument that mends each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rclpy.node import Node

from peft_dml_ros.conversions.topics import CAMERA_INFO, TF_STATIC, frame_of, other_type_of, type_of
from peft_dml_ros.core.errors import nearest
from peft_dml_ros.core.health import State
from peft_dml_ros.nodes.calibrations import info_of
from peft_dml_ros.nodes.diagnostics import SensorReport
from peft_dml_ros.nodes.subscribing import FittingSubscription


class Finding(NamedTuple):
    """One sensor that is not used.

    Attributes:
        sensor: Its name.
        problem: What is missing.
        mend: What to do about it.
    """

    sensor: str
    problem: str
    mend: str


def table(connections: Mapping[str, FittingSubscription], reports: Mapping[str, SensorReport]) -> str:
    """One line per sensor: topic, publishers, rate, state."""
    good = sum(report.state in {State.OK.value, State.LATE.value} for report in reports.values())
    width = max(len(connections[name].topic) for name in reports)
    lines = [f"{good} of {len(reports)} sensors are in use"]
    for name, report in reports.items():
        topic, publishers = connections[name].topic, len(connections[name].offered)
        rate = f"{report.rate_hz:5.1f} Hz" if report.received else "     -  "
        words = f"{report.state}: {report.reason}" if report.reason else report.state
        lines.append(f"  {name:18} {topic:{width}}  {publishers} publishers  {rate}  {words}")
    return "\n".join(lines)


def findings(
    node: Node, connections: Mapping[str, FittingSubscription], reports: Mapping[str, SensorReport], base_frame: str
) -> list[Finding]:
    """Every sensor that is not used, why, and the mend."""
    types = dict(node.get_topic_names_and_types())
    found = []
    for name, report in reports.items():
        if report.state in {State.OK.value, State.LATE.value}:
            continue
        if report.state == State.UNCALIBRATED.value:
            problem, mend = _uncalibrated(node, name, report, connections, types, base_frame)
        elif report.received:
            problem, mend = f"{report.state}: {report.reason}", "see the health.* parameters for its limits"
        else:
            problem, mend = _silent(node, name, connections[name], types)
        found.append(Finding(name, problem, mend))
    return found


def _silent(node: Node, name: str, connection: FittingSubscription, types: Mapping[str, list[str]]) -> tuple[str, str]:
    topic, wanted = connection.topic, type_of(name)
    others = [kind for kind in types.get(topic, []) if kind != wanted]
    if others and not _publishers(node, topic, wanted):
        if others[0] == other_type_of(name):
            package = others[0].partition("/")[0]
            mend = f"install it: apt install ros-$ROS_DISTRO-{package.replace('_', '-')}, or python interfaces/build.py"
            return f"{topic} carries {others[0]}, and {package} is not installed", mend
        return f"{topic} carries {others[0]}, expected {wanted}", f"remap {topic} to a topic of {wanted}"
    if connection.offered:
        return (
            f"{topic} has {len(connection.offered)} publishers, but nothing arrives",
            "check that it publishes (ros2 topic hz), and use config/fastdds_large_messages.xml on both sides",
        )
    alike = [t for t, kinds in types.items() if wanted in kinds and t != topic and node.count_publishers(t)]
    if alike:
        choice = nearest(topic, alike)
        mend = f"remap it (-r {topic}:=TOPIC; {choice}), set autodetect:=true"
    else:
        mend = "start its driver"
    return f"nobody publishes {topic}", f"{mend}, or leave {name} out of 'sensors'"


def _publishers(node: Node, topic: str, kind: str) -> int:
    return sum(info.topic_type == kind for info in node.get_publishers_info_by_topic(topic))


def _uncalibrated(
    node: Node,
    name: str,
    report: SensorReport,
    connections: Mapping[str, FittingSubscription],
    types: Mapping[str, list[str]],
    base_frame: str,
) -> tuple[str, str]:
    if "transform" in report.reason:
        count = len(connections[TF_STATIC].offered)
        mend = (
            f"ros2 run tf2_ros static_transform_publisher --frame-id {base_frame} --child-frame-id {frame_of(name)}"
            f" --x .. --y .. --z .. --yaw .., or calibration:=FILE ({count} publishers of /tf_static)"
        )
        return report.reason, mend
    info = connections.get(info_of(name))
    if info is None or info.offered:
        return report.reason, "let CameraInfo fit the images (K[0] > 0, their width and height), or calibration:=FILE"
    alike = [t for t, kinds in types.items() if CAMERA_INFO in kinds and node.count_publishers(t)]
    choice = f"-r {info.topic}:=TOPIC; {nearest(info.topic, alike)}" if alike else "publish it"
    return f"nobody publishes {info.topic}", f"{choice}, or calibration:=FILE"
