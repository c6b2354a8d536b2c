# SPDX-License-Identifier: Apache-2.0
"""`peft-dml adapter`: what a fleet gets for a new season: adapters of a bundle's base, by the megabyte."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from peft_dml_ros.core.adapter import Adapter
    from peft_dml_ros.core.bundle import Bundle

adapter = typer.Typer(no_args_is_help=True, help="List, add, check, compare or merge adapters of a model bundle.")

BundleOption = Annotated[str, typer.Option("--bundle", help="Bundle whose base they belong to: folder or name")]
NameArgument = Annotated[str, typer.Argument(help="Name or folder of an adapter")]
KeyOption = Annotated[str, typer.Option("--key", help="Public key (RW...), or its file, that must have signed it")]
MixArgument = Annotated[str, typer.Argument(help="Name, folder, none, or a mix such as default=0.7,rain=0.3")]


@adapter.command(name="list")
def list_adapters(bundle: BundleOption = "demo") -> None:
    """List the adapters that come with a bundle and those of this vehicle."""
    from rich.console import Console
    from rich.table import Table

    from peft_dml_ros.core.adapter import CARD, AdapterCard
    from peft_dml_ros.core.adapter_store import BASE_DIGITS, store_folder, stored_adapters
    from peft_dml_ros.core.bundle import ADAPTERS, BASE_WEIGHTS, load_bundle

    found = load_bundle(bundle, adapter="none")
    base = str(found.manifest.base.get("sha256", ""))[:BASE_DIGITS]
    table = Table("name", "from", "MB", "base", "about")
    own = [(path.parent.name, "bundle", path.parent) for path in sorted((found.path / ADAPTERS).glob(f"*/{CARD}"))]
    for name, place, path in [*own, *((s.name, "vehicle", s.path) for s in stored_adapters())]:
        try:
            card = AdapterCard.model_validate_json((path / CARD).read_bytes())
        except (OSError, ValueError):
            table.add_row(name, place, "", "", "damaged; fix: add it again from its source, or remove it")
            continue
        fits = found.manifest.name if card.base.startswith(base) and base else f"another ({card.base_name})"
        table.add_row(name, place, f"{_size(path) / 1e6:.2f}", fits, card.description)
    console = Console()
    if table.row_count:
        console.print(table)
    if not own and not found.has_base:
        console.print(f"{found.path} takes no adapters: it has no {BASE_WEIGHTS}; models/base has: --bundle base")
    console.print(f"this vehicle's: {store_folder()}")


@adapter.command()
def show(name: NameArgument, bundle: BundleOption = "demo", key: KeyOption = "") -> None:
    """Say what an adapter is for, what it reaches, how large it is, of which base, and who signed it."""
    from rich.console import Console

    from peft_dml_ros.core.adapter import CARD
    from peft_dml_ros.core.adapter_domain import read_domain
    from peft_dml_ros.core.signature import SUFFIX

    base, found = _one(bundle, name, key)
    card, console = found.card, Console()
    console.print(f"[bold]{card.name}[/] {card.version}, {card.licence}: {found.path}")
    console.print(card.description)
    console.print(
        f"base: {base.manifest.name} {card.base[:16]}; rank {card.rank}, alpha {card.alpha}; "
        f"{_size(found.path) / 1e6:.2f} MB on disk, {found.size_bytes / 1e6:.2f} MB in memory"
    )
    if domain := read_domain(found.path):
        figures = ", ".join(f"{name} {s.mean:.2f} ± {s.deviation:.2f}" for name, s in domain.figures.items())
        console.print(f"domain: {figures}" + (f"; without {', '.join(domain.absent)}" if domain.absent else ""))
    for title, values in (("made from", card.provenance), ("reaches", card.metrics)):
        console.print(f"{title}:", values or "nothing recorded")
    signed = (found.path / (CARD + SUFFIX)).is_file()
    verified = "signed, and verified with the key" if key else "signed; verify it with --key"
    console.print(f"signature: {verified if signed else 'none'}")


@adapter.command()
def add(
    folder: Annotated[Path, typer.Argument(help="Folder of the adapter")],
    bundle: BundleOption = "demo",
    key: KeyOption = "",
) -> None:
    """Verify an adapter and copy it to this vehicle; the node then finds it by its name."""
    from peft_dml_ros.core.adapter_store import store_folder
    from peft_dml_ros.core.bundle import load_bundle, own_adapters
    from peft_dml_tools.bundles.adapter_changes import add_adapter

    found = load_bundle(bundle, adapter="none")
    base = found.manifest
    added = add_adapter(folder, str(base.base.get("sha256", "")), base.name, key, own_adapters(found))
    typer.echo(f"added '{added.card.name}' for base {base.name} to {store_folder()}")
    typer.echo(f"hint: ros2 param set /perception adapter {added.card.name}")


@adapter.command()
def remove(
    name: Annotated[str, typer.Argument(help="Name of an adapter of this vehicle")],
    base: Annotated[str, typer.Option(help="First digits of its base's hash, where several bases have the name")] = "",
) -> None:
    """Take an adapter from this vehicle; those that come with a bundle stay."""
    from peft_dml_tools.bundles.adapter_changes import remove_adapter

    remove_adapter(name, base)
    typer.echo(f"removed '{name}'")


@adapter.command()
def check(name: NameArgument, bundle: BundleOption = "demo", key: KeyOption = "") -> None:
    """Verify every hash, merge the adapter, and run each graph once on this machine's CPU."""
    from time import perf_counter

    from peft_dml_ros.engines import load_engines

    start = perf_counter()
    base, found = _one(bundle, name, key)
    graphs = {graph: base.graph(graph) for graph in base.manifest.graphs}
    merged_s = perf_counter() - start
    for engine in load_engines(base).values():
        engine.warm_up()
    typer.echo(f"{found.path}: {len(found.card.files)} files are sound")
    typer.echo(f"{len(graphs)} graphs of {base.manifest.name} merged in {merged_s:.2f} s, and run")


