# SPDX-License-Identifier: Apache-2.0
"""Play a bag or a nuScenes folder as a vehicle would send it, in any weather and with sensor faults on demand.

ros2 launch peft_dml_ros replay.launch.py bag:=drive.mcap weather:=rain=25 faults:=faults.yaml loop:=true
"""

from collections.abc import Callable, Sequence
from typing import Any

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

# Transforms go into the namespace as well: vehicles in one domain must not use each other's mounting.
TRANSFORMS = [("/tf", "tf"), ("/tf_static", "tf_static")]
PROFILE = (
    "dds_profile",
    PathJoinSubstitution([FindPackageShare("peft_dml_ros"), "config", "fastdds_large_messages.xml"]),
    "Fast DDS profile; the default one has room for LiDAR sweeps in shared memory",
)
ARGUMENTS = (
    ("bag", None, "Bag (.mcap, .db3 or folder) or nuScenes folder"),
    ("namespace", "", "Namespace that the topics are put into, one per vehicle, and /tf and /tf_static too"),
    ("rate", "1.0", "Recorded seconds per second; other than 1.0 also publishes /clock"),
    ("start", "0.0", "Seconds to skip at the beginning"),
    ("loop", "false", "Start again at the end, until stopped"),
    ("clock", "false", "Publish /clock, for nodes with use_sim_time"),
    ("scene", "", "Scene of a nuScenes folder; the first when empty"),
    ("weather", "clear", "fog=50 (visibility in m), rain=25 or snow=5 (mm/h); later: ros2 param set /replay weather"),
    ("seed", "0", "Seed of the weather's randomness"),
    ("faults", "", "Fault script: a YAML list of {sensor, fault, from_s, to_s}; none when empty"),
    ("wait_for_node", "", "Node that must listen before the first message, 30 s at most; none when empty"),
    PROFILE,
)
#: Arguments that are options of the node; an option without a value is left out, a switch counts when it is true
VALUES, SWITCHES = ("rate", "start", "scene", "weather", "seed", "faults", "wait_for_node"), ("loop", "clock")
TRUE = ("true", "1")


def described(arguments: Sequence[tuple[str, Any, str]], *functions: Callable[..., Any]) -> LaunchDescription:
    """Return what `ros2 launch` runs: arguments, the transport's profile, then what the functions make of them."""
    profile = LaunchConfiguration("dds_profile")
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, default_value=d, description=text) for name, d, text in arguments),
            SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", profile),
            SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", profile),
            *(OpaqueFunction(function=function) for function in functions),
        ]
    )


def generate_launch_description() -> LaunchDescription:
    """Build what `ros2 launch` runs."""
    return described(ARGUMENTS, replay)


def replay(context: LaunchContext) -> list[Node]:
    """Return the node with the options that are given."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    options = [part for name in VALUES if given[name] for part in (f"--{name.replace('_', '-')}", given[name])]
    options += [f"--{name}" for name in SWITCHES if given[name].lower() in TRUE]
    return [
        Node(
            package="peft_dml_ros",
            executable="replay",
            name="replay",
            namespace=given["namespace"],
            remappings=TRANSFORMS,
            arguments=[given["bag"], *options],
            output="screen",
        )
    ]
