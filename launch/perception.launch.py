# SPDX-License-Identifier: Apache-2.0
"""Start the perception node, and on request RViz and a bag that is played into it.

ros2 launch peft_dml_ros perception.launch.py bag:=drive.mcap rviz:=true

With `bag`, what replay.launch.py takes (rate, start, loop, clock, scene, weather, seed, faults) counts here as well.
"""

import inspect

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteLocal,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

# Transforms go into the namespace as well: vehicles in one domain must not take each other's mounting.
TRANSFORMS = [("/tf", "tf"), ("/tf_static", "tf_static")]
SHARE = FindPackageShare("peft_dml_ros")
ARGUMENTS = (
    ("namespace", "", "Namespace of all topics, transforms and nodes, one per vehicle"),
    ("params_file", PathJoinSubstitution([SHARE, "config", "perception.yaml"]), "YAML file with the node's parameters"),
    ("bundle", "", "Model bundle: a folder, or the name of an installed one; as in params_file when empty"),
    ("trusted_key", "", "Public key, or its file, that must have signed the bundle; as in params_file when empty"),
    ("engine", "", "onnxruntime, onnxruntime-cuda, onnxruntime-tensorrt or tensorrt; as in params_file when empty"),
    ("autodetect", "", "true: find the topics of sensors by name, type and frame; as in params_file when empty"),
    ("calibration", "", "File for sensors without /tf_static or CameraInfo; as in params_file when empty"),
    ("use_sim_time", "false", "Take the time from /clock, as simulators and bags at another rate publish it"),
    ("respawn", "true", "Start the node again when it ends unexpectedly, 2 s later and at most 5 times"),
    (
        "bag",
        "",
        "Bag or nuScenes folder to play into the node, with the arguments of replay.launch.py; none when empty",
    ),
    ("rviz", "false", "Show clouds, boxes, velocities and the front camera in RViz"),
    (
        "dds_profile",
        PathJoinSubstitution([SHARE, "config", "fastdds_large_messages.xml"]),
        "Fast DDS profile; the default one has room for LiDAR sweeps in shared memory",
    ),
)
TEXTS, FLAGS = ("bundle", "trusted_key", "engine", "calibration"), ("autodetect", "use_sim_time")
"""Arguments that are parameters of the node; those that are given count more than the parameter file."""
TRUE = ("true", "1")
# A wrong parameter ends the node each time. Older versions of launch cannot count: there it is tried for ever.
COUNTS_RETRIES = "respawn_max_retries" in inspect.signature(ExecuteLocal.__init__).parameters
RETRIES = {"respawn_max_retries": 5} if COUNTS_RETRIES else {}


def generate_launch_description() -> LaunchDescription:
    """Build what `ros2 launch` runs."""
    arguments = [DeclareLaunchArgument(name, default_value=d, description=text) for name, d, text in ARGUMENTS]
    profile = LaunchConfiguration("dds_profile")
    return LaunchDescription(
        [
            *arguments,
            SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", profile),
            SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", profile),
            OpaqueFunction(function=perception),
            OpaqueFunction(function=replay),
            Node(
                package="rviz2",
                executable="rviz2",
                name="rviz",
                namespace=LaunchConfiguration("namespace"),
                remappings=TRANSFORMS,
                arguments=["-d", PathJoinSubstitution([SHARE, "config", "perception.rviz"])],
                parameters=[{"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
        ]
    )


def perception(context: LaunchContext) -> list[Node]:
    """The node, once it is known which of its parameters are given; started again when it dies."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    # Without a type, launch would make a number of a bundle that is called 2024.
    texts = {name: ParameterValue(given[name], value_type=str) for name in TEXTS if given[name]}
    flags = {name: given[name].lower() in TRUE for name in FLAGS if given[name]}
    return [
        Node(
            package="peft_dml_ros",
            executable="perception",
            name="perception",
            namespace=given["namespace"],
            remappings=TRANSFORMS,
            parameters=[given["params_file"], texts | flags],
            respawn=given["respawn"].lower() in TRUE,
            respawn_delay=2.0,
            **RETRIES,
            output="screen",
        )
    ]


def replay(context: LaunchContext) -> list[IncludeLaunchDescription]:
    """What plays the bag, when one is given."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ("bag", "namespace", "dds_profile")}
    if not given["bag"]:
        return []
    file = PathJoinSubstitution([SHARE, "launch", "replay.launch.py"])
    return [IncludeLaunchDescription(PythonLaunchDescriptionSource(file), launch_arguments=given.items())]
