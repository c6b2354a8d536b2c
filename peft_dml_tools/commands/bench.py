# SPDX-License-Identifier: Apache-2.0
"""`peft-dml bench`: measurements of this software, each a JSON file."""

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

bench = typer.Typer(name="bench", help="Measure this software.", no_args_is_help=True, add_completion=False)


@bench.command("data")
def data(
    out: Annotated[Path, typer.Option(help="File to write")] = Path("bench/data.json"),
    work: Annotated[Path, typer.Option(help="Folder for scenes and bags; is removed at the end")] = Path("bench_out"),
    real: Annotated[
        Optional[Path],
        typer.Option(envvar="PEFT_DML_REAL_KEYFRAME", help="Real nuScenes folder, shown next to the table"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Every stage once, in seconds; figures of no worth")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the scenes, for example to draw them")] = False,
) -> None:
    """Seconds and memory of simulate, read, corrupt and export, and how near the simulator comes to nuScenes.

    Takes about ten minutes on one core. A run that was cut short goes on where it was.
    """
    from rich.console import Console

    from peft_dml_tools.atomic_files import write_json
    from peft_dml_tools.bench.data import QUICK, BenchmarkPlan, DataBenchmark

    console = Console(stderr=True)
    repository = Path(__file__).resolve().parents[2]
    with console.status("starting") as status:
        benchmark = DataBenchmark(QUICK if quick else BenchmarkPlan(), work, repository, real, status.update)
        figures = benchmark.run()
    write_json(out, figures)
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


@bench.command("fleet")
def fleet(
    out: Annotated[Path, typer.Option(help="File to write")] = Path("bench/fleet.json"),
    work: Annotated[Path, typer.Option(help="Folder for drives and results; is removed at the end")] = Path(
        "fleet_bench_out"
    ),
    bundle: Annotated[str, typer.Option(help="Bundle: folder or name")] = "demo",
    drives: Annotated[int, typer.Option(min=3, help="Short drives of the run with a lost node")] = 1000,
    quick: Annotated[bool, typer.Option("--quick", help="Everything once, in a minute; figures of no worth")] = False,
) -> None:
    """Speed-up of fleet jobs on two cores, cost of the engine, and many drives while a node dies.

    Takes eight minutes and 4 GB of disk on two cores. docs/make_fleet.py puts the figures into the page.
    """
    from dataclasses import replace

    from peft_dml_tools.atomic_files import write_json
    from peft_dml_tools.bench.fleet import QUICK, FleetPlan, measure_fleet

    plan = QUICK if quick else replace(FleetPlan(), many=drives)
    figures = measure_fleet(plan, bundle, work, Path(__file__).resolve().parents[2])
    write_json(out, figures)
    typer.echo(
        f"{out}: {figures['speedup_2_cores']:.2f} x on two cores, engine {figures['overhead_pct']:.1f} % of the work, "
        f"{figures['drives']} drives with {figures['nodes_killed']} node killed: {figures['lost']} lost"
    )


