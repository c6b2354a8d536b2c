# SPDX-License-Identifier: Apache-2.0
"""Model bundles: a folder with a manifest, ONNX graphs and a model card, every file of it held to its sha256.

Nothing in a bundle is ever unpickled, and no path may leave its folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from pydantic import Field, ValidationError

from peft_dml_ros.core.classes import CLASSES, MODALITIES
from peft_dml_ros.core.errors import BundleError, nearest
from peft_dml_ros.core.signature import SUFFIX, public_key, verify
from peft_dml_ros.core.spec import Frozen, ModelSpec, graph_inputs, graph_outputs

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
SIGNATURE = MANIFEST + SUFFIX
CALIBRATION = "calibration.json"
LARGEST_MANIFEST = 16 * 2**20
"""No larger manifest is read."""

Precision: TypeAlias = Literal["fp32", "fp16", "int8"]


class TensorInfo(Frozen):
    """Shape and numpy dtype name of one input or output."""

    shape: tuple[int, ...]
    dtype: str


class GraphInfo(Frozen):
    """One ONNX graph."""

    file: str
    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]


class Manifest(Frozen):
    """What `manifest.json` holds."""

    schema_version: Literal[1] = 1
    name: str
    version: str
    description: str = ""
    licence: str = "Apache-2.0"
    precision: Precision = Field("fp32", description="Precision inside the files of `graphs`")
    spec: ModelSpec
    graphs: dict[str, GraphInfo]
    variants: dict[Precision, dict[str, str]] = Field(
        default_factory=dict, description="File by graph in a further precision; graphs not named have none"
    )
    files: dict[str, str] = Field(description="sha256 of every file but the manifest")
    base: dict[str, Any] = Field(default_factory=dict, description="Identity of the frozen encoders")
    adapter: dict[str, Any] = Field(default_factory=dict, description="Identity and rank of the merged adapter")
    provenance: dict[str, Any] = Field(default_factory=dict, description="Data, seeds, command, commit of the training")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Counts: total, trained, by part")
    trained_ranges: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="Least and greatest of inputs in training, by `sensor_checks.TRAINED`'s names"
    )
    trained_share: float = Field(ge=0.0, le=1.0)
    metrics: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle.

    Attributes:
        path: Its folder.
        manifest: What it says of itself.
        temperatures: Confidence temperature by availability mask, written as five digits in `MODALITIES` order.
    """

    path: Path
    manifest: Manifest
    temperatures: dict[str, float]

    @property
    def spec(self) -> ModelSpec:
        """Model facts."""
        return self.manifest.spec

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions that the bundle holds, its own first."""
        return (self.manifest.precision, *self.manifest.variants)

    def graph_file(self, graph: str, precision: str = "") -> Path:
        """Return the ONNX file of a graph.

        Args:
            graph: Name of the graph.
            precision: One of `precisions`; the bundle's own when empty.

        Raises:
            BundleError: the bundle does not hold this precision.
        """
        if precision and precision not in self.precisions:
            fix = f"add it: peft-dml-train convert --bundle {self.path} --precision {precision} --add"
            known: tuple[str, ...] = get_args(Precision)
            fix = fix if precision in known else nearest(precision, known)
            msg = f"{self.path} holds {', '.join(self.precisions)}, not {precision}; {fix}"
            raise BundleError(msg)
        variants = {str(name): files for name, files in self.manifest.variants.items()}
        return self.path / variants.get(precision, {}).get(graph, self.manifest.graphs[graph].file)

    def temperature(self, present: tuple[str, ...]) -> float:
        """Confidence temperature for the modalities that are present; 1 where none was measured."""
        key = "".join("1" if m in present else "0" for m in MODALITIES)
        return self.temperatures.get(key, 1.0)


def bundle_folders() -> list[Path]:
    """Folders in which bundles are looked up by name: the repository's, then the installed share."""
    here = Path(__file__).resolve()
    shares = [Path(prefix) / "share" for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if prefix]
    shares.append(Path(sysconfig.get_path("data")) / "share")
    return [here.parents[2] / "models", *(share / "peft_dml_ros" / "models" for share in shares)]


def find_bundle(name: str | Path) -> Path:
    """Folder of a bundle given as a path or by name.

    Raises:
        BundleError: no such folder; the bundles that exist are named.
    """
    path = Path(name).expanduser()
    if (path / MANIFEST).is_file():
        return path
    for folder in bundle_folders():
        if (folder / name / MANIFEST).is_file():
            return folder / name
    known = {p.parent.name for folder in bundle_folders() for p in folder.glob(f"*/{MANIFEST}")}
    msg = f"no bundle '{name}': neither a folder with {MANIFEST} nor an installed bundle; {nearest(str(name), known)}"
    raise BundleError(msg)


