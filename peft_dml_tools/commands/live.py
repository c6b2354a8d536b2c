# SPDX-License-Identifier: Apache-2.0
"""`peft-dml status`, `topics` and `set`: look at and talk to a running node where ros2cli is not installed."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from peft_dml_tools.nodes.client import Status

NodeOption = Annotated[str, typer.Option(help="Name of the node, or its full name: /v1/perception")]
SecondsOption = Annotated[float, typer.Option(min=0.2, max=600.0, help="How long to watch")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]
LEVELS = (("ok", "green"), ("warning", "yellow"), ("error", "red"), ("stale", "yellow"))


def status(
    node: NodeOption = "perception",
    seconds: SecondsOption = 2.0,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a running perception node says: frame rate, sensors with state, age, rate and reason, gate weights.

    Exit status: 0 frames come and the node sees, 1 it is blind or silent, 2 there is no such node.
    """
    from rich.console import Console

    from peft_dml_tools.nodes.client import client

    with client() as asking:
        found = asking.status(node, seconds)
        while True:
            typer.echo(json.dumps(asdict(found))) if as_json else Console(soft_wrap=True).print(_table(found))
            if not watch:
                break
            found = asking.status(found.node, seconds)
    level, _, _ = found.statuses.get("frame", (2, "", {}))
    if not found.frame_hz or level == LEVELS.index(("error", "red")):
        raise typer.Exit(1)


def topics(
    names: Annotated[Optional[list[str]], typer.Argument(help="Topics; all that are published if none")] = None,
    seconds: SecondsOption = 2.0,
    as_json: JsonOption = False,
) -> None:
    """List topics with type, publishers, subscribers, messages and bytes per second."""
    from rich.console import Console
    from rich.table import Table

    from peft_dml_tools.nodes.client import client

    with client() as asking:
        rows = asking.topics(seconds, names or ())
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows]))
        return
    table = Table("topic", "type", "pub", "sub", "Hz", "kB/s", box=None)
    for row in rows:
        rate = "-" if row.rate_hz is None else f"{row.rate_hz:.1f}"
        counts = (str(row.publishers), str(row.subscribers), rate, f"{row.bytes_per_s / 1e3:.1f}")
        table.add_row(row.topic, row.type, *counts)
    Console(soft_wrap=True).print(table)


def set_(
    parameter: Annotated[Optional[str], typer.Argument(help="Parameter; all are listed without one")] = None,
    value: Annotated[Optional[str], typer.Argument(help="New value, as YAML; printed as it is without one")] = None,
    node: NodeOption = "perception",
    seconds: Annotated[float, typer.Option(min=0.0, help="How long to watch for what the node says to it")] = 2.0,
) -> None:
    """Set or print a parameter of a running node, and show what the node warns of after.

    Examples:
      peft-dml set bundle models/base
      peft-dml set weather fog=50 --node replay
      peft-dml set detection.score_threshold
    """
    from peft_dml_ros.core.errors import ConfigError, nearest
    from peft_dml_tools.nodes.client import client

    with client() as asking:
        if parameter is None or value is None:
            values = asking.parameters(node)
            if parameter is not None and parameter not in values:
                raise ConfigError(f"{node} has no parameter '{parameter}'; {nearest(parameter, values)}")
            for name, current in values.items():
                if parameter in {None, name}:
                    typer.echo(f"{name}: {current}")
            return
        current, said = asking.set(node, parameter, value, seconds)
    typer.echo(f"{parameter}: {current}")
    for line in said:
        typer.echo(f"the node says: {line}", err=True)
    if said:
        raise typer.Exit(1)


def _table(found: Status) -> object:
    from rich.console import Group
    from rich.table import Column, Table
    from rich.text import Text

    level, message, values = found.statuses.get("frame", (2, "says nothing", {}))
    word, colour = LEVELS[min(level, len(LEVELS) - 1)]
    first = Text.assemble((f"{word} ", f"bold {colour}"), f"{found.node}: {found.frame_hz:.1f} frames/s, {message}")
    weights = {key.partition(".")[2]: text for key, text in values.items() if key.startswith("gate.")}
    gate = Text("gate weights: " + ", ".join(f"{name} {text}" for name, text in weights.items())) if weights else None
    # A name that is cut short could be one of several.
    names = [Column(name, no_wrap=True) for name in ("sensor", "age s", "Hz", "received", "used", "left out")]
    table = Table(*names, "state", box=None)
    for part, (level, said, facts) in found.statuses.items():
        if part.startswith("sensor "):
            cells = [
                facts.get(key, "").replace("inf", "-") for key in ("age_s", "rate_hz", "received", "admitted", "gated")
            ]
            state = Text(said, style=LEVELS[min(level, len(LEVELS) - 1)][1])
            table.add_row(part.removeprefix("sensor "), *cells, state)
    drops = [f"{key.removeprefix('drops.')} {text}" for key, text in values.items() if key.startswith("drops.")]
    last = Text("dropped since the start: " + (", ".join(drops) or "nothing"))
    return Group(*(part for part in (first, gate, table, last) if part is not None))