@bench.command("engines")
def engines(
    out: Annotated[Path, typer.Option(help="File to write")] = Path("bench/engines.json"),
    bundle: Annotated[str, typer.Option(help="Bundle to measure: folder or name")] = "demo",
    int8: Annotated[
        str, typer.Option(help="The same bundle in 8 bit (peft-dml-train export --precision int8), for the ratio")
    ] = "",
    compare: Annotated[Optional[Path], typer.Option(help="An older file, compared with the new one")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Everything once, in seconds; figures of no worth")] = False,
) -> None:
    """Time of every engine and stage, for all subsets of sensors and growing inputs, without ROS.

    Takes about five minutes on one core.
    """
    import json

    from rich.console import Console

    from peft_dml_tools.bench.engines import QUICK, EngineBenchmark, EnginePlan

    console = Console(stderr=True)
    older = json.loads(compare.read_text(encoding="utf-8")) if compare else None
    repository = Path(__file__).resolve().parents[2]
    with console.status("loading") as status:
        plan = QUICK if quick else EnginePlan()
        report = EngineBenchmark(plan, bundle, int8 or None, repository, status.update).run()
    _tell(report, out, older)


@bench.command("live")
def live(
    out: Annotated[Path, typer.Option(help="File to write")] = Path("bench/live.json"),
    bundle: Annotated[str, typer.Option(help="Bundle to measure: folder or name")] = "demo",
    minutes: Annotated[float, typer.Option(min=0.1, max=1440.0, help="With all sensors; subsets come on top")] = 10.0,
    image_width: Annotated[int, typer.Option(min=64, max=1600, help="Width of the pictures, 16:9")] = 1600,
    threads: Annotated[int, typer.Option(min=0, max=64, help="Of the engine, as the node's parameter")] = 0,
    engine: Annotated[str, typer.Option(help="As the node's parameter")] = "auto",
    drive: Annotated[Optional[Path], typer.Option(help="Drive this bag in circles, instead of a simulated one")] = None,
    compare: Annotated[Optional[Path], typer.Option(help="An older file, compared with the new one")] = None,
    domain_id: Annotated[int, typer.Option(min=0, max=232, help="ROS domain, apart from any vehicle")] = 79,
    against: Annotated[
        Optional[Path], typer.Option(help="Instead: the demo's drive with this build, and with that checkout or bundle")
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, max=20, help="With --against: sessions of each side and load")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Everything once, in seconds; figures of no worth")] = False,
) -> None:
    """Measure the real node over DDS at nuScenes' rates: latency, overhead beyond the engines, pace, memory, drops.

    Takes the minutes asked for, and seven more: for the simulated drive, subsets of the sensors, and a minute each
    without the recorder and with one core taken by another process.

    Examples:
      peft-dml bench live
      peft-dml bench live --against ../before --pairs 5 --out against.json
    """
    import os
    from contextlib import nullcontext
    from dataclasses import replace

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from rich.console import Console

    from peft_dml_ros.core.errors import ConfigError
    from peft_dml_tools.bench.against import SHORT, ComparisonPlan, compare_builds, sides
    from peft_dml_tools.bench.live import QUICK, LivePlan
    from peft_dml_tools.bench.live_run import LiveOptions, run_live
    from peft_dml_tools.bench.summary import read_report
    from peft_dml_tools.live.children import graceful_exit
    from peft_dml_tools.live.environment import alone_in, require_ros
    from peft_dml_tools.live.scratch import scratch_folder

    require_ros()
    if compare and not compare.is_file():
        raise ConfigError(f"--compare {compare}: there is no such file; fix: name an older report, or leave it out")
    older = read_report(compare) if compare else None
    plan = QUICK if quick else replace(LivePlan(), minutes=minutes, image_width_px=image_width)
    options = LiveOptions(bundle, threads, engine, drive, domain_id, Path(__file__).resolve().parents[2])
    # What is wrong is said before anything starts.
    both = sides(against, options.repository, bundle) if against else {}
    console = Console(stderr=True)
    with (
        graceful_exit(),
        nullcontext() if both else alone_in(domain_id),
        scratch_folder() as scratch,
        console.status("starting") as status,
    ):
        if both:
            comparison = replace(SHORT if quick else ComparisonPlan(), pairs=pairs)
            report = compare_builds(both, comparison, domain_id, scratch, status.update, drive)
        else:
            report = run_live(plan, options, scratch, status.update)
    _tell(report, out, older)


@bench.command("tracking")
def tracking(
    out: Annotated[Path, typer.Option(help="File to write")] = Path("docs/results/tracking.json"),
    bundle: Annotated[str, typer.Option(help="Bundle: folder or name")] = "demo",
    first_seed: Annotated[
        int, typer.Option(min=0, help="Seed of the first drive; the tracker was tuned on 901-906")
    ] = 921,
    drives: Annotated[int, typer.Option(min=1, max=1000, help="Simulated drives, each with the next seed")] = 10,
) -> None:
    """Tracks of simulated drives whose LiDAR dies: AMOTA and id switches by nuscenes-devkit, recall, cost.

    Takes about ten minutes on one core.
    """
    from rich.console import Console

    from peft_dml_tools.atomic_files import write_json
    from peft_dml_tools.run.tracking import TrackedDrive, drive, measure

    console = Console(stderr=True)
    runs: list[TrackedDrive] = []
    with console.status("") as status:
        for seed in range(first_seed, first_seed + drives):
            status.update(f"drive {len(runs) + 1} of {drives}")
            runs.append(drive(seed, bundle))
        status.update("scoring")
        figures = measure(runs) | {"bundle": bundle, "first_seed": first_seed}
    write_json(out, figures)
    recall, ratio = figures["recall_after_lidar_dies"], figures["recall_after_lidar_dies_ratio"]
    Console().print(
        f"{out}: AMOTA {figures['amota']:.3f}, {figures['id_switches']:.0f} id switches; recall in the 3 s after the "
        f"LiDAR dies {recall:.3f}, {ratio:.2f} x that of the detections; {figures['ms_per_100_objects']:.2f} ms for "
        "100 objects",
        soft_wrap=True,
    )


@bench.command("summary")
def summary(
    engines_file: Annotated[Path, typer.Option("--engines", help="Of `bench engines`")] = Path("bench/engines.json"),
    live_file: Annotated[Path, typer.Option("--live", help="Of `bench live`")] = Path("bench/live.json"),
    against_file: Annotated[Path, typer.Option("--against", help="Of `bench live --against`")] = Path(
        "bench/against.json"
    ),
    out: Annotated[Path, typer.Option(help="File to write; verdicts.json goes next to it")] = Path(
        "bench/summary.json"
    ),
) -> None:
    """Gather the figures that have a target; verdicts.json says which are met, and where the time goes in a miss."""
    from rich.console import Console
    from rich.table import Table

    from peft_dml_tools.atomic_files import write_json
    from peft_dml_tools.bench.summary import AGAINST, ENGINES, LIVE, TARGETS, judge, read_report, summarise

    files = {ENGINES: engines_file, LIVE: live_file, AGAINST: against_file}
    reports = {source: read_report(path) for source, path in files.items()}
    gathered = summarise(reports)
    judged = judge(gathered, reports)
    verdicts = out.with_name("verdicts.json")
    write_json(out, gathered)
    write_json(verdicts, judged)
    table = Table("figure", "value", "target", "")
    for name, target in TARGETS.items():
        verdict = {True: "met", False: "[red]missed[/]", None: judged["missing"].get(name, "")}
        value = "–" if gathered[name] is None else f"{gathered[name]:g}"
        table.add_row(name, value, target.words, verdict[judged["met"].get(name)])
    console = Console(soft_wrap=True)
    console.print(table)
    for name in judged["misses"]:
        console.print(f"missed: {name} is {gathered[name]:g}, wanted {TARGETS[name].words}")
    if judged["misses"]:
        console.print(f"Where the time of each goes is in {verdicts}, under 'misses'.")


def _tell(report: dict[str, Any], out: Path, older: dict[str, Any] | None) -> None:
    """Write the file; show its summary, and an older file next to it."""
    from rich.console import Console
    from rich.table import Table

    from peft_dml_tools.atomic_files import write_json
    from peft_dml_tools.bench.against import flat
    from peft_dml_tools.bench.engines import compare

    write_json(out, report)
    table = Table("figure", "value")
    for name, value in (flat(report["loads"]) if "loads" in report else report["summary"]).items():
        table.add_row(name, str(value))
    Console().print(table)
    if older is not None:
        compared = Table("figure", "before", "now", "ratio")
        for name, before, now in sorted(compare(older, report)):
            compared.add_row(name, f"{before:g}", f"{now:g}", f"{now / before:.2f}" if before else "")
        Console().print(compared)
