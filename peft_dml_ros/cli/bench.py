# SPDX-License-Identifier: Apache-2.0
"""`peft-dml bench`: measurements of this software, each a JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

bench = typer.Typer(name="bench", help="Measure this software.", no_args_is_help=True, add_completion=False)


@bench.callback()
def _group() -> None:
    """Keep the group a group while it has one command."""


@bench.command("data")
def data(
    out: Annotated[Path, typer.Option(help="File to write")] = Path("bench/data.json"),
    work: Annotated[Path, typer.Option(help="Folder for scenes and bags; is removed at the end")] = Path("bench_out"),
    real: Annotated[
        Optional[Path],
        typer.Option(envvar="PEFT_DML_REAL_KEYFRAME", help="Real nuScenes folder, to stand beside the table"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Every stage once, in seconds; figures of no worth")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the scenes, for example to draw them")] = False,
) -> None:
    """Seconds and memory of simulate, read, corrupt and export, and how near the simulator comes to nuScenes.

    Takes about ten minutes on one core. A run that was cut short goes on where it was.
    """
    import json

    from rich.console import Console

    from peft_dml_ros.bench.data import QUICK, DataBenchmark, Plan

    console = Console(stderr=True)
    repository = Path(__file__).resolve().parents[2]
    with console.status("starting") as status:
        benchmark = DataBenchmark(QUICK if quick else Plan(), work, repository, real, status.update)
        figures = benchmark.run()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if not keep:
        benchmark.clear()
    realism = figures["realism"]
    Console().print(
        f"{out}: simulate {figures['simulate_s_per_scene']:.1f} s and {figures['simulate_peak_mb']:.0f} MB a scene of "
        f"{figures['scene']['seconds']:g} s, read {figures['read_ms_per_sample']:.1f} ms, "
        f"corrupt {figures['corrupt_ms_per_sample']:.0f} ms, export {figures['export_s_per_scene']:.1f} s and "
        f"{figures['export_peak_mb']:.0f} MB; {realism['rows_within']} of {len(realism['rows'])} figures of "
        f"{realism['frames']} simulated frames within a factor of {realism['factor']} of real ones",
        soft_wrap=True,
    )
    for name in realism["outside"]:
        Console().print(f"  outside: {name}", markup=False, highlight=False)
