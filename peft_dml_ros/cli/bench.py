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


@bench.command("engines")
def engines(
    out: Annotated[Path, typer.Option(help="File to write")] = Path("bench/engines.json"),
    bundle: Annotated[str, typer.Option(help="Bundle to measure: folder or name")] = "demo",
    int8: Annotated[
        str, typer.Option(help="The same bundle in 8 bit (peft-dml-train export --precision int8), for the ratio")
    ] = "",
    compare: Annotated[Optional[Path], typer.Option(help="An older file, to stand beside the new one")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Everything once, in seconds; figures of no worth")] = False,
) -> None:
    """Time of every engine and stage, for all subsets of sensors and growing inputs, without ROS.

    Takes about five minutes on one core.
    """
    import json

    from rich.console import Console
    from rich.table import Table

    from peft_dml_ros.bench.engines import QUICK, EngineBenchmark, EnginePlan
    from peft_dml_ros.bench.engines import compare as compared

    console = Console(stderr=True)
    older = json.loads(compare.read_text(encoding="utf-8")) if compare else None
    repository = Path(__file__).resolve().parents[2]
    with console.status("loading") as status:
        plan = QUICK if quick else EnginePlan()
        report = EngineBenchmark(plan, bundle, int8 or None, repository, status.update).run()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    table = Table("figure", "value")
    for name, value in report["summary"].items():
        table.add_row(name, str(value))
    Console().print(table)
    if older is not None:
        beside = Table("figure", "before", "now", "ratio")
        for name, before, now in sorted(compared(older, report)):
            beside.add_row(name, f"{before:g}", f"{now:g}", f"{now / before:.2f}" if before else "")
        Console().print(beside)
