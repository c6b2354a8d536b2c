# SPDX-License-Identifier: Apache-2.0
"""`peft-dml dataset`: is a nuScenes folder, official or written here, as it must be? Its clouds for labelling tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from peft_dml_tools.datasets.checks import CheckReport

dataset = typer.Typer(name="dataset", help="Look after nuScenes folders.", no_args_is_help=True, add_completion=False)


@dataset.callback()
def _group() -> None:
    """Look after nuScenes folders."""


@dataset.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Data set, or its version folder")],
    version: Annotated[Optional[str], typer.Option(help="Version folder, where there are several")] = None,
    exclude: Annotated[Optional[list[str]], typer.Option(help="Rule (GEO004) or group (GEO) to leave out")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON")] = False,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules that passed as well")] = False,
    examples: Annotated[int, typer.Option(min=1, help="Findings to show of each rule")] = 3,
) -> None:
    """Check a nuScenes folder: tables, references, times, geometry and files. Nothing is altered.

    Exit status: 0 no errors (with --strict: no warnings either), 1 errors found, 2 the check could not run.
    """
    from rich.console import Console

    from peft_dml_tools.datasets.checks import RULES, CheckRule, check_dataset

    # Findings go to stdout, progress to stderr: the report can be piped.
    with Console(stderr=True).status("Reading the tables") as status:

        def show(rule: CheckRule) -> None:
            status.update(f"{rule.id} {rule.title}")

        report = check_dataset(
            folder, version=version, exclude=tuple(exclude or ()), examples=max(examples, 20), progress=show
        )
    if as_json:
        import json

        typer.echo(json.dumps(report.as_dict(strict=strict), indent=2))
    else:
        _print(report, examples, rules=rules, known=len(RULES))
    if not report.passed(strict=strict):
        raise typer.Exit(1)


@dataset.command()
def clouds(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Data set")],
    out: Annotated[Path, typer.Option(help="Folder for the .pcd files")],
    every: Annotated[int, typer.Option(min=1, help="Take every n-th keyframe")] = 1,
) -> None:
    """Write the LiDAR sweeps of keyframes as .pcd files for CVAT, SUSTechPOINTS and others.

    They keep their names, by which `peft-dml-train adapt --labels` finds their keyframes again.
    """
    from peft_dml_ros.core.errors import DataError
    from peft_dml_ros.core.measurements import LidarSweep
    from peft_dml_tools.datasets.nuscenes import NuScenesReader
    from peft_dml_tools.datasets.nuscenes_writer_files import lidar_pcd_bytes, write_file

    reader = NuScenesReader(folder)
    tokens = reader.samples()[::every]
    out.mkdir(parents=True, exist_ok=True)
    for token in tokens:
        channel, record = reader.reference(token)
        sweep = reader.load(record)
        if not isinstance(sweep, LidarSweep):
            raise DataError(f"keyframe {token} has no LiDAR, its reference is {channel}; fix: label another drive")
        write_file(out / f"{Path(record['filename']).name.split('.')[0]}.pcd", lidar_pcd_bytes(sweep))
    typer.echo(f"{len(tokens)} clouds in {out}, in the LiDAR's frame")


def _print(report: CheckReport, examples: int, *, rules: bool, known: int) -> None:
    from rich.console import Console

    from peft_dml_tools.datasets.checks import Severity

    console = Console()
    if report.broken or rules:
        console.print(_table(report, examples, rules=rules))
    scenes, samples, files = (report.records[name] for name in ("scene", "sample", "sample_data"))
    console.print(
        f"{report.root} ({report.version}): {scenes} scenes, {samples} keyframes, {files} files, "
        f"{report.records['sample_annotation']} annotations; {len(report.outcomes)} of {known} rules",
        soft_wrap=True,
    )
    counts = ", ".join(f"{report.count(severity)} {severity.value}(s)" for severity in Severity)
    console.print(f"[bold {'green' if report.passed() else 'red'}]{counts}[/]")


def _table(report: CheckReport, examples: int, *, rules: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    from peft_dml_tools.datasets.checks import Severity

    colours = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
    table = Table("rule", "severity", "n", "must hold", "found", "fix", show_lines=True)
    for outcome in report.outcomes if rules else report.broken:
        rule = outcome.rule
        lines = [f"{found.where} {found.what}" for found in outcome.examples[:examples]]
        if outcome.count > len(lines):
            lines.append(f"and {outcome.count - len(lines)} more")
        verdict = Text(rule.severity.value, colours[rule.severity]) if outcome.count else Text("ok", "green")
        fix = rule.fix if outcome.count else ""
        table.add_row(rule.id, verdict, str(outcome.count), rule.title, Text("\n".join(lines)), fix)
    return table
