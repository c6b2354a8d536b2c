# SPDX-License-Identifier: Apache-2.0
"""What becomes of a base and its adapters: a bundle merged for good, and how far two of them are apart."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from peft_dml_ros.core.bundle import BASE_WEIGHTS, MANIFEST, WEIGHTS, Bundle, load_bundle
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.onnx_graph import outside_weights
from peft_dml_ros.core.verified_files import CALIBRATION
from peft_dml_tools.atomic_files import write_json
from peft_dml_tools.bundles.manifest import write_manifest

SMALL: Final = 1e-6  #: Squared norm below which weights count as nothing


class PartDistance(NamedTuple):
    """How far a part of the network differs between two bundles of one base."""

    name: str  #: First two parts of the weights' names, e.g. `encoders.lidar`.
    weights: int  #: How many there are
    differing: int  #: How many of them differ
    relative: float  #: Norm of the difference over the second one's norm; inf where that is next to nothing
    most: str  #: Weight with the largest share of it


def write_merged(bundle: Bundle, out: Path) -> Path:
    """Write a bundle, adapters merged into all weights, in every precision it has. Raises ConfigError: `out` exists."""
    if out.exists():
        raise ConfigError(f"{out} exists; fix: name a new folder, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    manifest = bundle.manifest
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".merge-") as temporary:
        work = Path(temporary) / out.name
        shutil.copytree(bundle.path, work, ignore=lambda *_: {"adapters", BASE_WEIGHTS, WEIGHTS, MANIFEST})
        for precision in bundle.precisions:
            for graph in manifest.graphs:
                file = bundle.graph_file(graph, precision)
                (work / file.relative_to(bundle.path)).write_bytes(bundle.graph(graph, precision).content)
        write_json(work / CALIBRATION, {"temperature": dict(bundle.temperatures)})
        about = {**manifest.adapter, "merged": True, "name": str(bundle.adapters)}
        write_manifest(work, manifest.model_copy(update={"name": out.name, "adapter": about}))
        load_bundle(work)
        work.rename(out)
    return out


def part_distances(first: Bundle, second: Bundle) -> Iterator[PartDistance]:
    """Yield the distance of every part of the network, in the order of names."""
    files = [second.graph_file(graph) for graph in second.manifest.graphs]
    names = sorted({name for file in files for name in outside_weights(file.read_bytes())})
    base = second.base_weights(names)
    a, b = (bundle.adapters.weights(base, names) for bundle in (first, second))
    parts: dict[str, list[tuple[str, float, float]]] = {}
    for name in names:
        other = b.get(name, base[name]).astype(np.float64)
        apart = float(np.square(a.get(name, base[name]) - other).sum())
        parts.setdefault(".".join(name.split(".")[:2]), []).append((name, apart, float(np.square(other).sum())))
    for part, rows in parts.items():
        apart, norm = sum(apart for _, apart, _ in rows), sum(norm for _, _, norm in rows)
        most = max(rows, key=lambda row: row[1])
        differing = sum(apart > 0 for _, apart, _ in rows)
        yield PartDistance(
            part, len(rows), differing, float(np.sqrt(apart / norm)) if norm > SMALL else float("inf"), most[0]
        )