def load_bundle(name: str | Path, trusted_key: str = "") -> Bundle:
    """Read and verify a bundle.

    Args:
        name: Folder, or name of an installed bundle.
        trusted_key: Public key, or the file that holds it, that must have signed the bundle; any bundle when empty.

    Raises:
        BundleError: a file is missing or altered, a graph does not fit the model spec, or the signature is not good.
        ConfigError: the key is none.
    """
    path = find_bundle(name)
    try:
        content = _manifest_bytes(path / MANIFEST)
        if trusted_key:
            verify(path / MANIFEST, content, public_key(trusted_key))
        manifest = Manifest.model_validate_json(content)
    except (OSError, ValidationError) as error:
        msg = f"{path / MANIFEST}: not a manifest of schema {SCHEMA_VERSION}: {error}"
        raise BundleError(msg) from error
    problems = [*_altered(path, manifest), *_unfit(manifest)]
    if problems:
        msg = f"bundle {path} refused: {'; '.join(problems)}; export it again, or restore it from its source"
        raise BundleError(msg)
    return Bundle(path, manifest, _temperatures(path))


def _manifest_bytes(file: Path) -> bytes:
    if (size := file.stat().st_size) > LARGEST_MANIFEST:
        msg = f"{file} is of {size} bytes; no manifest is larger than {LARGEST_MANIFEST}"
        raise BundleError(msg)
    return file.read_bytes()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest with the sha256 of every other file in the folder, atomically.

    Args:
        folder: The bundle.
        manifest: Its `files` are computed here, whatever they hold.
    """
    files = {str(p.relative_to(folder)): sha256(p) for p in sorted(folder.rglob("*")) if _is_content(p)}
    complete = manifest.model_copy(update={"files": files})
    temporary = folder / f".{MANIFEST}.tmp"
    temporary.write_text(json.dumps(complete.model_dump(mode="json"), indent=1) + "\n")
    temporary.replace(folder / MANIFEST)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_content(path: Path) -> bool:
    return path.is_file() and path.name not in {MANIFEST, SIGNATURE} and not path.name.startswith(".")


def _altered(path: Path, manifest: Manifest) -> list[str]:
    problems = []
    for name, expected in manifest.files.items():
        file = (path / name).resolve()
        if not file.is_relative_to(path.resolve()):
            problems.append(f"'{name}' leaves the bundle's folder")
        elif not file.is_file():
            problems.append(f"'{name}' is missing")
        elif sha256(file) != expected:
            problems.append(f"'{name}' was altered (sha256 differs)")
    used = [graph.file for graph in manifest.graphs.values()]
    used += [file for files in manifest.variants.values() for file in files.values()]
    used += [CALIBRATION] if (path / CALIBRATION).is_file() else []
    unsigned = [file for file in used if file not in manifest.files]
    return [*problems, *(f"'{file}' has no sha256" for file in unsigned)]


def _unfit(manifest: Manifest) -> list[str]:
    problems = []
    if unknown := [c for c in manifest.spec.classes if c not in CLASSES]:
        problems.append(f"unknown classes {unknown}; known: {', '.join(CLASSES)}")
    for precision, files in manifest.variants.items():
        problems += [f"variant '{precision}' of no graph: '{graph}'" for graph in files if graph not in manifest.graphs]
    wanted_in, wanted_out = graph_inputs(manifest.spec), graph_outputs(manifest.spec)
    for name in wanted_in:
        if name not in manifest.graphs:
            problems.append(f"graph '{name}' is missing")
            continue
        graph = manifest.graphs[name]
        for kind, wanted, got in (
            ("input", wanted_in[name], graph.inputs),
            ("output", wanted_out[name], graph.outputs),
        ):
            found = {key: (info.shape, info.dtype) for key, info in got.items()}
            if found != wanted:
                problems.append(f"graph '{name}' {kind}s are {found}, expected {wanted}")
    return problems


def _temperatures(path: Path) -> dict[str, float]:
    file = path / CALIBRATION
    if not file.is_file():
        return {}
    try:
        return {str(k): float(v) for k, v in json.loads(file.read_text())["temperature"].items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        msg = f"{file}: expected {{'temperature': {{mask: number}}}}: {error}"
        raise BundleError(msg) from error
