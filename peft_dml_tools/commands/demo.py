# SPDX-License-Identifier: Apache-2.0
"""`peft-dml demo`: drive, break sensors, watch the boxes; a whole ROS 2 session with a report, in one command."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from peft_dml_tools.demo.session import Plan
    from peft_dml_tools.evaluation.metrics import Results
    from peft_dml_tools.evaluation.recording import Recording


class Discovery(str, Enum):
    """How far ROS 2 looks for other nodes."""

    LOCALHOST = "LOCALHOST"
    SUBNET = "SUBNET"
    SYSTEM_DEFAULT = "SYSTEM_DEFAULT"


def demo(
    source: Annotated[
        Optional[Path], typer.Option(help="Play this bag or nuScenes folder instead of a synthetic drive.")
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
) -> None:
    """Drive, break sensors, watch the boxes: a whole ROS 2 session with a report, in one command.

    A replay process plays the drive in real time over DDS into the perception node, while LiDAR, cameras and a radar
    fail on schedule. Everything lands in demo_out/: report.html, detections.mcap, metrics.json, picture.png.

    Examples:
      peft-dml demo
      peft-dml demo --source drive.mcap --no-faults
    """
    import os
    from tempfile import TemporaryDirectory

    # The simulator's matrices are thin: threads that wait for each other would cost more than they bring.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from rich.console import Console

    from peft_dml_ros.cli.environment import alone_in
    from peft_dml_tools.demo.session import Plan, play, prepare
    from peft_dml_tools.live.children import ended_in_order

    console = Console()
    plan = Plan(source, scene, seconds, seed, no_faults, faults, out, bundle, domain_id, discovery.value)
    with (
        ended_in_order(),
        alone_in(domain_id),
        TemporaryDirectory(prefix="peft_dml_") as scratch,
        _Steps(console) as steps,
    ):
        drive = prepare(plan, Path(scratch), steps)
        played, problem = play(plan, drive, Path(scratch), steps)
        if problem is not None:
            _tell(console, problem, out)
        recording, results = _report(plan, played, steps)
    _show(console, plan, recording, results)


class _Steps:
    """A progress bar per step: what `demo_session` reports to."""

    def __init__(self, console: Any) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description:<12}"), BarColumn(40), TextColumn("{task.fields[words]}"))
        self._progress = Progress(*columns, TimeElapsedColumn(), console=console)
        self._current: Any = None

    def __enter__(self) -> _Steps:  # noqa: PYI034  typing.Self needs Python 3.11
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, name: str, total: float | None = None, words: str = "") -> None:
        """Start the next step; the one before is done."""
        self.finish()
        self._current = self._progress.add_task(name, total=total, words=words)

    def update(self, completed: float, words: str = "") -> None:
        """How far the step is."""
        self._progress.update(self._current, completed=completed, words=words)

    def finish(self, words: str | None = None) -> None:
        """Mark the current step as done."""
        if self._current is not None:
            task = next(t for t in self._progress.tasks if t.id == self._current)
            total = task.total or 1.0
            shown = task.fields["words"] if words is None else words
            self._progress.update(self._current, total=total, completed=total, words=shown)
            self._current = None


def _tell(console: Any, problem: str, out: Path) -> None:
    from rich.text import Text

    console.print(Text.assemble(("error: ", "bold red"), (problem, "red")), soft_wrap=True)
    console.print(f"What was recorded until then is kept in [bold]{out}/[/].")
    raise typer.Exit(1)


def _report(plan: Plan, played: Any, steps: _Steps) -> tuple[Recording, Results]:
    import json

    from peft_dml_tools.demo.picture import write_picture
    from peft_dml_tools.evaluation.metrics import evaluate
    from peft_dml_tools.live.readback import read_session
    from peft_dml_tools.report.build import write_report

    steps.begin("report", 4, "reading the recording")
    recording = read_session(plan.bag, played)
    steps.update(1, "matching boxes with truth")
    results = evaluate(recording)
    for name, tree in (("metrics.json", results.metrics), ("scores.json", results.scores)):
        (plan.out / name).write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    steps.update(2, "drawing")
    write_picture(recording, plan.out / "picture.png")
    write_report(recording, results, plan.out / "report.html", details=plan.details)
    steps.finish("report.html, metrics.json, picture.png")
    return recording, results


def _show(console: Any, plan: Plan, recording: Recording, results: Results) -> None:
    from peft_dml_tools.evaluation.tables import accuracy_table, reasons_table, sensors_table, timing_table

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
    console.print(f"Open [bold]{plan.out / 'report.html'}[/] in a browser, {plan.bag} in Foxglove.")