@adapter.command()
def sign(
    folder: Annotated[Path, typer.Argument(help="Folder of the adapter")],
    key: Annotated[Path, typer.Option(help="Secret key without password, of `peft-dml bundle keygen`")],
    comment: Annotated[str, typer.Option(help="Signed as well; the time if left out")] = "",
) -> None:
    """Sign an adapter: its card, which holds the sha256 of every other file."""
    from peft_dml_ros.core.adapter import CARD, load_adapter
    from peft_dml_tools.bundles.signing import sign as sign_file

    load_adapter(folder, base="", where="")
    typer.echo(str(sign_file(folder / CARD, key, comment)))


@adapter.command()
def merge(
    mix: MixArgument,
    out: Annotated[Path, typer.Option(help="Folder of the new bundle; must not exist")],
    bundle: BundleOption = "demo",
) -> None:
    """Write a bundle with adapters merged for good: plain ONNX files with all weights inside, for other programs."""
    from peft_dml_ros.core.bundle import load_bundle
    from peft_dml_tools.bundles.merged_bundle import write_merged

    typer.echo(str(write_merged(load_bundle(bundle, adapter=mix), out)))


@adapter.command()
def diff(first: MixArgument, second: MixArgument, bundle: BundleOption = "demo") -> None:
    """Say by how much two adapters, mixes or the base differ, part by part of the network."""
    from rich.console import Console
    from rich.table import Table

    from peft_dml_ros.core.bundle import load_bundle
    from peft_dml_tools.bundles.merged_bundle import part_distances

    a, b = (load_bundle(bundle, adapter=mix) for mix in (first, second))
    table = Table("part", "weights that differ", "|A − B| / |B|", "most in")
    for part in part_distances(a, b):
        apart = f"{part.relative:.1%}" if math.isfinite(part.relative) else "from zero"
        table.add_row(part.name, f"{part.differing} of {part.weights}", apart, part.most)
    Console().print(table)


def _one(bundle: str, name: str, key: str) -> tuple[Bundle, Adapter]:
    """Return the bundle with one adapter, and the adapter."""
    from peft_dml_ros.core.bundle import load_adapters, load_bundle
    from peft_dml_ros.core.errors import ConfigError

    base = load_bundle(bundle, adapter="none")
    mix = load_adapters(base, name, key)
    if len(mix.parts) != 1:
        raise ConfigError(f"'{name}' is not one adapter of {base.manifest.name}; fix: list them: peft-dml adapter list")
    return base.with_adapters(mix), mix.parts[0][0]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
