# SPDX-License-Identifier: Apache-2.0
"""Stand in for Autoware's lidar_centerpoint: its topics and arguments, this package's detector.

ros2 launch peft_dml_ros lidar_centerpoint.launch.py input/pointcloud:=/sensing/lidar/concatenated/pointcloud

Radars and cameras that the parameter file names are used as well; without them the LiDAR alone is.
"""

import runpy
from pathlib import Path
from typing import Any

import yaml
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

SHARE = FindPackageShare("peft_dml_ros")
SHARED = runpy.run_path(str(Path(__file__).with_name("replay.launch.py")))
ARGUMENTS = (
    ("input/pointcloud", "/sensing/lidar/pointcloud", "LiDAR cloud, in base_link or in a frame that /tf_static knows"),
    ("output/objects", "objects", "Topic of the autoware_perception_msgs/DetectedObjects"),
    ("node_name", "lidar_centerpoint", "Name of the node"),
    ("params_file", PathJoinSubstitution([SHARE, "config", "perception.yaml"]), "YAML file with the node's parameters"),
    ("bundle", "", "Model bundle: a folder, or the name of an installed one; as in params_file when empty"),
    ("score_threshold", "0.35", "Objects below this probability of existence are not published"),
    ("use_sim_time", "false", "Take the time from /clock, as simulators and bags at another rate publish it"),
    SHARED["PROFILE"],
)


def generate_launch_description() -> LaunchDescription:
    """Build what `ros2 launch` runs."""
    return SHARED["described"](ARGUMENTS, detector)


def parameters_of(file: Path) -> dict[str, Any]:
    """Return what a parameter file says of the perception node: as a file it would act on a node of that name alone."""
    every = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    found = {**every.get("/**", {}), **every.get("perception", {})}
    return _without_empty(found.get("ros__parameters", {}))


def _without_empty(tree: dict[str, Any]) -> dict[str, Any]:
    """Leave empty lists out: launch_ros cannot tell their type, and they are the defaults."""
    kept = {key: _without_empty(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return {key: value for key, value in kept.items() if value not in ([], {})}


def detector(context: LaunchContext) -> list[Node]:
    """Return the node under Autoware's name, with Autoware's topics."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    values = {
        "autoware": True,
        "detection.score_threshold": float(given["score_threshold"]),
        "use_sim_time": given["use_sim_time"].lower() in {"true", "1"},
    }
    if given["bundle"]:
        values["bundle"] = ParameterValue(given["bundle"], value_type=str)
    return [
        Node(
            package="peft_dml_ros",
            executable="perception",
            name=given["node_name"],
            remappings=[("lidar_top/points", given["input/pointcloud"]), ("~/objects", given["output/objects"])],
            parameters=[parameters_of(Path(given["params_file"])), values],
            output="screen",
        )
    ]
