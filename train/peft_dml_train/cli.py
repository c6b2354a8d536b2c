# SPDX-License-Identifier: Apache-2.0
"""`peft-dml-train`: training, few-shot adapters, export, evaluation, and the commands of the evidence."""

from __future__ import annotations

from enum import Enum
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peft_dml_ros.cli.main import ExpectedErrors

if TYPE_CHECKING:
    from peft_dml_train.config import TrainConfig
    from peft_dml_train.data.cache import FrameCache


class _TrainingCommands(ExpectedErrors):
    interrupted = "Interrupted; with --resume, commands that have it go on where they were."


ABOUT = "Train, evaluate and export the PEFT-DML detector."
app = typer.Typer(cls=_TrainingCommands, no_args_is_help=True, add_completion=False, help=ABOUT)


class Device(str, Enum):
    """Where to train."""

    cpu = "cpu"
    cuda = "cuda"


class ExportFormat(str, Enum):
    """What an export is for."""

    bundle = "bundle"
    autoware_centerpoint = "autoware-centerpoint"


ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML recipe; defaults where it says nothing")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override, e.g. pretrain.steps=100; repeatable")]
DataOption = Annotated[Path, typer.Option("--data", help="nuScenes folder, real or simulated")]
OutOption = Annotated[Path, typer.Option("--out", help="Folder of the run: checkpoints, logs, adapter")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Carry on from the last checkpoint")]
DeviceOption = Annotated[Device, typer.Option("--device", help="cpu or cuda")]
AdapterOption = Annotated[str, typer.Option("--adapter", help="Name, where a base has several adapters, e.g. rain")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="fp32, fp16 or int8, inside the graphs")]
BundleOption = Annotated[Path, typer.Option("--bundle", help="Folder of the bundle")]
CacheOption = Annotated[
    Path | None, typer.Option("--cache", help="Folder that keeps prepared frames on disk; without it, in memory")
]
CacheGbOption = Annotated[float, typer.Option("--cache-gb", min=0.001, help="Size of that folder at most")]
SplitOption = Annotated[
    list[str] | None, typer.Option("--split", help="Splits or scenes; the recipe's test split if none")
]


def _recipe(config: Path | None, overrides: list[str] | None = None) -> TrainConfig:
    """Return the recipe; progress is logged from now on."""
    from peft_dml_train.config import load_config
    from peft_dml_train.loop.stages import start_logging

    start_logging()
    return load_config(config, tuple(overrides or ()))


def _cache(folder: Path | None, size_gb: float) -> FrameCache | None:
    from peft_dml_train.data.cache import FrameCache

    return FrameCache(folder, size_gb) if folder else None


def _train(stage: str, config: Path | None, overrides: list[str] | None, **options: Any) -> None:
    from peft_dml_train.loop import stages

    typer.echo(getattr(stages, stage)(_recipe(config, overrides), **options))


