# SPDX-License-Identifier: Apache-2.0
"""`peft-dml bag`: a nuScenes scene as a ROS 2 bag, and a bag as a nuScenes scene."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer

bag = typer.Typer(name="bag", help="ROS 2 bags to and from nuScenes.", no_args_is_help=True, add_completion=False)


@bag.command("export")
def export_(
    dataroot: Annotated[Path, typer.Argument(metavar="DATAROOT", help="nuScenes folder")],
    out: Annotated[Path, typer.Option(help="NAME.mcap or NAME.db3 for one file, any other name for a rosbag2 folder")],
    scene: Annotated[Optional[str], typer.Option(help="Name of the scene; the first by default")] = None,
    version: Annotated[Optional[str], typer.Option(help="Version folder, where there are several")] = None,
    sqlite3: Annotated[bool, typer.Option("--sqlite3", help="SQLite storage in a folder, instead of MCAP")] = False,
    zstd: Annotated[bool, typer.Option("--zstd", help="Compress")] = False,
    topics: Annotated[str, typer.Option(help="Topic names: default, nuscenes2bag or autoware")] = "default",
    display: Annotated[bool, typer.Option(help="Add /tf and the truth as markers, for viewers")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bag, once the new one is whole")] = False,
    derive_gnss: Annotated[bool, typer.Option("--derive-gnss", help="Make satellite fixes of the map poses")] = False,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Carry on without missing files")] = False,
) -> None:
    """Write a scene as a ROS 2 bag: all sweeps and images, calibration, motion and truth.

    A bag is written whole or not at all; after an error, run the same command again.
    """
    from rich.console import Console

    from peft_dml_tools.datasets.bags import write_bag
    from peft_dml_tools.datasets.derived_gnss import FRAME, WithDerivedGnss
    from peft_dml_tools.datasets.nuscenes import NuScenesReader
    from peft_dml_tools.datasets.source import NuScenesSource, WatchedScene

    reader = NuScenesReader(dataroot, version, allow_missing=allow_missing, filter_radar=False)
    source = NuScenesSource(reader, scene)
    with _progress(f"Writing {source.name}") as advance:
        watched = WatchedScene(source, advance)
        path = write_bag(
            WithDerivedGnss(watched, reader.location(source.name)) if derive_gnss else watched,
            out,
            frames={"GNSS": FRAME} if derive_gnss else None,
            compress=zstd,
            sqlite3=sqlite3,
            preset=topics,
            display=display,
            overwrite=overwrite,
        )
    size = sum(p.stat().st_size for p in path.rglob("*")) if path.is_dir() else path.stat().st_size
    counts = f"{len(source.tokens)} keyframes, {len(source.rig.sensors)} sensors, {size / 1e6:.1f} MB"
    Console().print(f"{path}: {source.name}, {counts}", soft_wrap=True)


@bag.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="BAG", help=".mcap, .db3 or (ROS 1) .bag file, or rosbag2 folder")],
    out: Annotated[Path, typer.Option(help="nuScenes folder; scenes that were imported into it before stay")],
    scene: Annotated[Optional[str], typer.Option(help="scene-NNNN; by default the bag's name, or one free")] = None,
    version: Annotated[str, typer.Option(help="Version folder")] = "v1.0-bag",
    topics: Annotated[
        Optional[str], typer.Option(help="default, nuscenes2bag or autoware; found out by default")
    ] = None,
    config: Annotated[
        Optional[Path], typer.Option(help="Parameter file of the node: topics, base frame, calibration")
    ] = None,
    location: Annotated[str, typer.Option(help="Name of the map, for the log table")] = "unknown",
    allow_damaged: Annotated[bool, typer.Option("--allow-damaged", help="Take what a damaged bag still holds")] = False,
    assume_still: Annotated[bool, typer.Option("--assume-still", help="Without odometry: the vehicle stood")] = False,
) -> None:
    """Write a bag as a scene in nuScenes format: 2 keyframes a second, with truth where the bag has it.

    Needs /tf_static, CameraInfo and odometry. An import that was cut short is completed by the same command.
    """
    from rich.console import Console

    from peft_dml_ros.nodes.parameter_file import NodeParams
    from peft_dml_tools.datasets.bag_import import import_bag
    from peft_dml_tools.datasets.bag_options import BagOptions
    from peft_dml_tools.datasets.bags import BagSource
    from peft_dml_tools.parameter_files import load_params

    params = load_params(config, model=NodeParams) if config else NodeParams()
    opened = BagSource(source, preset=topics, options=BagOptions.of(params, str(config or "")))
    console = Console(stderr=True)
    with console.status(f"Reading {source} ({opened.preset} topics)"):
        made = import_bag(
            opened,
            out,
            scene=scene,
            version=version,
            location=location,
            allow_damaged=allow_damaged,
            assume_still=assume_still,
        )
    for name, reason in opened.left_out.items():
        console.print(f"left out: {name}: {reason}; see --config", style="yellow", markup=False, soft_wrap=True)
    for reason, times in made.left_out.items():
        console.print(f"left out: {times} x {reason}", style="yellow", markup=False, soft_wrap=True)
    if made.damage:
        console.print(made.damage, style="yellow", markup=False, soft_wrap=True)
    Console().print(
        f"{out} ({version}): {made.scene}, {made.keyframes} keyframes, {made.files} files, "
        f"{made.annotations} annotations",
        soft_wrap=True,
    )


@contextmanager
def _progress(title: str) -> Iterator[Callable[[float], None]]:
    """Show a progress bar on stderr; yields the function to call with the share that is done."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda share: bar.update(task, completed=share)
