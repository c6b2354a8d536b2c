# SPDX-License-Identifier: Apache-2.0
"""The command: runs the stages, writes the file of results, and says what did not hold."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from peft_dml_tools.chaos.stages import ChaosRun

DRIVE_S = 4.0
SHORT_DRIVE_S = 1.2
DRIVE_SEED = 7
FUZZ, LIVE = 100_000, 5000  #: Malformed messages to the callbacks, and over DDS
BUSY = 2.0  #: Load average a core beyond which nobody keeps deadlines; the processes of this command make half of that
SHORT_FUZZ, SHORT_LIVE = 3000, 0


class SuiteStage(str, Enum):
    """What can be tried."""

    cells = "cells"
    fuzz = "fuzz"
    respawn = "respawn"
    namespaces = "namespaces"
    soak = "soak"


def chaos(
    json_file: Annotated[
        Optional[Path], typer.Option("--json", help="File of results; stages that are not run keep theirs")
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="Some faults and a little fuzz, in half a minute")] = False,
    minutes: Annotated[float, typer.Option(min=2.0, max=1440.0, help="Length of the soak")] = 30.0,
    only: Annotated[
        Optional[list[SuiteStage]], typer.Option(help="Only these stages; may be given several times")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is left to chance")] = 0,
    drive: Annotated[Optional[Path], typer.Option(help="Drive this bag in circles, instead of a simulated one")] = None,
    bundle: Annotated[str, typer.Option(help="Model bundle: a folder or the name of an installed one")] = "demo",
    domain_id: Annotated[int, typer.Option(min=0, max=232, help="ROS domain, apart from any vehicle")] = 78,
) -> None:
    """Break sensors, messages and processes in every way, and measure how the perception node takes it.

    Exit status: 0 all holds, 1 something does not. A full run takes a quarter of an hour and the soak.

    Examples:
      peft-dml chaos --short
      peft-dml chaos --json chaos.json --minutes 30
      peft-dml chaos --only cells --json chaos.json
    """
    import os

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from rich.console import Console

    from peft_dml_ros.core.bundle import load_bundle
    from peft_dml_tools.chaos.results import merged, missed, write
    from peft_dml_tools.chaos.stages import ChaosRun
    from peft_dml_tools.live.children import graceful_exit
    from peft_dml_tools.live.environment import alone_in, require_ros
    from peft_dml_tools.live.scratch import scratch_folder
    from peft_dml_tools.live.session import Session
    from peft_dml_tools.live.short_drive import simulate_short_drive

    require_ros()
    load_bundle(bundle)
    stages = only or ([SuiteStage.cells, SuiteStage.fuzz] if short else list(SuiteStage))
    console = Console(stderr=True)
    with graceful_exit(), alone_in(domain_id), scratch_folder() as scratch, console.status("") as status:
        status.update("simulating a drive")
        length_s = SHORT_DRIVE_S if short else DRIVE_S
        path = drive or simulate_short_drive(scratch / "drive.mcap", length_s, DRIVE_SEED, image_width_px=352)
        run = ChaosRun(Session(scratch, bundle, domain_id), path, status.update)
        results: dict[str, Any] = {}
        for stage in stages:
            found = _stage(stage, run, short=short, minutes=minutes, seed=seed)
            results = merged(results, stage.value, found)
            console.print(f"[bold]{stage.value:10}[/] {found['words']}", soft_wrap=True, highlight=False)
            if os.getloadavg()[0] > BUSY * (os.cpu_count() or 1):
                console.print(f"[yellow]busy[/]       load average {os.getloadavg()[0]:.1f}: times are of little worth")
        results["errors_logged"] = run.errors()
    if json_file is not None:
        write(json_file, results)
    for line in missed(results):
        console.print(f"[red]missed[/] {line}", soft_wrap=True, highlight=False)
    if missed(results):
        raise typer.Exit(1)


def _stage(stage: SuiteStage, run: ChaosRun, *, short: bool, minutes: float, seed: int) -> dict[str, Any]:
    """Run one stage; returns its figures, with `words` for the terminal."""
    from peft_dml_tools.chaos.fuzzing import fuzz
    from peft_dml_tools.chaos.plan import full_plan, short_plan
    from peft_dml_tools.chaos.processes import namespaces, respawn
    from peft_dml_tools.chaos.soak import soak
    from peft_dml_tools.chaos.stages import cells

    work: dict[SuiteStage, Callable[[], dict[str, Any]]] = {
        SuiteStage.cells: lambda: cells(run, short_plan() if short else full_plan()),
        SuiteStage.fuzz: lambda: fuzz(run, *((SHORT_FUZZ, SHORT_LIVE) if short else (FUZZ, LIVE)), seed),
        SuiteStage.respawn: lambda: respawn(run),
        SuiteStage.namespaces: lambda: namespaces(run),
        SuiteStage.soak: lambda: soak(run, minutes, seed),
    }
    return work[stage]()