@app.command()
def pretrain(
    data: DataOption,
    out: OutOption = Path("runs/demo"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    resume: ResumeOption = False,
    device: DeviceOption = Device.cpu,
    start: Annotated[Path | None, typer.Option("--from", help="Weights to begin with, e.g. imported ones")] = None,
    cache: CacheOption = None,
    cache_gb: CacheGbOption = 20.0,
) -> None:
    """Train all weights on the source scenes."""
    options = {"start": start, "cache": _cache(cache, cache_gb)}
    _train("pretrain", config, overrides, data=data, out=out, resume=resume, device=device.value, **options)


@app.command()
def finetune(
    data: DataOption,
    out: OutOption = Path("runs/demo"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    resume: ResumeOption = False,
    device: DeviceOption = Device.cpu,
    adapter: AdapterOption = "default",
    start: Annotated[str, typer.Option("--from", help="Adapter of this run to go on from, e.g. default")] = "",
    cache: CacheOption = None,
    cache_gb: CacheGbOption = 20.0,
) -> None:
    """Train less than 10 % of the parameters on the target scenes; the encoders stay frozen."""
    options = {"adapter": adapter, "start": start, "cache": _cache(cache, cache_gb)}
    _train("finetune", config, overrides, data=data, out=out, resume=resume, device=device.value, **options)


@app.command(name="import-weights")
def import_weights(
    pillar: Annotated[Path | None, typer.Option(help="CenterPoint-pillar checkpoint (det3d or mmdet3d names)")] = None,
    resnet: Annotated[Path | None, typer.Option(help="ResNet (torchvision or Hugging Face names)")] = None,
    out: OutOption = Path("runs/nuscenes/imported"),
    config: ConfigOption = Path("train/configs/nuscenes.yaml"),
    overrides: SetOption = None,
    partial: Annotated[bool, typer.Option("--partial", help="Take what fits, instead of refusing the file")] = False,
) -> None:
    """Fill the LiDAR encoder and the image backbone from public weights; lists what became of every tensor."""
    from peft_dml_train.weights.importing import account_lines
    from peft_dml_train.weights.importing import import_weights as run

    accounts = run(_recipe(config, overrides), out, lidar=pillar, camera=resnet, partial=partial)
    typer.echo("\n".join(account_lines(accounts)))
    typer.echo(out / "base.pt")


@app.command()
def export(
    data: DataOption,
    out: OutOption = Path("runs/demo"),
    bundle: BundleOption = Path("models/demo"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    adapter: AdapterOption = "default",
    precision: PrecisionOption = "fp32",
    form: Annotated[
        ExportFormat, typer.Option("--format", help="bundle, or the LiDAR branch for Autoware's lidar_centerpoint")
    ] = ExportFormat.bundle,
) -> None:
    """Write the base with its default adapter as a bundle, or a further adapter into one; checked and calibrated.

    With --format autoware-centerpoint, BUNDLE gets the LiDAR branch with the adapter merged as the two graphs and the
    parameter file of Autoware's lidar_centerpoint instead.
    """
    recipe = _recipe(config, overrides)
    if form is ExportFormat.autoware_centerpoint:
        from peft_dml_train.export.autoware import export_run

        typer.echo(export_run(recipe, out, bundle, adapter))
        return
    from peft_dml_train.export.bundle import export_bundle
    from peft_dml_train.export.precision import convert_bundle

    export_bundle(recipe, data, out, bundle, adapter)
    if precision != "fp32":
        convert_bundle(bundle, precision, bundle, data, recipe.splits.val)
    typer.echo(bundle)


@app.command()
def convert(
    bundle: BundleOption = Path("models/demo"),
    precision: PrecisionOption = "fp16",
    out: Annotated[Path, typer.Option(help="Folder of the new bundle; replaced")] = Path("models/demo_fp16"),
    data: Annotated[Path | None, typer.Option(help="nuScenes folder whose validation scenes calibrate int8")] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add the graphs to BUNDLE itself, for engines to choose, instead of OUT")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Convert a bundle to another precision, without the run that it came from."""
    from peft_dml_train.export.precision import convert_bundle

    recipe = _recipe(config)
    typer.echo(convert_bundle(bundle, precision, bundle if add else out, data, recipe.splits.val, add=add))


@app.command()
def compact(
    bundle: BundleOption = Path("models/demo"),
    out: Annotated[Path | None, typer.Option(help="Folder of the new bundle; BUNDLE itself if none")] = None,
) -> None:
    """Store the large weights of a merged bundle in 8 bit, a quarter of its size; it computes in float as before."""
    from peft_dml_train.export.compact import compact_bundle

    typer.echo(compact_bundle(bundle, out or bundle))


@app.command("check-precision")
def check_precision(
    data: DataOption,
    bundle: BundleOption = Path("models/demo"),
    precision: PrecisionOption = "int8",
    out: Annotated[Path, typer.Option(help="Folder for results")] = Path("runs/precision"),
    split: SplitOption = None,
    every: Annotated[int, typer.Option(min=1, help="Score every so many keyframes of a scene; 2 halves the time")] = 1,
    record: Annotated[bool, typer.Option(help="Write the losses into the bundle's manifest and card")] = False,
    config: ConfigOption = None,
    cache: CacheOption = None,
    cache_gb: CacheGbOption = 20.0,
) -> None:
    """Compare a precision of a bundle with its own, on all 31 subsets of sensors; fail where it loses too much."""
    from peft_dml_train.evaluation.precision_check import check_precision as check

    recipe = _recipe(config)
    scenes, kept = tuple(split or recipe.splits.test), _cache(cache, cache_gb)
    for line in check(bundle, precision, data, scenes, out, kept, every, record=record):
        typer.echo(line)


@app.command()
def evaluate(
    data: DataOption,
    bundle: BundleOption = Path("models/demo"),
    out: Annotated[Path, typer.Option(help="Folder for results, metrics.json and plots")] = Path(
        "runs/demo/evaluation"
    ),
    sensors: Annotated[str, typer.Option(help="e.g. lidar,radar; empty for the eight standard subsets")] = "",
    weather: Annotated[
        list[str] | None, typer.Option(help="clear, fog=50 (m), rain=25, snow=5 (mm/h); repeatable")
    ] = None,
    corruption: Annotated[list[str] | None, typer.Option(help="e.g. beamsreducing; repeatable")] = None,
    severity: Annotated[list[int] | None, typer.Option(help="1, 2, 3 of the corruptions; all if none")] = None,
    split: SplitOption = None,
    record: Annotated[bool, typer.Option(help="Write the figures into the bundle's manifest and card")] = False,
    engine: Annotated[str, typer.Option(help="What runs the graphs, e.g. onnxruntime-cuda")] = "onnxruntime",
    adapter: Annotated[
        str, typer.Option(help="Name, folder or mix such as default=0.5,rain=0.5; none: the base")
    ] = "default",
    config: ConfigOption = None,
    overrides: SetOption = None,
    cache: CacheOption = None,
    cache_gb: CacheGbOption = 20.0,
) -> None:
    """Score a bundle with nuscenes-devkit's own detection evaluation, for any subset of sensors in any weather."""
    from peft_dml_ros.core.bundle import load_bundle
    from peft_dml_train.evaluation.conditions import parse_conditions
    from peft_dml_train.evaluation.report import class_table, save_plots, score_table, wide_console
    from peft_dml_train.evaluation.sensors import SUBSETS, parse_sensors
    from peft_dml_train.evaluation.subsets import evaluate_bundle, refuse_other_classes
    from peft_dml_train.export.bundle import record_metrics

    recipe = _recipe(config, overrides)
    refuse_other_classes(load_bundle(bundle, adapter=adapter), recipe.spec.classes, f"recipe {config or recipe.name}")
    subsets = {sensors: parse_sensors(sensors)} if sensors else SUBSETS
    conditions = parse_conditions(weather or (), corruption or (), severity or ())
    scenes, kept = tuple(split or recipe.splits.test), _cache(cache, cache_gb)
    scores = evaluate_bundle(bundle, data, scenes, subsets, out, conditions, engine, kept, adapter)
    save_plots(scores, out / "plots")
    if record:
        record_metrics(bundle, scores, adapter)
    console = wide_console()
    console.print(score_table(scores))
    condition, by_subset = next(iter(scores.items()))
    name, metrics = next(iter(by_subset.items()))
    console.print(class_table(metrics, f"{name}, {condition}"))


@app.command(name="gate-plot")
def gate_plot(
    data: DataOption,
    bundle: BundleOption = Path("models/demo"),
    out: Annotated[Path, typer.Option(help="Picture; the figures lie next to it")] = Path("docs/images/gate.png"),
    split: SplitOption = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames per value, taken evenly from the scenes")] = 20,
    config: ConfigOption = None,
) -> None:
    """Draw the gate's weight of each sensor against fog, its age and its noise."""
    from peft_dml_train.evaluation.gate import measure_gate, plot_gate

    recipe = _recipe(config)
    plot_gate(measure_gate(bundle, data, tuple(split or recipe.splits.test), frames), out)
    typer.echo(out)


from peft_dml_train.cli_adapt import register as _register_adapt  # noqa: E402  its group is above

_register_adapt(app)
for _entry in entry_points(group="peft_dml_train.commands"):
    _entry.load()(app)

if __name__ == "__main__":
    app()
