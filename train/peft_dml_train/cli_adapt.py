# SPDX-License-Identifier: Apache-2.0
"""`peft-dml-train adapt`, ten minutes from a few labelled frames to an adapter, and `prepare`, on many machines."""

from pathlib import Path
from typing import Annotated

import typer

LabelsOption = Annotated[
    Path | None,
    typer.Option(help="JSON files, CVAT's Datumaro 3D export or SUSTechPOINTS' labels; DATA's annotations without it"),
]
ClassOption = Annotated[
    list[str] | None, typer.Option("--class", help="Class of a label's name, e.g. pickup=truck; repeatable")
]


def adapt(
    data: Annotated[Path, typer.Option(help="nuScenes folder with 8 to 100 labelled frames")],
    out: Annotated[Path, typer.Option(help="Folder of the adapter; its name is the adapter's")],
    base: Annotated[Path, typer.Option(help="Bundle with a base")] = Path("models/base"),
    labels: LabelsOption = None,
    classes: ClassOption = None,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Learn from the model's own boxes, for use without LiDAR")
    ] = False,
    start: Annotated[str, typer.Option("--from", help="Adapter to go on from; none: the base")] = "default",
    held_out: Annotated[float, typer.Option(min=0.05, max=0.5, help="Share of the frames to measure with")] = 0.25,
    minutes: Annotated[float, typer.Option(min=0.1, help="Budget of the training")] = 8.0,
    steps: Annotated[int, typer.Option(min=1, help="Steps at most")] = 300,
    rate: Annotated[float, typer.Option(min=0.01, max=10, help="Times the recipe's learning rate")] = 0.15,
    seed: Annotated[int, typer.Option(help="Of all draws")] = 7,
    resume: Annotated[bool, typer.Option("--resume", help="Carry on where the last call was interrupted")] = False,
    undecided: Annotated[bool, typer.Option("--undecided", help="Write it even if the gain may be chance")] = False,
) -> None:
    """Train an adapter from a few frames; writes it only if frames that had no part in it get better."""
    from peft_dml_ros.core.bundle import find_bundle
    from peft_dml_ros.core.errors import ConfigError
    from peft_dml_train.few_shot.adapt import AdaptOptions
    from peft_dml_train.few_shot.adapt import adapt as run
    from peft_dml_train.few_shot.checks import JUDGED
    from peft_dml_train.loop.stages import start_logging

    start_logging()
    if wrong := [text for text in classes or () if text.count("=") != 1]:
        raise ConfigError(f"--class {wrong[0]} is not of the form NAME=CLASS; fix: e.g. --class van=truck")
    names = dict(text.split("=") for text in classes or ())
    options = AdaptOptions(
        labels=labels, names=names, unlabelled=unlabelled, start=start, held_out=held_out, minutes=minutes,
        steps=steps, rate=rate, seed=seed, resume=resume, undecided=undecided,
    )  # fmt: skip
    gain = run(find_bundle(base), data, out, options)
    typer.echo(f"{out}: {gain}, {JUDGED}")
    typer.echo(f"hint: peft-dml adapter add {out} --bundle {base}, then ros2 param set /perception adapter {out.name}")


def prepare(
    data: Annotated[Path, typer.Option(help="nuScenes folder, under the same path on every node")],
    cache: Annotated[Path, typer.Option(help="Folder for prepared frames, seen by every node")],
    cache_gb: Annotated[float, typer.Option("--cache-gb", min=0.001, help="Size of that folder at most")] = 200.0,
    config: Annotated[Path | None, typer.Option(help="YAML recipe; defaults where it says nothing")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override, e.g. processes=4; repeatable")] = None,
    address: Annotated[
        str, typer.Option(help="local: this machine; auto: the Ray cluster that runs here; or HOST:PORT of another")
    ] = "local",
    workers: Annotated[int, typer.Option(min=0, help="Cores to use with --address local; 0 takes all")] = 0,
) -> None:
    """Prepare all frames of a recipe into a cache, weather and corruptions among them, before its training.

    Training and evaluation then take --cache with the same folder. A second call makes what is missing.

    Examples:
      peft-dml-train prepare --data /data/nuscenes --cache /shared/frames --address head:6379
    """
    from rich.progress import Progress

    from peft_dml_train.config import load_config
    from peft_dml_train.data.cache import FrameCache
    from peft_dml_train.data.preparing import prepare as run

    made = kept = 0
    recipe = load_config(config, tuple(overrides or ()))
    with Progress(transient=True) as progress:
        task = progress.add_task("frames", total=None)
        for found in run(recipe, data, FrameCache(cache, cache_gb), address, workers):
            made, kept = made + found.made, kept + found.kept
            progress.update(task, completed=made + kept)
    typer.echo(f"{made + kept} frames in {cache}: {made} made now, {kept} were there")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="adapt")(adapt)
    app.command(name="prepare")(prepare)
