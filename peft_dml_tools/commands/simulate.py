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

    from peft_dml_ros.core.rig import Rig
    from peft_dml_tools.sim.drive import DriveSpec

VERSION = "v1.0-sim"
Settings: TypeAlias = dict[str, Any]
#: Counts the changes of the simulator that give other scenes for the same seed: no folder mixes two of them
SIMULATOR = 2


def simulate(
    out: Annotated[Path, typer.Option(help="Folder to write; a run that was cut short goes on where it was")],
    scenes: Annotated[int, typer.Option(min=1, max=4999, help="Number of scenes")] = 10,
    seconds: Annotated[float, typer.Option(min=1.5, max=60.0, help="Length of a scene")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same seed gives the same files")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the files do not depend on it")] = 1,
    image_width: Annotated[int, typer.Option(min=64, max=1600, help="Width of the pictures in pixels")] = 352,
    camera_hz: Annotated[float, typer.Option(min=0, max=30, help="Pictures a second; 2 gives keyframes only")] = 2.0,
    lidar_hz: Annotated[float, typer.Option(min=2, max=20, help="LiDAR turns a second")] = 20.0,
    domain: Annotated[str, typer.Option(help="mixed, source or target (share nothing), or a YAML file")] = "mixed",
    traffic: Annotated[str | None, typer.Option(help="Traffic keeps right, left or both [default: domain's]")] = None,
    streets: Annotated[str | None, typer.Option(help="grid, winding or mixed [default: domain's]")] = None,
    vehicle: Annotated[str | None, typer.Option(help="nuscenes or van [default: domain's]")] = None,
    lidar: Annotated[str | None, typer.Option(help="hdl32e or pandar40p [default: domain's]")] = None,
    lidar_height: Annotated[
        float | None, typer.Option(min=1.5, max=3.0, help="Height of the LiDAR in m [default: vehicle's]")
    ] = None,
    lidar_beams: Annotated[
        int | None, typer.Option(help="Beams that are kept: all, half or a quarter of the LiDAR's [default: all]")
    ] = None,
    focal: Annotated[float, typer.Option(min=0.5, max=2.0, help="Factor on the vehicle's focal lengths")] = 1.0,
    weather: Annotated[
        str | None, typer.Option(help="clear, fog=50 (visibility in m), rain=25 or snow=5 (mm/h) [default: domain's]")
    ] = None,
    depth_stride: Annotated[
        int, typer.Option(min=0, max=64, help="Write the depth of every so many pixels of keyframes; 0 for none")
    ] = 0,
    splits: Annotated[str, typer.Option(help="Shares of sim_train, sim_val, sim_test")] = "0.8,0.1,0.1",
    address: Annotated[
        str, typer.Option(help="Ray cluster that makes the scenes: local, auto or HOST:PORT; none if empty")
    ] = "",
) -> None:
    """Write simulated scenes as a nuScenes folder (tables, samples, sweeps, CAN bus, maps)."""
    # One thread each: the matrices are thin, and threads that wait for each other cost more than they bring.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from functools import partial

    from rich.console import Console
    from rich.progress import track

    from peft_dml_tools.datasets.nuscenes_writer_tables import finish, scene_file
    from peft_dml_tools.live.interrupts import explained
    from peft_dml_tools.sim.domain import Domain, scene_numbers
    from peft_dml_tools.sim.drive import DriveSpec
    from peft_dml_tools.sim.vehicle_rig import make_rig

    console = Console()
    place = Domain.load(
        domain,
        traffic=traffic,
        streets=streets,
        vehicle=vehicle,
        lidar=lidar,
        weather=None if weather is None else (weather,),
    )
    numbers = scene_numbers(place.name, scenes)
    names = [f"scene-{number:04d}" for number in numbers]
    parts = split_names(names, splits)
    spec = DriveSpec(
        image_width_px=image_width,
        camera_hz=camera_hz,
        lidar_hz=lidar_hz,
        lidar_height_m=lidar_height,
        lidar_keep_every=_keep_every(place.lidar, lidar_beams),
        focal_scale=focal,
        domain=place,
        depth_stride_px=depth_stride,
    )
    todo = [(i, n) for i, n in zip(numbers, names, strict=True) if not scene_file(out, VERSION, n).is_file()]
    jobs = [(str(out), name, drive_seed(seed, number), seconds, spec) for number, name in todo]
    rig = make_rig(image_width, spec.lidar_height_m, spec.focal_scale, place.vehicle)
    with explained(partial(_interrupted, out, rig, parts)) as check:
        _check_settings(out, {"seconds": seconds, "seed": seed, "simulator": SIMULATOR, **_settings(spec)})
        for _ in track(
            _run(jobs, workers, address), f"Simulating {len(jobs)} of {scenes} scenes", len(jobs), console=console
        ):
            check()
        finish(out, VERSION, rig, parts)
    console.print(f"{scenes} scenes in {out} ({VERSION}): {', '.join(f'{k} {len(v)}' for k, v in parts.items())}")


