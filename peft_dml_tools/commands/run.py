# SPDX-License-Identifier: Apache-2.0
"""`peft-dml run`: detect in a bag or folder of recordings at full CPU speed, draw, and measure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Optional

import typer

from peft_dml_tools.atomic_files import claim_folder, write_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from peft_dml_ros.core.errors import DataError
    from peft_dml_tools.evaluation.metrics import SessionMetrics
    from peft_dml_tools.evaluation.recording import RecordedFrame, Recording
    from peft_dml_tools.evaluation.scoring import Score
    from peft_dml_tools.run.offline import OfflineDetector
    from peft_dml_tools.run.reading_check import ReadingCheck
    from peft_dml_tools.run.sources import MeasurementHistory, RunSource

MOST_OTHERS: Final = 6  #: Topics of a bag that are shown though no sensor is read from them
RESULTS: Final = ("report.html", "run.json", "timing.csv")  #: Files that are written at the end
#: Only the first seconds of a long source are drawn: their measurements have to be kept in memory
REPORT_S: Final = 30.0


def run(
    source: Annotated[
        Path, typer.Argument(help="A bag, or a folder: nuScenes, T4, KITTI, Argoverse 2, or .pcd, .ply, .bin sweeps.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for boxes, timing, pictures and the report.")] = Path("run_out"),
    bundle: Annotated[
        Optional[str], typer.Option(help="Model bundle: a folder or the name of an installed one; demo otherwise.")
    ] = None,
    sensors: Annotated[str, typer.Option(help="Only these: names and modalities, e.g. camera,RADAR_FRONT.")] = "",
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Stop after so many seconds of the source; 0 takes all.")
    ] = 0.0,
    scene: Annotated[Optional[str], typer.Option(help="Scene of a nuScenes folder; the first otherwise.")] = None,
    weather: Annotated[str, typer.Option(help="fog=50 (visibility in m), rain=25 or snow=5 (mm/h).")] = "clear",
    faults: Annotated[Optional[Path], typer.Option(help="Fault script (YAML), as for the replay.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the weather's randomness.")] = 0,
    config: Annotated[Optional[Path], typer.Option(help="Parameter file, as for the node.")] = None,
) -> None:
    """Detect in a bag or a folder of recordings at full CPU speed; draws boxes and measures time and accuracy.

    Examples:
      peft-dml run drive.mcap --weather rain=25
      peft-dml run /data/nuscenes --scene scene-0061 --sensors camera,radar
    """
    from functools import partial

    from rich.console import Console

    from peft_dml_ros.core.errors import DataError
    from peft_dml_ros.nodes.parameter_file import NodeParams
    from peft_dml_tools.datasets.bag_options import BagOptions, without_offsets
    from peft_dml_tools.datasets.source import is_bag
    from peft_dml_tools.live.interrupts import explained
    from peft_dml_tools.parameter_files import load_params
    from peft_dml_tools.run.accuracy import scores_by_present
    from peft_dml_tools.run.offline import OfflineDetector, chosen_sensors
    from peft_dml_tools.run.sources import MeasurementHistory, open_run_source
    from peft_dml_tools.sim.faults import load_faults

    console = Console()
    params = load_params(config, model=NodeParams) if config else NodeParams()
    options = BagOptions.of(params, str(config or ""))
    params = params.model_copy(update={"bundle": bundle} if bundle else {})
    if is_bag(source):
        params = without_offsets(params)
    script = load_faults(faults) if faults else ()
    opened = open_run_source(source, scene, weather=weather, faults=script, seed=seed, options=options)
    chosen = chosen_sensors(opened.rig, sensors)
    if config and not sensors:
        chosen = tuple(name for name in chosen if name in params.sensors)
    claim_folder(out, "boxes.jsonl")
    for stale in (*out.glob("above_*.png"), *out.glob("cameras_*.png"), *(out / name for name in RESULTS)):
        stale.unlink(missing_ok=True)
    _show_wiring(console, opened, chosen)
    offline, kept = OfflineDetector(params, opened.rig, chosen), MeasurementHistory(REPORT_S)
    try:
        with explained(partial(_interrupted, out)) as check_interrupt:
            frames, wall_s, problem = _detect(console, opened, offline, kept, seconds, out, check_interrupt)
            if not frames:
                _show_hints(console, None, offline)
            recording, results = _evaluate(opened, offline, kept, frames)
            check, scores = opened.check(), scores_by_present(recording.frames)
            _write(out, opened, recording, results, offline, kept, check, scores, wall_s)
    except OSError as error:
        raise DataError(_unwritten(out, error)) from error
    _show_results(console, recording, results, check, scores, wall_s, annotated=bool(opened.truth))
    _show_hints(console, opened, offline)
    console.print(f"\nEverything is in [bold]{out}/[/]: report.html, boxes.jsonl, timing.csv, run.json and pictures.")
    if problem is not None:
        raise problem


def _interrupted(out: Path) -> str:
    """Say what is there."""
    with (out / "boxes.jsonl").open(encoding="utf-8") as lines:
        count = sum(1 for line in lines if line.endswith("\n"))
    return f"the boxes of {count} frames are in {out / 'boxes.jsonl'}; the same command starts from the beginning."


def _unwritten(out: Path, error: OSError) -> str:
    """Say what happened."""
    where = f"{error.filename or out}: {error.strerror or error}"
    return f"cannot write {where}; fix: make room or choose another --out, then run again; boxes.jsonl ends early"


def _show_wiring(console: Any, source: RunSource, chosen: tuple[str, ...]) -> None:
    from rich.table import Table

    from peft_dml_ros.conversions.topics import CAMERA_INFO, SENSOR_TYPES
    from peft_dml_ros.core.rig import modality_of_channel

    table = Table(title=source.words, title_justify="left")
    for head in ("sensor", "modality", "read from", "calibrated", "used"):
        table.add_column(head)
    for sensor in source.rig.sensors.values():
        lacking = sensor.modality == "camera" and sensor.camera is None
        calibrated = "no" if lacking else "assumed" if sensor.name in source.assumed else "yes"
        used = "no" if sensor.name not in chosen else "no: no CameraInfo" if lacking else "yes"
        table.add_row(sensor.name, sensor.modality or "odometry", source.where(sensor), calibrated, used)
    for name, reason in source.left_out.items():
        table.add_row(name, modality_of_channel(name) or "odometry", "", "no", f"no: {reason}")
    console.print(table)
    if others := [t for t, kind in source.unread().items() if kind in SENSOR_TYPES and kind != CAMERA_INFO]:
        more = f" and {len(others) - MOST_OTHERS} more" if others[MOST_OTHERS:] else ""
        words = f"Not read: {', '.join(others[:MOST_OTHERS])}{more}: which sensors? inputs.topics: [SENSOR=TOPIC]"
        console.print(words, soft_wrap=True, markup=False, highlight=False)


def _detect(
    console: Any,
    source: RunSource,
    offline: OfflineDetector,
    kept: MeasurementHistory,
    seconds: float,
    out: Path,
    check: Callable[[], None],
) -> tuple[list[RecordedFrame], float, DataError | None]:
    """Return the frames, the seconds they took, and what ended them early.

    Written line by line, so that an interrupt loses nothing; a source that breaks in the middle counts up to there.
    """
    from time import perf_counter

    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from peft_dml_ros.core.errors import DataError
    from peft_dml_tools.run.files import frame_line

    frames: list[RecordedFrame] = []
    problem: DataError | None = None
    start = perf_counter()
    columns = (SpinnerColumn(), TextColumn("detecting: {task.completed} frames"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, (out / "boxes.jsonl").open("w", encoding="utf-8") as lines:
        task = progress.add_task("", total=None)
        try:
            for frame in source.frames(offline, kept, seconds):
                lines.write(frame_line(frame))
                frames.append(frame)
                progress.advance(task)
                check()
        except DataError as error:
            if not frames:
                raise
            problem = error
    return frames, perf_counter() - start, problem


def _evaluate(
    source: RunSource, offline: OfflineDetector, kept: MeasurementHistory, frames: list[RecordedFrame]
) -> tuple[Recording, SessionMetrics]:
    from peft_dml_ros.core.errors import DataError
    from peft_dml_tools.evaluation.alignment import Alignment
    from peft_dml_tools.evaluation.metrics import evaluate
    from peft_dml_tools.evaluation.recording import Recording

    if not frames:
        detecting = ", ".join(f"{name} ({count})" for name, count in sorted(offline.received.items())) or "nothing"
        refused = "".join(f"; refused: {reason}" for reason in source.refusals())
        unread = ", ".join(f"{topic} ({kind})" for topic, kind in list(source.unread().items())[:6])
        refused += f"; not read: {unread}" if unread else ""
        words = f"{source.words}: no frame came of it; received: {detecting}; fix: give LiDAR, camera or radar{refused}"
        raise DataError(words)
    whole = Recording(source.words, source.rig, (), kept.measurements)
    alignment = Alignment(whole.odometry)
    known = tuple(replace(frame, truth=alignment.truth_at(source.truth, frame.stamp_ns)) for frame in frames)
    recording = replace(whole, frames=known, drops=offline.drops + source.drops, frames_expected=len(known))
    return recording, evaluate(recording)


def _write(
    out: Path,
    source: RunSource,
    recording: Recording,
    results: SessionMetrics,
    offline: OfflineDetector,
    kept: MeasurementHistory,
    check: ReadingCheck | None,
    scores: dict[str, Score],
    wall_s: float,
) -> None:

    from peft_dml_ros import __version__
    from peft_dml_tools.report.build import write_report
    from peft_dml_tools.run.accuracy import accuracy_tree
    from peft_dml_tools.run.files import write_pictures, write_timing

    manifest = offline.bundle.manifest
    summary = {
        "version": __version__,
        "source": source.words,
        "bundle": {"name": manifest.name, "version": manifest.version},
        "wall_s": round(wall_s, 3),
        "frames_per_s": round(len(recording.frames) / wall_s, 2),
        **results.metrics,
        "accuracy": results.scores,
        "accuracy_by_present": accuracy_tree(scores),
        "hints": [hint._asdict() for hint in offline.checks.hints.values()],
        "silent": offline.silent(),
        "reading_check": None
        if check is None
        else {"equal": check.equal, "boxes": check.total, "off_by": check.off_by},
    }
    write_json(out / "run.json", summary)
    write_timing(out / "timing.csv", recording.frames)
    drawn = replace(recording, frames=tuple(f for f in recording.frames if kept.covers(f.stamp_ns)))
    write_pictures(drawn, out)
    write_report(drawn, results, out / "report.html", details=f"Bundle {manifest.name} {manifest.version}.")


def _show_results(
    console: Any,
    recording: Recording,
    results: SessionMetrics,
    check: ReadingCheck | None,
    scores: dict[str, Score],
    wall_s: float,
    *,
    annotated: bool,
) -> None:
    from peft_dml_tools.evaluation.tables import reasons_table, slow_offline, timing_table
    from peft_dml_tools.run.accuracy import accuracy_table

    count = len(recording.frames)
    console.print(f"\n{count} frame{'s' * (count > 1)} in {wall_s:.1f} s: [bold]{count / wall_s:.1f} frames/s[/]")
    console.print(timing_table(results.metrics, "computing, whole frame"))
    if slow := slow_offline(results.metrics):
        console.print(f"[yellow]{slow}[/]", soft_wrap=True, highlight=False)
    if recording.drops:
        console.print(reasons_table(recording.drops))
    console.print(accuracy_table(scores, recording.frames, annotated=annotated))
    if check is not None:
        console.print(
            f"Reading check: in {check.equal} of {check.total} annotated boxes the LiDAR points, counted here, "
            f"equal num_lidar_pts{f' ({check.off_by} points off in the others)' * (check.equal < check.total)}."
        )


def _show_hints(console: Any, source: RunSource | None, offline: OfflineDetector) -> None:
    """Print what looks wrong with the sensors, what was refused of them, and those that fell silent."""
    lines = [str(hint) for hint in offline.checks.hints.values()]
    lines += [f"refused: {reason} [SEN001]" for reason in (source.refusals() if source else ())]
    lines += source.clocks() if source else []
    lines += [f"{name}: {why} [SEN205]; fix: CameraInfo of this resolution" for name, why in offline.unfit.items()]
    lines += [f"{name}: {words} [SEN002]; fix: see why it stopped" for name, words in offline.silent().items()]
    if lines:
        console.print("\nSensors:", style="bold")
    for line in lines:
        console.print(f"  {line}", style="yellow", markup=False, soft_wrap=True)
