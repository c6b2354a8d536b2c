# SPDX-License-Identifier: Apache-2.0
"""`peft-dml fleet`: detection, simulation, evaluation and mining over many drives, on one machine or a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from peft_dml_tools.atomic_files import claim_folder, write_json
from peft_dml_tools.commands.simulate import simulate

if TYPE_CHECKING:
    from peft_dml_tools.fleet.cluster import Cluster
    from peft_dml_tools.fleet.detection import DetectionSettings
    from peft_dml_tools.fleet.running import DriveOutcome, FleetRun

fleet = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
# The same command as `peft-dml simulate`: with --address its scenes are made on the cluster.
fleet.command()(simulate)

Sources = Annotated[
    list[str], typer.Argument(help="Bags, nuScenes folders, folders of these, patterns, or fsspec URLs (s3://...)")
]
Address = Annotated[
    str, typer.Option(help="local: this machine; auto: the Ray cluster that runs here; or HOST:PORT of another")
]
Workers = Annotated[int, typer.Option(min=0, help="Cores to use on this machine with --address local; 0 takes all")]
MemoryMb = Annotated[int, typer.Option(min=100, help="Memory that each job reserves, in MB")]
Out = Annotated[str, typer.Option(help="Folder or URL of the results, seen by all nodes; what is there is kept")]
BundleOption = Annotated[Optional[str], typer.Option(help="Model bundle; that of the parameters by default")]
Config = Annotated[Optional[Path], typer.Option(help="Parameter file, as for the node")]


@fleet.command()
def run(
    sources: Sources,
    out: Out = "fleet_out",
    address: Address = "local",
    workers: Workers = 0,
    bundle: BundleOption = None,
    config: Config = None,
    segment_s: Annotated[
        float, typer.Option(min=0, help="Bags are split into parts of this many seconds; 0 leaves them whole")
    ] = 60.0,
    memory_mb: MemoryMb = 1500,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Start Ray's dashboard with --address local")] = False,
) -> None:
    """Detect in many drives; boxes, sensor health and accuracy per drive, one merged report.

    A second call with the same sources does only what is missing or has changed. Exit status 1: a drive failed.

    Examples:
      peft-dml fleet run night/*.mcap --out s3://fleet/2026-11-27 --address auto
    """
    from time import perf_counter

    from peft_dml_tools.fleet.cluster import connected
    from peft_dml_tools.fleet.drives import expand
    from peft_dml_tools.fleet.running import FleetRun
    from peft_dml_tools.fleet.storage import ResultStore

    drives = expand(sources)
    settings = _settings(out, bundle, config, segment_s)
    start = perf_counter()
    outcomes: list[DriveOutcome] = []
    # A folder that cannot be written to ends the command here, and not each drive.
    with ResultStore(out).workspace(), connected(address, memory_mb, workers, dashboard=dashboard) as cluster:
        job = FleetRun(cluster, settings, drives)
        try:
            _watch(cluster, job, len(drives), outcomes)
        except KeyboardInterrupt:
            job.cancel()
            _finish(settings, outcomes, perf_counter() - start, cluster)
            words = f"{len(outcomes)} of {len(drives)} drives are in {out}; the same command goes on."
            raise KeyboardInterrupt(words) from None
        _finish(settings, outcomes, perf_counter() - start, cluster)
    if any(outcome.state == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def _settings(out: str, bundle: str | None, config: Path | None, segment_s: float) -> DetectionSettings:
    from peft_dml_ros.nodes.parameter_file import NodeParams
    from peft_dml_tools.fleet.settings import fleet_settings
    from peft_dml_tools.parameter_files import load_params

    params = load_params(config, model=NodeParams) if config else NodeParams()
    return fleet_settings(out, params.model_copy(update={"bundle": bundle} if bundle else {}), segment_s)


def _watch(cluster: Cluster, job: FleetRun, total: int, outcomes: list[DriveOutcome]) -> None:
    """Run to the end with a line of progress."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console()
    if cluster.dashboard:
        console.print(f"Ray dashboard: http://{cluster.dashboard}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("drives", total=total)

        def show() -> None:
            words = f"drives ({cluster.nodes} nodes, {cluster.cores} cores, {job.segments_done} segments)"
            progress.update(task, completed=len(outcomes), description=words)

        for outcome in job.outcomes(show):
            outcomes.append(outcome)
            if outcome.state == "failed":
                console.print(f"[red]failed[/] {outcome.drive.label}: {outcome.reason}")
        show()


def _finish(settings: DetectionSettings, outcomes: list[DriveOutcome], wall_s: float, cluster: Cluster) -> None:
    """Write fleet.json and the report, and say what is there."""
    from peft_dml_tools.fleet.report import fleet_page
    from peft_dml_tools.fleet.running import fleet_json, summarise
    from peft_dml_tools.fleet.storage import ResultStore

    store = ResultStore(settings.out)
    summary = summarise(outcomes, wall_s, cluster.cores)
    store.write("fleet.json", fleet_json(summary))
    store.write("fleet.html", fleet_page(summary, outcomes, store))
    states = ", ".join(f"{summary[name]} {name}" for name in ("done", "kept", "same", "failed"))
    typer.echo(
        f"{summary['drives']} drives: {states}; {summary['frames']} frames of {summary['driven_s']:.0f} s driven in "
        f"{wall_s:.0f} s. {settings.out}/: fleet.html, fleet.json, drives/"
    )


@fleet.command()
def evaluate(
    data: Annotated[Path, typer.Argument(help="nuScenes folder, real or simulated, seen by all nodes")],
    split: Annotated[str, typer.Option(help="Split or scene; every scene if empty")] = "",
    sensors: Annotated[str, typer.Option(help="Only these sensors and modalities, e.g. camera,radar")] = "",
    out: Annotated[Path, typer.Option(help="Folder for results.json and scores.json")] = Path("fleet_evaluation"),
    address: Address = "local",
    workers: Workers = 0,
    bundle: BundleOption = None,
    config: Config = None,
    memory_mb: MemoryMb = 1500,
) -> None:
    """Score the keyframes of many scenes by nuscenes-devkit, as one set."""
    from peft_dml_tools.datasets.nuscenes import NuScenesReader
    from peft_dml_tools.fleet.cluster import connected
    from peft_dml_tools.fleet.evaluation import evaluate_scenes

    reader = NuScenesReader(data, allow_missing=True)
    scenes = sorted({reader.scene_of(token) for token in reader.samples(split or None)})
    claim_folder(out, "scores.json", "results.json")
    settings = _settings(str(out), bundle, config, 0.0)
    with connected(address, memory_mb, workers) as cluster:
        scores = evaluate_scenes(cluster, settings, data, scenes, sensors, out)
    write_json(out / "scores.json", scores)
    typer.echo(f"{len(scenes)} scenes: mAP {scores['mean_ap']:.3f}, NDS {scores['nd_score']:.3f}; {out}/scores.json")


@fleet.command()
def mine(
    data: Annotated[list[Path], typer.Argument(help="nuScenes folders; bags become such by `peft-dml bag import`")],
    out: Annotated[Path, typer.Option(help="nuScenes folder to write, for `peft-dml-train adapt`")] = Path("mined"),
    count: Annotated[int, typer.Option(min=1, help="Keyframes wanted")] = 40,
    random: Annotated[
        Optional[int], typer.Option(min=0, help="Draw them at random from this seed instead, to compare with")
    ] = None,
    address: Address = "local",
    workers: Workers = 0,
    bundle: BundleOption = None,
    config: Config = None,
    memory_mb: MemoryMb = 1500,
) -> None:
    """Find the keyframes that are worth a label: disagreement of sensors, doubt, flicker, novelty."""
    from peft_dml_tools.fleet.cluster import connected
    from peft_dml_tools.fleet.mining_job import draw_folders, mine_folders

    if random is None:
        settings = _settings(str(out), bundle, config, 0.0)
        with connected(address, memory_mb, workers) as cluster:
            chosen, candidates = mine_folders(cluster, settings, data, out, count)
    else:
        chosen, candidates = draw_folders(data, out, count, random)
    typer.echo(f"{len(chosen)} of {candidates} keyframes in {out}; why each was chosen: {out}/mined.json")
