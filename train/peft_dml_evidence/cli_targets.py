# SPDX-License-Identifier: Apache-2.0
"""`peft-dml-train targets`: the table of targets for one bundle."""

from pathlib import Path
from typing import Annotated

import typer


def targets(
    data: Annotated[Path, typer.Option(help="nuScenes folder of the target domain")],
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle")] = Path("models/demo"),
    out: Annotated[Path, typer.Option(help="Folder for targets.json")] = Path("runs/targets"),
    previous: Annotated[Path | None, typer.Option(help="targets.json or metrics.json of another bundle")] = None,
    page: Annotated[
        Path | None, typer.Option(help="Markdown page whose table is replaced, e.g. docs/training.md")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Keyframes that are turned about the vehicle")] = 60,
    split: Annotated[list[str] | None, typer.Option(help="Splits or scenes; the recipe's test split if none")] = None,
    config: Annotated[Path | None, typer.Option(help="Recipe of --run")] = None,
    run: Annotated[Path | None, typer.Option(help="Run with the adapters that --zero-shot names")] = None,
    zero_shot: Annotated[
        list[str] | None, typer.Option(help="radar:barrier=ADAPTER[,WITHOUT_METRIC_LOSS] of --run; repeatable")
    ] = None,
    concatenation: Annotated[
        Path | None, typer.Option(help="Run with the same base.pt, adapted with network.fusion=concatenate")
    ] = None,
) -> None:
    """Measure a bundle on the scenes of its target domain, and print each figure next to its target."""
    from peft_dml_evidence.target_runs import measure
    from peft_dml_evidence.targets import fill_page, parse_withheld, read_previous, target_rows, target_table
    from peft_dml_train.evaluation.report import wide_console
    from peft_dml_train.loop.stages import start_logging

    start_logging()
    before = read_previous(previous) if previous else None
    withheld = [parse_withheld(text) for text in zero_shot or ()]
    measured = measure(bundle, data, tuple(split or ()), out, frames, config, run, withheld, concatenation)
    rows = target_rows(measured, before)
    if page is not None:
        about = f"{measured['bundle']}, {measured['scenes']} scenes, {measured['keyframes']} keyframes:"
        fill_page(page, rows, about)
    wide_console().print(target_table(rows))
    typer.echo(out / "targets.json")
