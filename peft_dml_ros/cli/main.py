# SPDX-License-Identifier: Apache-2.0
"""Entry point `peft-dml`: names the commands, imports one when it runs, and turns expected errors into one line."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from peft_dml_ros.core.errors import PeftDmlError

COMMANDS: Final[dict[str, str]] = {
    "demo": "Drive, break sensors, watch the boxes: a whole ROS 2 session with a report, in one command.",
    "run": "Detect in a bag or nuScenes folder at full CPU speed; draws boxes and measures time and accuracy.",
    "simulate": "Write simulated scenes as a nuScenes folder.",
    "node": "Start the perception node of this robot.",
    "bundle": "Inspect, verify or sign a model bundle, or build its TensorRT engines.",
    "dataset": "Check a nuScenes folder: tables, references, times, geometry and files.",
    "bag": "Write a nuScenes scene as a ROS 2 bag, or a bag as a nuScenes folder.",
    "bench": "Measure seconds, memory and realism, each into a JSON file.",
    "chaos": "Break sensors, messages and processes in every way, and measure how the node takes it.",
    "doctor": "Check this machine and the system that runs on it; names every mend.",
    "replay": "Publish a bag's sensors live, with scripted faults.",
}
"""Help line by command name. Command `x` is the function, or the group of commands, `x` of `peft_dml_ros.cli.x`."""

EXTRA_OF_MODULE: Final[dict[str, str]] = {
    "embreex": "sim",
    "trimesh": "sim",
    "rclpy": "ros",
    "sensor_msgs": "ros",
    "vision_msgs": "ros",
    "tf2_msgs": "ros",
    "matplotlib": "viz",
    "nuscenes": "demo",
}
"""Optional dependency (`pip install 'peft_dml_ros[<extra>]'`) that brings a module."""


class _Commands(TyperGroup):
    """Commands that are listed by name and imported only when they are invoked."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replace the listed name by the real command just before it runs."""
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = _load(args[0])
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an expected error, also of the file system, becomes one line and exit status 2."""
        try:
            return super().invoke(ctx)
        except PeftDmlError as error:
            _refuse(str(error))
        except OSError as error:
            if error.filename is None:
                raise
            _refuse(f"{error.filename}: {error.strerror}; check the path, its permissions and the free space")
        except ModuleNotFoundError as error:
            module = (error.name or "").partition(".")[0]
            if module not in EXTRA_OF_MODULE:
                raise
            extra = EXTRA_OF_MODULE[module]
            _refuse(f"this command needs the Python module '{module}'; install it: pip install 'peft_dml_ros[{extra}]'")


def _load(name: str) -> Any:
    module = import_module(f"peft_dml_ros.cli.{name}")
    if isinstance(group := getattr(module, name), typer.Typer):
        return typer.main.get_group(group)
    single = typer.Typer(add_completion=False)
    settings: dict[str, Any] = getattr(module, "CONTEXT_SETTINGS", {})
    single.command(name, context_settings=settings)(getattr(module, name))
    return typer.main.get_command(single)


def _refuse(message: str) -> NoReturn:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text.assemble(("error: ", "bold red"), (message, "red")), soft_wrap=True)
    raise typer.Exit(2)


def _stub() -> None:
    """Stand in for a command until it is invoked."""


app = typer.Typer(
    name="peft-dml",
    cls=_Commands,
    help="3D object detection for ROS 2 from LiDAR, radar and cameras, also when some of them drop out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for _name, _help in COMMANDS.items():
    app.command(_name, help=_help)(_stub)


@app.command()
def version() -> None:
    """Print the version."""
    from peft_dml_ros import __version__

    typer.echo(__version__)


if __name__ == "__main__":
    app()
