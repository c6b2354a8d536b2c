# SPDX-License-Identifier: Apache-2.0
"""`peft-dml-train`: pretrain, finetune, export, evaluate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Train, evaluate and export the PEFT-DML detector.")

ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML recipe; defaults where it says nothing")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override, e.g. pretrain.steps=100; repeatable")]
DataOption = Annotated[Path, typer.Option("--data", help="nuScenes folder, real or simulated")]
OutOption = Annotated[Path, typer.Option("--out", help="Folder of the run: checkpoints, logs, adapter")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Carry on from the last checkpoint")]


class Device(str, Enum):
    """Where to train."""

    cpu = "cpu"
    cuda = "cuda"


DeviceOption = Annotated[Device, typer.Option("--device", help="cpu or cuda")]


@contextmanager
def _told() -> Iterator[None]:
    """Show errors of this library as one line."""
    from peft_dml_ros.core.errors import PeftDmlError
    from peft_dml_train.loop.stages import start_logging

    start_logging()
    try:
        yield
    except PeftDmlError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def pretrain(
    data: DataOption,
    out: OutOption = Path("runs/demo"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    resume: ResumeOption = False,
    device: DeviceOption = Device.cpu,
) -> None:
    """Train all weights on the source scenes."""
    with _told():
        from peft_dml_train.config import load_config
        from peft_dml_train.loop.stages import pretrain as run

        typer.echo(run(load_config(config, tuple(overrides or ())), data, out, resume=resume, device=device.value))


@app.command()
def finetune(
    data: DataOption,
    out: OutOption = Path("runs/demo"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    resume: ResumeOption = False,
    device: DeviceOption = Device.cpu,
) -> None:
    """Train less than 10 % of the parameters on the target scenes; the encoders stay frozen."""
    with _told():
        from peft_dml_train.config import load_config
        from peft_dml_train.loop.stages import finetune as run

        typer.echo(run(load_config(config, tuple(overrides or ())), data, out, resume=resume, device=device.value))


@app.command()
def export(
    data: DataOption,
    out: OutOption = Path("runs/demo"),
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle; replaced")] = Path("models/demo"),
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Merge the adapter, write the ONNX bundle, calibrate it on the validation scenes."""
    with _told():
        from peft_dml_train.config import load_config
        from peft_dml_train.export.bundle import export_bundle

        typer.echo(export_bundle(load_config(config, tuple(overrides or ())), data, out, bundle))


@app.command()
def evaluate(
    data: DataOption,
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle")] = Path("models/demo"),
    out: Annotated[Path, typer.Option(help="Folder for results and metrics.json")] = Path("runs/demo/evaluation"),
    sensors: Annotated[str, typer.Option(help="e.g. lidar,radar; empty for the eight standard subsets")] = "",
    split: Annotated[list[str] | None, typer.Option(help="Splits or scenes; the recipe's test split if none")] = None,
    record: Annotated[bool, typer.Option(help="Write the figures into the bundle's manifest and card")] = False,
    config: ConfigOption = None,
) -> None:
    """Score a bundle with nuscenes-devkit's own detection evaluation, for any subset of sensors."""
    with _told():
        from rich.console import Console
        from rich.table import Table

        from peft_dml_train.config import load_config
        from peft_dml_train.evaluation.subsets import SUBSETS, evaluate_bundle, parse_sensors
        from peft_dml_train.export.bundle import record_metrics

        subsets = {sensors: parse_sensors(sensors)} if sensors else SUBSETS
        metrics = evaluate_bundle(bundle, data, tuple(split or load_config(config).splits.test), subsets, out)
        if record:
            record_metrics(bundle, metrics)
        table = Table("sensors", "mAP", "NDS", "car AP 2 m")
        for name, m in metrics.items():
            table.add_row(name, *(f"{v:.3f}" for v in (m["mean_ap"], m["nd_score"], m["ap"]["car"]["2.0"])))
        Console().print(table)


if __name__ == "__main__":
    app()
