# SPDX-License-Identifier: Apache-2.0
"""`peft-dml bundle`: inspect, verify or sign a model bundle, or build its TensorRT engines before the first drive."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

bundle = typer.Typer(no_args_is_help=True, help="Inspect, verify, sign or build a model bundle.")

NameArgument = Annotated[str, typer.Argument(help="Folder of the bundle, or name of an installed one")]


@bundle.command()
def info(name: NameArgument = "demo") -> None:
    """Print precision, graphs and accuracy of a bundle, and the engines built from it on this machine."""
    from rich.console import Console
    from rich.table import Table

    from peft_dml_ros.core.bundle import load_bundle
    from peft_dml_ros.engines.cache import cache_folder, engine_headers

    console, found = Console(), load_bundle(name)
    manifest = found.manifest
    console.print(f"{manifest.name} {manifest.version}, {manifest.precision}, {manifest.licence}: {found.path}")
    console.print(manifest.description)
    graphs = Table("graph", "MiB", "inputs", "outputs")
    for graph, about in manifest.graphs.items():
        size = (found.path / about.file).stat().st_size / 2**20
        graphs.add_row(graph, f"{size:.2f}", _tensors(about.inputs), _tensors(about.outputs))
    console.print(graphs)
    for sensors, m in manifest.metrics.get("test", {}).items():
        console.print(f"{sensors}: mAP {m['mean_ap']:.3f}, NDS {m['nd_score']:.3f}")
    graph_of_file = {manifest.files[about.file]: graph for graph, about in manifest.graphs.items()}
    for path, header in engine_headers(cache_folder()):
        key: Any = header.get("key", {})
        if (digest := key.get("onnx_sha256")) in graph_of_file:
            graph = graph_of_file[digest]
            console.print(f"engine of {graph}: {key['library']}, {key['gpu']}, driver {key['driver']} ({path.name})")


@bundle.command()
def check(name: NameArgument = "demo") -> None:
    """Verify every hash and shape, and run each graph once on this machine's CPU."""
    from peft_dml_ros.core.bundle import load_bundle
    from peft_dml_ros.engines import load_engines

    found = load_bundle(name)
    for engine in load_engines(found).values():
        engine.warm_up()
    typer.echo(f"{found.path}: {len(found.manifest.files)} files and {len(found.manifest.graphs)} graphs are correct")


@bundle.command()
def build(
    name: NameArgument = "demo",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8: what the bundle must be; any if left out")] = "",
    level: Annotated[int, typer.Option(min=0, max=5, help="0 builds fast, 5 runs fast")] = 3,
    workspace_mib: Annotated[int, typer.Option(min=1, help="Scratch memory for kernels")] = 1024,
    tf32: Annotated[bool, typer.Option(help="Let GPUs round float32 products to TF32")] = True,
    cache: Annotated[Path | None, typer.Option(help="Folder of built engines; the user's cache if none")] = None,
) -> None:
    """Build the TensorRT engines that are not in the cache yet, and exit."""
    from peft_dml_ros.core.bundle import load_bundle
    from peft_dml_ros.engines.cache import BuildProfile
    from peft_dml_ros.engines.tensorrt import build_tensorrt_engines

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found = load_bundle(name)
    _refuse_precision(precision, found.manifest.precision, found.path)
    profile = BuildProfile(level, workspace_mib, tf32)
    for graph, size in build_tensorrt_engines(found, profile, cache).items():
        typer.echo(f"{graph}: {size / 2**20:.1f} MiB")


@bundle.command()
def keygen(
    secret: Annotated[Path, typer.Argument(help="File of the secret key; the public one gets the ending .pub")],
) -> None:
    """Make a pair of keys for signing bundles, and print the public one."""
    from peft_dml_ros.core.signature import make_keys

    typer.echo(make_keys(secret).to_base64().decode())


@bundle.command()
def sign(
    name: NameArgument,
    key: Annotated[Path, typer.Option(help="Secret key without password, of keygen or of minisign -G -W")],
    comment: Annotated[str, typer.Option(help="Signed as well; the time if left out")] = "",
) -> None:
    """Sign a bundle: its manifest, which holds the sha256 of every other file."""
    from peft_dml_ros.core.bundle import MANIFEST, load_bundle
    from peft_dml_ros.core.signature import sign as sign_file

    typer.echo(str(sign_file(load_bundle(name).path / MANIFEST, key, comment)))


@bundle.command("verify-signature")
def verify_signature(
    name: NameArgument,
    key: Annotated[str, typer.Option(help="Public key (RW...), or the file that holds it")],
) -> None:
    """Check who signed a bundle, and that no byte of it has changed since."""
    from peft_dml_ros.core.bundle import MANIFEST, load_bundle
    from peft_dml_ros.core.signature import public_key, verify

    file = load_bundle(name, key).path / MANIFEST
    typer.echo(f"{file.parent}: signed; {verify(file, file.read_bytes(), public_key(key))}")


def _tensors(infos: dict[str, Any]) -> str:
    return ", ".join(f"{n} {'×'.join(map(str, i.shape))} {i.dtype}" for n, i in infos.items())


def _refuse_precision(wanted: str, is_precision: str, path: Path) -> None:
    from peft_dml_ros.core.engine import PRECISIONS
    from peft_dml_ros.core.errors import ConfigError, nearest

    if wanted and wanted not in PRECISIONS:
        msg = f"unknown precision '{wanted}'; {nearest(wanted, PRECISIONS)}"
        raise ConfigError(msg)
    if wanted and wanted != is_precision:
        msg = (
            f"{path} is {is_precision}, not {wanted}: the precision is inside its graphs; convert it:"
            f" peft-dml-train convert --bundle {path} --precision {wanted}"
        )
        raise ConfigError(msg)
