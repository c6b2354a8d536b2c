# SPDX-License-Identifier: Apache-2.0
"""Play a bag or a nuScenes folder as a vehicle would send it, with sensor faults on demand.

ros2 launch peft_dml_ros replay.launch.py bag:=drive.mcap faults:=faults.yaml
"""

from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = (
    ("bag", None, "Bag (.mcap, .db3 or folder) or nuScenes folder"),
    ("namespace", "", "Namespace that the topics are put into, one per vehicle; /tf and /tf_static stay"),
    ("rate", "1.0", "Recorded seconds per second; other than 1.0 also publishes /clock"),
    ("start", "0.0", "Seconds to skip at the beginning"),
    ("faults", "", "Fault script: a YAML list of {sensor, fault, from_s, to_s}; none when empty"),
    ("weather", "clear", "fog=50 (visibility in m), rain=25 or snow=5 (mm/h)"),
    (
        "dds_profile",
        PathJoinSubstitution([FindPackageShare("peft_dml_ros"), "config", "fastdds_large_messages.xml"]),
        "Fast DDS profile; the default one has room for LiDAR sweeps in shared memory",
    ),
)


def generate_launch_description() -> LaunchDescription:
    """Build what `ros2 launch` runs."""
    arguments = [DeclareLaunchArgument(name, default_value=d, description=text) for name, d, text in ARGUMENTS]
    profile = LaunchConfiguration("dds_profile")
    return LaunchDescription(
        [
            *arguments,
            SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", profile),
            SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", profile),
            Node(
                package="peft_dml_ros",
                executable="replay",
                name="replay",
                namespace=LaunchConfiguration("namespace"),
                arguments=[
                    LaunchConfiguration("bag"),
                    "--rate",
                    LaunchConfiguration("rate"),
                    "--start",
                    LaunchConfiguration("start"),
                    "--faults",
                    LaunchConfiguration("faults"),
                    "--weather",
                    LaunchConfiguration("weather"),
                ],
                output="screen",
            ),
        ]
    )
