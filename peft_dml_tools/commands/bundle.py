# SPDX-License-Identifier: Apache-2.0
"""`peft-dml bundle`: inspect, verify or sign a model bundle, or build its TensorRT engines before the first drive."""

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

bundle = typer.Typer(no_args_is_help=True, help="Inspect, verify, sign or build a model bundle.")

NO_BASE = "none; this bundle has no base.safetensors to put them on, models/base has"
NameArgument = Annotated[str, typer.Argument(help="Folder of the bundle, or name of an installed one")]


@bundle.command()
def info(name: NameArgument = "demo") -> None:
    """Print precision, graphs and accuracy of a bundle, and the engines built from it on this machine."""
    from rich.console import Console
    from rich.table import Table

    from peft_dml_ros.core.bundle import load_bundle, own_adapters
    from peft_dml_ros.engines.cache import cache_folder, engine_headers

    console, found = Console(), load_bundle(name)
    manifest = found.manifest
    console.print(
        f"{manifest.name} {manifest.version}, {', '.join(found.precisions)}, {manifest.licence}: {found.path}"
    )
    console.print(manifest.description)
    graphs = Table("graph", "MiB", "inputs", "outputs")
    for graph, about in manifest.graphs.items():
        size = (found.path / about.file).stat().st_size / 2**20
        graphs.add_row(graph, f"{size:.2f}", _tensors(about.inputs), _tensors(about.outputs))
    console.print(graphs)
    if (file := found.weights_file).is_file():
        use = ", and what adapters are trained on" if found.has_base else ", the large ones in 8 bit"
        console.print(f"{file.name}, {file.stat().st_size / 2**20:.2f} MiB: the weights of the graphs{use}")
    if tested := manifest.metrics.get("test"):
        console.print(
            "On test scenes of its own training's data (MODEL_CARD.md); compare bundles on the same scenes only:"
        )
        for sensors, m in tested.items():
            console.print(f"  {sensors}: mAP {m['mean_ap']:.3f}, NDS {m['nd_score']:.3f}")
    own = ", ".join(own_adapters(found)) or "none of its own"
    console.print(f"adapters: {own}; {found.adapters} in use" if found.has_base else f"adapters: {NO_BASE}")
    graph_of_file = {found.graph(graph, p).sha256: graph for p in found.precisions for graph in manifest.graphs}
    for path, header in engine_headers(cache_folder()):
        key: Any = header.get("key", {})
        if (digest := key.get("onnx_sha256")) in graph_of_file:
            graph = graph_of_file[digest]
            console.print(f"engine of {graph}: {key['library']}, {_target(key)} ({path.name})")


@bundle.command()
def check(name: NameArgument = "demo") -> None:
    """Verify every hash and shape, and run each graph once on this machine's CPU."""
    from peft_dml_ros.core.bundle import load_bundle
    from peft_dml_ros.engines import load_engines

    found = load_bundle(name)
    for precision in found.precisions:
        for engine in load_engines(found, precision=precision).values():
            engine.warm_up()
    typer.echo(f"{found.path}: {len(found.manifest.files)} files and {len(found.manifest.graphs)} graphs are correct")


