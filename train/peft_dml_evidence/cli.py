# SPDX-License-Identifier: Apache-2.0
"""The commands of the evidence: robustness, ablate, ranks, zero-shot, domains, baselines, cost and report."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from peft_dml_evidence.training import RunSettings


class Recipe(str, Enum):
    """A shipped recipe."""

    tiny = "tiny"
    demo = "demo"
    near = "near"
    fresh = "fresh"
    one_town = "one_town"
    nuscenes = "nuscenes"


ABOUT = {
    "robustness": "All sensor subsets, lost and late sensors, weather, MultiCorrupt.",
    "ablate": "The network with one component left out.",
    "ranks": "LoRA ranks, full fine-tuning, head only, from scratch: scores, time, memory, file size.",
    "zero-shot": "Modality-class pairs never trained together; retrieval between modalities.",
    "domains": "Another sensor layout, town, speed, weather: before and after adapting.",
    "baselines": "Zero-filled concatenation, averaging and specialists in the same harness.",
    "cost": "Parameters, operations, latency and CPU seconds by subset.",
    "weights": "The losses' weights, a third and three times as large.",
    "evidence": "All cells of the commands above, the most important first, on all jobs at once.",
}


DataOption = Annotated[Path, typer.Option("--data", help="nuScenes folder, real or simulated")]
RecipeOption = Annotated[Recipe, typer.Option("--config", help="Recipe")]
DomainsOption = Annotated[
    Path | None, typer.Option(help="Folder of other domains, a nuScenes folder each; DATA_domains if none")
]
BaseOption = Annotated[
    Path | None, typer.Option(help="Bundle whose network is every cell's base, e.g. models/base; none trains them")
]
RunsOption = Annotated[Path, typer.Option(help="Folder for trained weights, shared by all commands")]
ResultsOption = Annotated[Path, typer.Option(help="Folder for results")]
JobsOption = Annotated[int, typer.Option(min=1, help="Cells at once")]
MinutesOption = Annotated[float, typer.Option(min=0, help="After so many no new stage begins; 0 for no limit")]
SeedsOption = Annotated[int, typer.Option(min=0, help="Seeds of a cell at most; 0 for all")]
FramesOption = Annotated[int, typer.Option(min=0, help="Keyframes to score at most; 0 for all")]
ScenesOption = Annotated[int, typer.Option(min=0, help="Training scenes of a stage at most, taken evenly; 0 for all")]
CacheOption = Annotated[
    Path | None, typer.Option(help="Folder of prepared frames, shared by all commands; RUNS/frames if none")
]
CacheGbOption = Annotated[float, typer.Option(min=0, help="Its size at most; 0 for no cache")]
CellOption = Annotated[list[str] | None, typer.Option(help="Only these cells; repeatable")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override in every cell; repeatable")]
StartOption = Annotated[
    Path | None, typer.Option("--from", help="Encoders to begin with: a weights file, a bundle or its base.safetensors")
]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda")]
ListOption = Annotated[bool, typer.Option("--list", help="Only list the cells and whether they are finished")]


def _command(name: str) -> Callable[..., None]:
    def command(
        data: DataOption,
        config: RecipeOption = Recipe.tiny,
        domains: DomainsOption = None,
        runs: RunsOption = Path("runs/evidence"),
        out: ResultsOption = Path("train/results"),
        jobs: JobsOption = 1,
        minutes: MinutesOption = 0.0,
        seeds: SeedsOption = 0,
        frames: FramesOption = 0,
        scenes: ScenesOption = 0,
        cache: CacheOption = None,
        cache_gb: CacheGbOption = 20.0,
        cell: CellOption = None,
        overrides: SetOption = None,
        start: StartOption = None,
        base: BaseOption = None,
        device: DeviceOption = "cpu",
        show: ListOption = False,
    ) -> None:
        from peft_dml_evidence.budgets import BUDGETS, recipe_file
        from peft_dml_evidence.training import RunSettings

        domains, kept = domains or data.with_name(f"{data.name}_domains"), cache or runs / "frames"
        setting = RunSettings(
            config.value, recipe_file(config.value), data, domains, runs, out,
            (*BUDGETS[config.value], *(overrides or ())), device, frames, minutes or float("inf"), start, scenes,
            kept if cache_gb else None, cache_gb, base,
        )  # fmt: skip
        _run(name, setting, cell or [], jobs, seeds, show)

    return command


def _run(name: str, setting: RunSettings, chosen: list[str], jobs: int, seeds: int, show: bool) -> None:
    """Run or list the cells of a command."""
    from peft_dml_evidence.catalog import COMMANDS, by_importance, choose
    from peft_dml_evidence.given_base import on_given_base
    from peft_dml_evidence.runner import finished, run_pairs
    from peft_dml_evidence.training import CellBench
    from peft_dml_train.loop.stages import start_logging

    start_logging()
    failed = False
    if name == "evidence":
        wanted = choose([c for c, _ in by_importance()], chosen)
        pairs = [(c, s) for c, s in by_importance() if c in wanted and s in c.seeds[: seeds or None]]
    else:
        pairs = [(c, s) for c in choose(COMMANDS[name](), chosen) for s in c.seeds[: seeds or None]]
    if setting.base:
        pairs = [(on_given_base(c), s) for c, s in pairs]
    if show:
        bench = CellBench.open(setting, float("inf"))
        for c, s in pairs:
            state = "done" if finished(bench, c, s) else "-"
            typer.echo(f"{c.command:10} {c.name:40} s{s}:{state:6} {c.about}")
        return
    for outcome in run_pairs(setting, pairs, jobs):
        failed |= outcome.state == "failed"
        typer.echo(f"{outcome.name}: {outcome.state} {outcome.note}".rstrip())
    if failed:
        raise typer.Exit(1)


def report(
    results: Annotated[Path, typer.Option(help="Folder with the results")] = Path("train/results"),
    page: Annotated[Path, typer.Option(help="Page to write; plots go to images/ next to it")] = Path("docs/results.md"),
    bundles: Annotated[Path, typer.Option(help="Folder of the shipped bundles")] = Path("models"),
    plots: Annotated[bool, typer.Option(help="Draw the plots as well")] = True,
) -> None:
    """Make the results page, its plots and summary.json from the results; nothing is typed by hand."""
    from peft_dml_evidence.report.page import write_report

    for path in write_report(results, page, bundles=bundles, plots=plots):
        typer.echo(path)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, about in ABOUT.items():
        app.command(name=name, help=about)(_command(name))
    app.command(name="report")(report)
    app.command(name="targets")(targets)


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
