# SPDX-License-Identifier: Apache-2.0
"""`peft-dml demo`: drive, break sensors, watch the boxes; a whole ROS 2 session with a report, in one command."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from peft_dml_tools.demo.progress import StepProgress
    from peft_dml_tools.demo.session import DemoRequest, SessionOutcome
    from peft_dml_tools.evaluation.metrics import SessionMetrics
    from peft_dml_tools.evaluation.recording import Recording


class Discovery(str, Enum):
    """How far ROS 2 looks for other nodes."""

    LOCALHOST = "LOCALHOST"
    SUBNET = "SUBNET"
    SYSTEM_DEFAULT = "SYSTEM_DEFAULT"


def demo(
    source: Annotated[
        Optional[Path], typer.Option(help="Play this bag or folder (see `run`) instead of a synthetic drive.")
    ] = None,
    config: Annotated[
        Optional[Path], typer.Option(help="Parameter file of the node: topics, base frame, calibration of --source.")
    ] = None,
    scene: Annotated[Optional[str], typer.Option(help="Scene of a nuScenes folder; the first otherwise.")] = None,
    seconds: Annotated[float, typer.Option(min=2.0, max=60.0, help="Length; memory holds all of it.")] = 12.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the synthetic drive.")] = 3,
    no_faults: Annotated[bool, typer.Option("--no-faults", help="Leave all sensors alone.")] = False,
    faults: Annotated[Optional[Path], typer.Option(help="Fault script (YAML) instead of the built-in one.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the bag, the report and the metrics.")] = Path("demo_out"),
    bundle: Annotated[str, typer.Option(help="Model bundle: a folder or the name of an installed one.")] = "demo",
    domain_id: Annotated[int, typer.Option(min=0, max=232, help="ROS domain of the demo.")] = 77,
    discovery: Annotated[
        Discovery, typer.Option(help="SUBNET lets other machines see it; SYSTEM_DEFAULT keeps the environment's.")
    ] = Discovery.LOCALHOST,
    view: Annotated[bool, typer.Option("--view", help="Show the drive live in Foxglove, and print the link")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port of --view; 0 takes a free one")] = 8765,
) -> None:
    """Drive, break sensors, watch the boxes: a whole ROS 2 session with a report, in one command.

    A replay process plays the drive in real time over DDS into the perception node, while LiDAR, cameras and a radar
    fail on schedule. Everything lands in demo_out/: report.html, detections.mcap, metrics.json, picture.png.

    Examples:
      peft-dml demo
      peft-dml demo --source drive.mcap --no-faults
    """
    import os
    from functools import partial

    # The simulator's matrices are thin: threads that wait for each other would cost more than they bring.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from rich.console import Console

    from peft_dml_tools.demo.progress import StepProgress
    from peft_dml_tools.demo.session import DemoRequest, play, prepare
    from peft_dml_tools.live.children import graceful_exit
    from peft_dml_tools.live.environment import alone_in
    from peft_dml_tools.live.interrupts import explained
    from peft_dml_tools.live.scratch import scratch_folder

    console = Console()
    how = (no_faults, faults, out, bundle, domain_id, discovery.value, config, view, port)
    request = DemoRequest(source, scene, seconds, seed, *how)
    with (
        explained(partial(_interrupted, request)),
        graceful_exit(),
        alone_in(domain_id, out),
        scratch_folder() as scratch,
        StepProgress(console) as steps,
    ):
        drive = prepare(request, scratch, steps)
        outcome = play(request, drive, scratch, steps)
        reported = None if outcome.problem else _report(request, outcome, steps)
    if reported is None:
        _fail(console, outcome.problem, out)
    else:
        _show(console, request, *reported)


def _interrupted(request: DemoRequest) -> str:
    kept = f"what was recorded until then is in {request.bag}" if request.bag.exists() else "nothing was recorded yet"
    return f"{kept}; the same command starts from the beginning."


def _fail(console: Any, problem: str, out: Path) -> None:
    from rich.text import Text

    console.print(Text.assemble(("error: ", "bold red"), (problem, "red")), soft_wrap=True)
    console.print(f"What was recorded until then is kept in [bold]{out}/[/].")
    raise typer.Exit(1)


def _report(request: DemoRequest, outcome: SessionOutcome, steps: StepProgress) -> tuple[Recording, SessionMetrics]:
    import os

    from peft_dml_tools.atomic_files import write_json
    from peft_dml_tools.demo.picture import write_picture
    from peft_dml_tools.evaluation.metrics import evaluate
    from peft_dml_tools.live.readback import read_session
    from peft_dml_tools.report.build import write_report

    steps.begin("report", 4, "reading the recording")
    recording = read_session(request.bag, outcome.played)
    steps.step(1, "matching boxes with truth")
    results = evaluate(recording)
    results.metrics["cores"] = {**outcome.cores, "machine": os.cpu_count()}
    write_json(request.out / "metrics.json", results.metrics)
    write_json(request.out / "scores.json", results.scores)
    steps.step(2, "drawing")
    write_picture(recording, request.out / "picture.png")
    write_report(recording, results, request.out / "report.html", details=request.details)
    steps.finish("report.html, metrics.json, picture.png")
    return recording, results


def _show(console: Any, request: DemoRequest, recording: Recording, results: SessionMetrics) -> None:
    from peft_dml_tools.evaluation.tables import accuracy_table, reasons_table, sensors_table, timing_table, too_slow

    metrics = results.metrics
    console.print(sensors_table(metrics))
    console.print(timing_table(metrics, "stamp to publication"))
    if recording.drops:
        console.print(reasons_table(recording.drops))
    console.print(accuracy_table(results))
    console.print(
        f"[bold]{metrics['frames_published']} of {metrics['frames_expected']}[/] frames published, "
        f"[bold]{metrics['frames_published_lidar_out']}[/] of them without LiDAR."
    )
    if slow := too_slow(metrics):
        console.print(f"[bold yellow]{slow}[/]", soft_wrap=True, highlight=False)
    console.print(f"Open [bold]{request.out / 'report.html'}[/] in a browser, {request.bag} in Foxglove.")