@bundle.command()
def build(
    name: NameArgument = "demo",
    engine: Annotated[str, typer.Option(help="tensorrt, or tensorrt-rtx for RTX cards")] = "tensorrt",
    compute_capability: Annotated[
        list[str] | None, typer.Option(help="GPU to build for without having it, e.g. 8.9; may be repeated (RTX)")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, fp16 or int8, if the bundle holds it; its own if left out")
    ] = "",
    level: Annotated[int, typer.Option(min=0, max=5, help="0 builds fast, 5 runs fast")] = 3,
    workspace_mib: Annotated[int, typer.Option(min=1, help="Scratch memory for kernels")] = 1024,
    tf32: Annotated[bool, typer.Option(help="Let GPUs round float32 products to TF32")] = True,
    out: Annotated[
        Path | None, typer.Option("--out", "--cache", help="Folder of built engines; the user's cache if none")
    ] = None,
) -> None:
    """Build the TensorRT engines that are not in the folder yet, and exit.

    On the vehicle, name the folder in PEFT_DML_ENGINE_CACHE, or put its files into ~/.cache/peft_dml_ros/engines.
    """
    from peft_dml_ros.core.bundle import load_bundle
    from peft_dml_ros.core.errors import ConfigError, nearest
    from peft_dml_ros.engines.cache import BuildProfile
    from peft_dml_ros.engines.tensorrt_build import open_store
    from peft_dml_ros.engines.tensorrt_library import MODULES, OLDEST

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if engine not in OLDEST:
        raise ConfigError(f"--engine '{engine}' is not built ahead; {nearest(engine, OLDEST)}")
    store = open_store(load_bundle(name), engine, precision, tuple(compute_capability or ()), out)
    for graph in store.bundle.manifest.graphs:
        plan = store.plan(graph, BuildProfile(level, workspace_mib, tf32))
        typer.echo(f"{graph}: {len(plan) / 2**20:.1f} MiB")
    served = store.gpu.name if store.gpu else f"compute capability {', '.join(store.capabilities)}"
    typer.echo(f"{store.library.name} engines for {served} are in {store.folder}")
    typer.echo(licence_of(MODULES[engine], store.library.name))


def licence_of(module: str, library: str) -> str:
    """Return the line that names the licence file of an installed library, or says that it is missing."""
    from importlib.metadata import distribution, packages_distributions

    wheels = sorted(set(packages_distributions().get(module, ())))
    named = [file for wheel in wheels for file in distribution(wheel).files or () if file.name.startswith("LICENSE")]
    if found := [path for file in named if (path := Path(str(file.locate()))).is_file()]:
        return f"before you ship them, read NVIDIA's licence: {found[0]}"
    fix = f"pip install --force-reinstall {wheels[0]}" if wheels else f"read the one that came with {library}"
    return f"the licence file of {library} is missing; fix: {fix}, and read it before you ship engines"


@bundle.command()
def keygen(
    secret: Annotated[Path, typer.Argument(help="File of the secret key; the public one gets the ending .pub")],
) -> None:
    """Make a pair of keys for signing bundles, and print the public one."""
    from peft_dml_tools.bundles.signing import make_keys

    typer.echo(make_keys(secret).to_base64().decode())


@bundle.command()
def sign(
    name: NameArgument,
    key: Annotated[Path, typer.Option(help="Secret key without password, of keygen or of minisign -G -W")],
    comment: Annotated[str, typer.Option(help="Signed as well; the time if left out")] = "",
) -> None:
    """Sign a bundle: its manifest and the cards of its adapters, which hold the sha256 of every other file."""
    from peft_dml_ros.core.adapter import CARD
    from peft_dml_ros.core.bundle import ADAPTERS, MANIFEST, load_bundle
    from peft_dml_tools.bundles.signing import sign as sign_file

    path = load_bundle(name).path
    for file in (path / MANIFEST, *sorted((path / ADAPTERS).glob(f"*/{CARD}"))):
        typer.echo(str(sign_file(file, key, comment)))


@bundle.command("verify-signature")
def verify_signature(
    name: NameArgument, key: Annotated[str, typer.Option(help="Public key (RW...), or the file that holds it")]
) -> None:
    """Check who signed a bundle, and that no byte of it has changed since."""
    from peft_dml_ros.core.bundle import MANIFEST, load_bundle
    from peft_dml_ros.core.signature import public_key, verify

    file = load_bundle(name, key).path / MANIFEST
    typer.echo(f"{file.parent}: signed; {verify(file, file.read_bytes(), public_key(key))}")


def _tensors(infos: dict[str, Any]) -> str:
    return ", ".join(f"{n} {'×'.join(map(str, i.shape))} {i.dtype}" for n, i in infos.items())


def _target(key: dict[str, Any]) -> str:
    """Return what an engine was built for."""
    return f"{key['gpu']}, driver {key['driver']}" if key["gpu"] else f"capability {', '.join(key['capabilities'])}"