def _interrupted(out: Path, rig: Rig, parts: dict[str, list[str]]) -> str:
    """Unite the scenes that are finished, so that the folder is a data set, and say what is there."""
    from peft_dml_tools.datasets.nuscenes_writer_tables import finish, scene_file

    done = {part: [n for n in names if scene_file(out, VERSION, n).is_file()] for part, names in parts.items()}
    count, total = (sum(map(len, split.values())) for split in (done, parts))
    if count:
        finish(out, VERSION, rig, done)
    return f"{count} of {total} scenes are in {out}; the same command goes on."


def drive_seed(seed: int, number: int) -> int:
    """Return the seed of one scene's drive; no two scenes of a seed share it."""
    return seed * 100_000 + (number - 5000) % 100_000


def _settings(spec: DriveSpec) -> Settings:
    """Return what differs from the defaults, as JSON holds it, and the domain."""
    return {**spec.model_dump(mode="json", exclude_defaults=True), "domain": spec.domain.model_dump(mode="json")}


def _keep_every(lidar: str, beams: int | None) -> int:
    """Return which beams of a LiDAR are kept: 1 for all, 2 for every second one, 4 for every fourth.

    Raises ConfigError: the LiDAR has no such number of beams.
    """
    from peft_dml_ros.core.errors import ConfigError
    from peft_dml_tools.sim.lidar import MODELS

    choices = {MODELS[lidar].rings // every: every for every in (1, 2, 4)}
    if beams is None:
        return 1
    if beams not in choices:
        *others, last = map(str, choices)
        msg = f"--lidar-beams {beams}; fix: choose {', '.join(others)} or {last}, as the {lidar} has {max(choices)}"
        raise ConfigError(msg)
    return choices[beams]


def split_names(names: list[str], shares: str) -> dict[str, list[str]]:
    """Return scene names by split, in order. Raises ConfigError: `shares` are not three numbers that sum to 1."""
    from peft_dml_ros.core.errors import ConfigError

    try:
        parts = [float(share) for share in shares.split(",")]
    except ValueError:
        parts = []
    if len(parts) != 3 or min(parts) < 0 or abs(sum(parts) - 1) > 1e-6:
        raise ConfigError(f"--splits '{shares}'; fix: three shares that sum to 1, for example 0.8,0.1,0.1")
    ends = [round(len(names) * end) for end in itertools.accumulate(parts)]
    return dict(
        zip(("sim_train", "sim_val", "sim_test"), (names[a:b] for a, b in itertools.pairwise([0, *ends])), strict=True)
    )


def _check_settings(out: Path, settings: Settings) -> None:
    """Refuse to go on in a folder that was started with other settings; note them in a new one.

    Raises ConfigError: the folder's settings differ; each is named.
    """
    import json

    from peft_dml_ros.core.errors import ConfigError
    from peft_dml_tools.datasets.nuscenes_writer_files import write_table
    from peft_dml_tools.sim.drive import DriveSpec

    note = out / VERSION / "simulate.json"
    if note.is_file():
        before = json.loads(note.read_text(encoding="utf-8"))
        usual = DriveSpec().model_dump(mode="json")
        old, new = usual | before, usual | settings
        changed = [f"{k} {old.get(k)} -> {new.get(k)}" for k in {**old, **new} if old.get(k) != new.get(k)]
        if changed:
            msg = f"{out} was started with other settings ({', '.join(changed)}); fix: use them, or another --out"
            raise ConfigError(msg)
    write_table(note, settings)


Job: TypeAlias = "tuple[str, str, int, float, DriveSpec]"  #: Folder, scene, seed, seconds, and what the sensors are


def write_one(job: Job) -> str:
    """Simulate and write one scene; return its name."""
    from peft_dml_tools.datasets.nuscenes_writer import write_scene
    from peft_dml_tools.datasets.nuscenes_writer_recording import Origin
    from peft_dml_tools.sim.drive import Drive

    root, name, seed, seconds, spec = job
    weather = spec.domain.weather_of(seed)
    drive = Drive(seed, seconds, spec.model_copy(update={"weather": weather}), name=name)
    stamps: dict[str, list[int]] = {}
    for event in drive.events:
        stamps.setdefault(event.sensor, []).append(event.stamp_ns)
    place = spec.domain
    origin = Origin(
        vehicle=f"sim-{place.vehicle}", description=f"Simulated street, domain {place.name}, drive {seed}, {weather}"
    )
    write_scene(Path(root), VERSION, name, drive, stamps, origin)
    return name


def _run(jobs: list[Job], workers: int, address: str) -> Iterator[str]:
    if address:
        from peft_dml_tools.fleet.cluster import every_result

        # On another machine a relative folder would be another one.
        absolute: list[Job] = [(str(Path(job[0]).resolve()), *job[1:]) for job in jobs]
        yield from every_result(write_one, absolute, address, workers)
        return
    if workers == 1:
        yield from map(write_one, jobs)
        return
    from peft_dml_tools.sim.workers import in_processes

    yield from in_processes(write_one, jobs, workers, ahead=2 * workers)


if __name__ == "__main__":
    typer.run(simulate)
