# SPDX-License-Identifier: Apache-2.0
"""Start the perception node, and on request RViz and a bag that is played into it.

ros2 launch peft_dml_ros perception.launch.py bag:=drive.mcap rviz:=true
"""

import inspect

from launch.actions import DeclareLaunchArgument, ExecuteLocal, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

SHARE = FindPackageShare("peft_dml_ros")
ARGUMENTS = (
    ("namespace", "", "Namespace of all topics and nodes, one per vehicle"),
    ("params_file", PathJoinSubstitution([SHARE, "config", "perception.yaml"]), "YAML file with the node's parameters"),
    ("bundle", "demo", "Model bundle: a folder, or the name of an installed one"),
    ("engine", "onnxruntime", "Inference engine"),
    ("autodetect", "false", "Find the topics of sensors by name, type and frame where nobody publishes the usual ones"),
    ("calibration", "", "Calibration file for sensors without /tf_static or CameraInfo"),
    ("use_sim_time", "false", "Take the time from /clock, as played bags and simulators publish it"),
    ("respawn", "true", "Start the node again when it ends unexpectedly, 2 s later and at most 5 times"),
    ("bag", "", "Bag or nuScenes folder to play into the node; none when empty"),
    ("rviz", "false", "Show clouds, images and boxes in RViz"),
    (
        "dds_profile",
        PathJoinSubstitution([SHARE, "config", "fastdds_large_messages.xml"]),
        "Fast DDS profile; the default one has room for LiDAR sweeps in shared memory",
    ),
)
# A wrong parameter ends the node each time. Older versions of launch cannot count: there it is tried for ever.
COUNTS_RETRIES = "respawn_max_retries" in inspect.signature(ExecuteLocal.__init__).parameters
RETRIES = {"respawn_max_retries": 5} if COUNTS_RETRIES else {}


def generate_launch_description() -> LaunchDescription:
    """Build what `ros2 launch` runs."""
    arguments = [DeclareLaunchArgument(name, default_value=d, description=text) for name, d, text in ARGUMENTS]
    use_sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    profile = LaunchConfiguration("dds_profile")
    return LaunchDescription(
        [
            *arguments,
            SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", profile),
            SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", profile),
            Node(
                package="peft_dml_ros",
                executable="perception",
                name="perception",
                namespace=LaunchConfiguration("namespace"),
                parameters=[
                    LaunchConfiguration("params_file"),
                    {
                        "bundle": ParameterValue(LaunchConfiguration("bundle"), value_type=str),
                        "engine": ParameterValue(LaunchConfiguration("engine"), value_type=str),
                        "autodetect": ParameterValue(LaunchConfiguration("autodetect"), value_type=bool),
                        "calibration": ParameterValue(LaunchConfiguration("calibration"), value_type=str),
                        "use_sim_time": use_sim_time,
                    },
                ],
                respawn=LaunchConfiguration("respawn"),
                respawn_delay=2.0,
                **RETRIES,
                output="screen",
            ),
            Node(
                package="peft_dml_ros",
                executable="replay",
                name="replay",
                namespace=LaunchConfiguration("namespace"),
                arguments=[LaunchConfiguration("bag")],
                condition=IfCondition(NotEqualsSubstitution(LaunchConfiguration("bag"), "")),
                output="screen",
            ),
            Node(
                package="rviz2",
                executable="rviz2",
                name="rviz",
                namespace=LaunchConfiguration("namespace"),
                arguments=["-d", PathJoinSubstitution([SHARE, "config", "perception.rviz"])],
                parameters=[{"use_sim_time": use_sim_time}],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
        ]
    )
