# SPDX-License-Identifier: Apache-2.0
"""`peft-dml node`: start a node of this package where `ros2 run` is not installed."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Final, Optional

import typer

CONTEXT_SETTINGS: Final = {"allow_extra_args": True, "ignore_unknown_options": True}


class Executable(str, Enum):
    """Nodes that can be started."""

    perception = "perception"


def node(
    context: typer.Context,
    name: Annotated[Executable, typer.Argument(help="Which node.")] = Executable.perception,
    params_file: Annotated[Optional[Path], typer.Option(help="ROS parameter file; see config/perception.yaml.")] = None,
    bundle: Annotated[
        Optional[str], typer.Option(help="Model bundle: a folder or the name of an installed one.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Namespace of topics, transforms and nodes, one per vehicle.")] = "",
    use_sim_time: Annotated[bool, typer.Option(help="Take the time from /clock.")] = False,
) -> None:
    """Start the perception node of this robot; Ctrl-C ends it.

    Further arguments go to ROS, e.g. -p detection.score_threshold:=0.3 -r lidar_top/points:=/velodyne/points

    Examples:
      peft-dml node perception --params-file config/perception.yaml
      peft-dml node perception --bundle models/demo -r lidar_top/points:=/velodyne/points
    """
    from peft_dml_ros.core.errors import ConfigError

    arguments = ["--ros-args"]
    if params_file is not None:
        if not params_file.is_file():
            raise ConfigError(f"no parameter file {params_file}; fix: name one; config/perception.yaml is an example")
        arguments += ["--params-file", str(params_file)]
    if bundle is not None:
        arguments += ["-p", f"bundle:={bundle}"]
    if namespace:
        # A namespace holds all of a vehicle: with one /tf_static for several, they would use each other's mounting.
        arguments += ["-r", f"__ns:=/{namespace.strip('/')}", "-r", "/tf_static:=tf_static"]
    if use_sim_time:
        arguments += ["-p", "use_sim_time:=true"]
    from importlib import import_module

    module = import_module(f"peft_dml_ros.nodes.{name.value}")
    module.main([*arguments, *(a for a in context.args if a != "--ros-args")])
