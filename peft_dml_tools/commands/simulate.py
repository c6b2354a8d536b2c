# SPDX-License-Identifier: Apache-2.0
"""`peft-dml simulate`: a data set of simulated scenes in nuScenes format."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peft_dml_tools.sim.drive import DriveSpec

VERSION = "v1.0-sim"
Settings: TypeAlias = dict[str, float | str]
FIRST_SCENE = 5000
"""Scene numbers start here, clear of the official ones."""


def simulate(
    out: Annotated[Path, typer.Option(help="Folder to write; a run that was cut short goes on where it was")],
    scenes: Annotated[int, typer.Option(min=1, max=4999, help="Number of scenes")] = 10,
    seconds: Annotated[float, typer.Option(min=1.5, max=60.0, help="Length of a scene")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same seed gives the same files")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the files do not depend on it")] = 1,
    image_width: Annotated[int, typer.Option(min=64, max=1600, help="Width of the pictures in pixels")] = 352,
    camera_hz: Annotated[float, typer.Option(min=0, max=30, help="Pictures a second; 2 gives keyframes only")] = 2.0,
    lidar_hz: Annotated[float, typer.Option(min=2, max=20, help="LiDAR turns a second")] = 20.0,
    lidar_height: Annotated[float, typer.Option(min=1.5, max=3.0, help="Height of the LiDAR in m")] = 1.84,
    lidar_beams: Annotated[int, typer.Option(help="Beams of the LiDAR: 32, 16 or 8")] = 32,
    focal: Annotated[float, typer.Option(min=0.5, max=2.0, help="Focal lengths, times nuScenes'")] = 1.0,
    weather: Annotated[str, typer.Option(help="clear, fog=50 (visibility in m), rain=25 or snow=5 (mm/h)")] = "clear",
    splits: Annotated[str, typer.Option(help="Shares of sim_train, sim_val, sim_test")] = "0.8,0.1,0.1",
) -> None:
    """Write simulated scenes as a nuScenes folder (tables, samples, sweeps, CAN bus, maps)."""
    # One thread each: the matrices are thin, and threads that wait for each other cost more than they bring.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from rich.console import Console
    from rich.progress import track

    from peft_dml_tools.datasets.nuscenes_writer_tables import finish, scene_file
    from peft_dml_tools.sim.drive import DriveSpec
    from peft_dml_tools.sim.vehicle_rig import make_rig
    from peft_dml_tools.sim.weather import Weather

    console = Console()
    names = [f"scene-{FIRST_SCENE + i:04d}" for i in range(scenes)]
    parts = split_names(names, splits)
    layout = _layout(lidar_height, lidar_beams, focal)
    spec = DriveSpec(
        image_width_px=image_width, camera_hz=camera_hz, lidar_hz=lidar_hz, weather=Weather.parse(weather), **layout
    )
    rates: Settings = {"image_width": image_width, "camera_hz": camera_hz, "lidar_hz": lidar_hz, "weather": weather}
    _check_settings(out, {"seconds": seconds, "seed": seed, **rates, **layout})
    todo = [(i, n) for i, n in enumerate(names) if not scene_file(out, VERSION, n).is_file()]
    jobs = [(str(out), name, seed * 100_000 + i, seconds, spec) for i, name in todo]
    for _ in track(_run(jobs, workers), f"Simulating {len(jobs)} of {scenes} scenes", len(jobs), console=console):
        pass
    finish(out, VERSION, make_rig(image_width, spec.lidar_height_m, spec.focal_scale), parts)
    console.print(f"{scenes} scenes in {out} ({VERSION}): {', '.join(f'{k} {len(v)}' for k, v in parts.items())}")


def _layout(height_m: float, beams: int, focal: float) -> dict[str, Any]:
    """What differs from a nuScenes car, by the names of `DriveSpec`.

    Raises:
        ConfigError: no such number of beams.
    """
    from peft_dml_ros.core.errors import ConfigError
    from peft_dml_tools.sim.schedule import DriveSpec

    if beams not in {32, 16, 8}:
        msg = f"--lidar-beams {beams}: choose 32, 16 or 8"
        raise ConfigError(msg)
    given = {"lidar_height_m": height_m, "lidar_beams": beams, "focal_scale": focal}
    return {name: value for name, value in given.items() if value != DriveSpec.model_fields[name].default}


def split_names(names: list[str], shares: str) -> dict[str, list[str]]:
    """Scene names by split, in order.

    Raises:
        ConfigError: `shares` are not three numbers that sum to 1.
    """
    from peft_dml_ros.core.errors import ConfigError

    try:
        parts = [float(share) for share in shares.split(",")]
    except ValueError:
        parts = []
    if len(parts) != 3 or min(parts) < 0 or abs(sum(parts) - 1) > 1e-6:
        msg = f"--splits '{shares}' must be three shares that sum to 1, for example 0.8,0.1,0.1"
        raise ConfigError(msg)
    ends = [round(len(names) * end) for end in itertools.accumulate(parts)]
    return dict(
        zip(("sim_train", "sim_val", "sim_test"), (names[a:b] for a, b in itertools.pairwise([0, *ends])), strict=True)
    )


def _check_settings(out: Path, settings: Settings) -> None:
    """Refuses to go on in a folder that was begun with other settings; notes them in a new one."""
    import json

    from peft_dml_ros.core.errors import ConfigError
    from peft_dml_tools.datasets.nuscenes_writer_files import write_json

    note = out / VERSION / "simulate.json"
    if note.is_file():
        before = json.loads(note.read_text(encoding="utf-8"))
        changed = [f"{k} {before.get(k)} -> {v}" for k, v in settings.items() if before.get(k) != v]
        if changed:
            msg = f"{out} was begun with other settings ({', '.join(changed)}); use them, or another --out"
            raise ConfigError(msg)
    write_json(note, settings)


Job: TypeAlias = "tuple[str, str, int, float, DriveSpec]"
"""Folder, scene, seed, seconds, and what the sensors are."""


def write_one(job: Job) -> str:
    """Simulates and writes one scene; returns its name."""
    from peft_dml_tools.datasets.nuscenes_writer import write_scene
    from peft_dml_tools.sim.drive import Drive

    root, name, seed, seconds, spec = job
    drive = Drive(seed, seconds, spec, name=name)
    stamps: dict[str, list[int]] = {}
    for event in drive.events:
        stamps.setdefault(event.sensor, []).append(event.stamp_ns)
    write_scene(Path(root), VERSION, name, drive, stamps)
    return name


def _run(jobs: list[Job], workers: int) -> Iterator[str]:
    if workers == 1:
        yield from map(write_one, jobs)
        return
    from peft_dml_tools.sim.workers import in_processes

    yield from in_processes(write_one, jobs, workers, ahead=2 * workers)


if __name__ == "__main__":
    typer.run(simulate)
