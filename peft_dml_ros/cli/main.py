# SPDX-License-Identifier: Apache-2.0
"""Entry point `peft-dml`: names the commands, imports one when it runs, and turns expected errors into one line."""

import errno
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from peft_dml_ros.cli import INTERRUPTED
from peft_dml_ros.core.errors import ConfigError, PeftDmlError

#: Entry point group in which other packages add commands. An entry point names a `COMMANDS` mapping, whose commands are
#: modules of its package; a mapping `MODULES` there names the module of a command that is not called like it.
ENTRY_POINTS: Final = "peft_dml.commands"

#: Help line by name of the vehicle's own commands. Command `x` is the function, or the group, `x` of its module.
COMMANDS: Final = {"node": "Start the perception node of this robot."}

#: Commands of `peft_dml_tools`, so that a vehicle without the tools can say what to install
TOOLS: Final = (
    *("doctor", "bundle", "adapter", "status", "topics", "set", "demo", "run", "simulate", "dataset", "bag", "bench"),
    *("chaos", "fleet", "view", "replay"),
)

#: Optional dependency (`pip install 'peft_dml_ros[<extra>]'`) that brings a module
EXTRA_OF_MODULE: Final[dict[str, str]] = {
    "embreex": "sim", "trimesh": "sim", "matplotlib": "viz", "nuscenes": "demo", "foxglove": "view",
    "rclpy": "ros", "pyarrow": "datasets", "av": "datasets",
}  # fmt: skip

#: What to do about errors of the file system
FIXES: Final = {
    errno.ENOENT: "check the path", errno.ENOTDIR: "check the path: a part of it is a file",
    errno.EISDIR: "name a file, not a folder", errno.EEXIST: "choose another name, or remove it",
    errno.EACCES: "check its permissions", errno.EPERM: "check its permissions",
    errno.EROFS: "choose a place that can be written to",
    errno.EDQUOT: "free space in your quota, or choose another disk",
    errno.ENOSPC: "free space on that disk, or choose another one; what is incomplete can be deleted",
}  # fmt: skip


@cache
def commands() -> dict[str, tuple[str, str]]:
    """Return the module that holds each command, and its help line, by command name."""
    found = {name: (f"peft_dml_ros.cli.{name}", about) for name, about in COMMANDS.items()}
    for entry in entry_points(group=ENTRY_POINTS):
        with suppress(ModuleNotFoundError):
            modules = getattr(import_module(entry.module), "MODULES", {})
            added = entry.load().items()
            found |= {name: (f"{entry.module}.{modules.get(name, name)}", about) for name, about in added}
    return found


class ExpectedErrors(TyperGroup):
    """Commands whose expected errors, also of the file system, become one line and exit status 2, and Ctrl-C 130."""

    interrupted = "Interrupted."  #: What an interrupt without words of its own says

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            typer.echo(f"Interrupted: {interrupt}" if interrupt.args else self.interrupted, err=True)
            raise typer.Exit(INTERRUPTED) from None
        except PeftDmlError as error:
            _refuse(str(error))
        except OSError as error:
            if error.errno not in FIXES:
                raise
            where = f"{error.filename}: " if error.filename is not None else ""
            _refuse(f"{where}{error.strerror}; fix: {FIXES[error.errno]}")
        except ModuleNotFoundError as error:
            module = (error.name or "").partition(".")[0]
            extra = "ros" if module.endswith(("_msgs", "_interfaces")) else EXTRA_OF_MODULE.get(module)
            if extra is None:
                raise
            source = "source ROS's setup.bash, or " if extra == "ros" else ""
            _refuse(f"this needs the Python module '{module}'; fix: {source}pip install 'peft_dml_ros[{extra}]'")


class _Commands(ExpectedErrors):
    """Commands that are listed by name and imported only when they are invoked."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replace the listed name by the real command just before it runs.

        Raises ConfigError: the command belongs to the tools, which are not installed.
        """
        if args and args[0] in commands():
            self.commands[args[0]] = _load(args[0])
        elif args and args[0] in TOOLS:
            raise ConfigError(
                f"'peft-dml {args[0]}' belongs to the tools (package peft_dml_tools), which are not installed here; "
                "fix: install the whole distribution: pip install 'peft_dml_ros[sim,demo]'"
            )
        return super().resolve_command(ctx, args)


def _load(name: str) -> Any:
    module = import_module(commands()[name][0])
    found = getattr(module, name, None) or getattr(module, f"{name}_")  # `set_`: Python has a `set`
    if isinstance(found, typer.Typer):
        return typer.main.get_group(found)
    single = typer.Typer(add_completion=False)
    single.command(name, context_settings=getattr(module, "CONTEXT_SETTINGS", {}))(found)
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
for _name, (_, _help) in commands().items():
    app.command(_name, help=_help)(_stub)


@app.command()
def version() -> None:
    """Print the version."""
    from peft_dml_ros import __version__

    typer.echo(__version__)


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Detect objects in 3D for ROS 2, from LiDAR, radar and cameras, also when some of them drop out."""


if __name__ == "__main__":
    app()
