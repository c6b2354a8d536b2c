# SPDX-License-Identifier: Apache-2.0
"""Start the perception node, and on request RViz and a bag that is played into it.

ros2 launch peft_dml_ros perception.launch.py bag:=drive.mcap rviz:=true

With `bag`, the arguments of replay.launch.py act as well: rate, start, loop, clock, scene, weather, seed, faults.
"""

import os
import runpy
import time
from functools import partial
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import IncludeLaunchDescription, LogInfo, TimerAction
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

SHARE = FindPackageShare("peft_dml_ros")
SHARED = runpy.run_path(str(Path(__file__).with_name("replay.launch.py")))
REPLAY, TRANSFORMS = SHARED["ARGUMENTS"], SHARED["TRANSFORMS"]
OWN = (
    ("namespace", "", "Namespace of all topics, transforms and nodes, one per vehicle"),
    ("params_file", PathJoinSubstitution([SHARE, "config", "perception.yaml"]), "YAML file with the node's parameters"),
    ("bundle", "", "Model bundle: a folder, or the name of an installed one; as in params_file when empty"),
    ("trusted_key", "", "Public key, or its file, that must have signed the bundle; as in params_file when empty"),
    ("engine", "", "Inference runtime, see docs/parameters.md; as in params_file when empty"),
    ("autodetect", "", "true: find the topics of sensors by name, type and frame; as in params_file when empty"),
    ("autoware", "", "true: publish Autoware's objects as well; as in params_file when empty"),
    ("calibration", "", "File for sensors without /tf_static or CameraInfo; as in params_file when empty"),
    ("use_sim_time", "false", "Take the time from /clock, as simulators and bags at another rate publish it"),
    (
        "respawn",
        "true",
        "Start the node again 2 s after a crash, at most 5 times in a row; not when it refuses to start",
    ),
    ("bag", "", "Bag or nuScenes folder to play into the node once it listens; none when empty"),
    ("rviz", "false", "Show clouds, boxes, velocities, tracks and the front camera in RViz"),
    SHARED["PROFILE"],
)
#: Arguments that only the replay of a bag takes
HANDED_ON = tuple(entry for entry in REPLAY if entry[0] not in {name for name, _, _ in OWN})
ARGUMENTS = OWN + HANDED_ON
#: Arguments that are parameters of the node; those that are given override the parameter file
TEXTS, FLAGS = ("bundle", "trusted_key", "engine", "calibration"), ("autodetect", "autoware", "use_sim_time")
TRUE = ("true", "1")
#: Exit status of a node that refuses its parameters; restarts in a row; a run of STABLE_S seconds ends the row
REFUSED, RETRIES, PAUSE_S, STABLE_S = 2, 5, 2.0, 60.0


def generate_launch_description() -> LaunchDescription:
    """Build what `ros2 launch` runs: RViz first, because its absence must end the launch before a node runs."""
    return SHARED["described"](ARGUMENTS, rviz, perception, replay)


def read(context: LaunchContext) -> dict[str, str]:
    """Return the value of every argument."""
    return {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}


def rviz(context: LaunchContext) -> list[Node]:
    """Return RViz with the view of this package, if it is asked for. Raises RuntimeError: it is not installed."""
    given = read(context)
    if given["rviz"].lower() not in TRUE:
        return []
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        distribution = os.environ.get("ROS_DISTRO", "$ROS_DISTRO")
        msg = f"rviz:=true, but rviz2 is not installed; fix: apt install ros-{distribution}-rviz2, or leave rviz out"
        raise RuntimeError(msg) from None
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            name="rviz",
            namespace=given["namespace"],
            remappings=TRANSFORMS,
            arguments=["-d", PathJoinSubstitution([SHARE, "config", "perception.rviz"])],
            parameters=[{"use_sim_time": given["use_sim_time"].lower() in TRUE}],
        )
    ]


def perception(context: LaunchContext) -> list[Node]:
    """Return the node, with the parameters that are given."""
    return [detector(read(context), RETRIES)]


def detector(given: dict[str, str], retries: int) -> Node:
    """Return the node; `retries` is how often it may crash from now on."""
    # Without a type, launch would make a number of a bundle that is called 2024.
    texts = {name: ParameterValue(given[name], value_type=str) for name in TEXTS if given[name]}
    flags = {name: given[name].lower() in TRUE for name in FLAGS if given[name]}
    return Node(
        package="peft_dml_ros",
        executable="perception",
        name="perception",
        namespace=given["namespace"],
        remappings=TRANSFORMS,
        parameters=[given["params_file"], texts | flags],
        on_exit=partial(ended, given, retries, time.monotonic()),
        output="screen",
    )


def ended(
    given: dict[str, str], retries: int, started_s: float, event: ProcessExited, context: LaunchContext
) -> list[LaunchDescriptionEntity] | None:
    """Start a crashed node again; launch's own `respawn` would do so for ever with one that refuses its parameters."""
    if context.is_shutdown or event.returncode == 0:
        return None
    if event.returncode == REFUSED:
        return [LogInfo(msg="perception refuses to start, see its error above; it is not started again")]
    if time.monotonic() - started_s >= STABLE_S:
        retries = RETRIES
    said = f"perception ended with status {event.returncode}"
    if not retries or given["respawn"].lower() not in TRUE:
        return [LogInfo(msg=f"{said}; it is not started again")]
    again = TimerAction(period=PAUSE_S, actions=[detector(given, retries - 1)])
    return [LogInfo(msg=f"{said}; starting it again in {PAUSE_S:g} s"), again]


def replay(context: LaunchContext) -> list[IncludeLaunchDescription]:
    """Return what plays the bag once the node listens, when a bag is given."""
    given = read(context)
    if not given["bag"]:
        return []
    given["wait_for_node"] = given["wait_for_node"] or "perception"
    file = PathJoinSubstitution([SHARE, "launch", "replay.launch.py"])
    handed_on = [(name, given[name]) for name, _, _ in REPLAY]
    return [IncludeLaunchDescription(PythonLaunchDescriptionSource(file), launch_arguments=handed_on)]
