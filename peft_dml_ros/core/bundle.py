# SPDX-License-Identifier: Apache-2.0
"""Model bundles: a folder with a manifest, ONNX graphs and a model card, every file of it held to its sha256.

Nothing in a bundle is ever unpickled, and no path may leave its folder.
"""

import hashlib
import json
import os
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from peft_dml_ros.core.adapter import CARD, load_adapter
from peft_dml_ros.core.adapter_mix import BASE_ALONE, DEFAULT, AdapterMix, parse_mix
from peft_dml_ros.core.adapter_store import find_adapter
from peft_dml_ros.core.classes import CLASSES, MODALITIES
from peft_dml_ros.core.errors import BundleError, nearest, one_line
from peft_dml_ros.core.onnx_graph import filled, outside_weights
from peft_dml_ros.core.signature import public_key, verify
from peft_dml_ros.core.spec import REGRESSION_WITHOUT_AXIS, Frozen, ModelSpec, graph_inputs, graph_outputs
from peft_dml_ros.core.typing import AnyArray
from peft_dml_ros.core.verified_files import CALIBRATION, altered_files, read_calibration, read_limited

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
#: The base network's weights by name: the graphs take theirs from it, and adapters are trained on it
BASE_WEIGHTS = "base.safetensors"
WEIGHTS = "weights.safetensors"  #: Large weights of a bundle without a base, in 8 bit; its graphs take them from it
ADAPTERS = "adapters"  #: Folder of the adapters that come with a bundle; each has a card with hashes of its own
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
        default_factory=dict, description="Least and greatest of inputs in training, by `pillars.TRAINED`'s names"
    )
    trained_share: float = Field(ge=0.0, le=1.0)
    metrics: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _name_columns(cls, content: Any) -> Any:
        """Name the regression's columns where the manifest is older than their list."""
        if isinstance(content, dict) and isinstance(spec := content.get("spec"), dict) and "regression" not in spec:
            return {**content, "spec": {**spec, "regression": REGRESSION_WITHOUT_AXIS}}
        return content


class GraphContent(NamedTuple):
    """A graph with all of its weights."""

    path: Path  #: The file it comes from, for messages
    content: bytes  #: Serialised ONNX model

    @property
    def sha256(self) -> str:
        """Hash of the content, which differs from the file's where an adapter is merged."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle."""

    path: Path  #: Its folder
    manifest: Manifest  #: What it says of itself
    #: Confidence temperature by availability mask, written as five digits in `MODALITIES` order
    temperatures: Mapping[str, float]
    adapters: AdapterMix = BASE_ALONE  #: What is merged into the base's weights

    @property
    def spec(self) -> ModelSpec:
        """Model facts."""
        return self.manifest.spec

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions that the bundle holds, its own first."""
        return (self.manifest.precision, *self.manifest.variants)

    def graph_file(self, graph: str, precision: str = "") -> Path:
        """Return a graph's ONNX file, in `precision` or the bundle's own. Raises BundleError: it holds no such."""
        if precision and precision not in self.precisions:
            fix = f"fix: add it: peft-dml-train convert --bundle {self.path} --precision {precision} --add"
            known: tuple[str, ...] = get_args(Precision)
            fix = fix if precision in known else nearest(precision, known)
            raise BundleError(f"{self.path} holds {', '.join(self.precisions)}, not {precision}; {fix}")
        variants = {str(name): files for name, files in self.manifest.variants.items()}
        return self.path / variants.get(precision, {}).get(graph, self.manifest.graphs[graph].file)

    def graph(self, graph: str, precision: str = "") -> GraphContent:
        """Return a graph as a runtime takes it: all weights inside, adapters merged, batch norms folded.

        Raises BundleError: the bundle does not hold this precision, or an adapter does not fit.
        """
        file = self.graph_file(graph, precision)
        content = file.read_bytes()
        wanted = self.manifest.files[file.relative_to(self.path).as_posix()]
        if (digest := hashlib.sha256(content).hexdigest()) != wanted:
            msg = f"{file}: sha256 is {digest}, the manifest says {wanted}; fix: restore the bundle from its source"
            raise BundleError(msg)
        if not (names := outside_weights(content)):
            return GraphContent(file, content)
        base = self.base_weights(names)
        changed = self.adapters.weights(base, names)
        return GraphContent(file, filled(content, base, changed, self.adapters.ranges(graph), str(file)))

    def base_weights(self, names: Iterable[str] | None = None) -> dict[str, AnyArray]:
        """Return weights that the graphs keep outside, by name; all of them when none is named.

        Raises BundleError: the bundle has no such file, or it is damaged.
        """
        file = self.weights_file
        try:
            with safe_open(file, framework="numpy") as opened:
                known = set(opened.keys())
                return {name: opened.get_tensor(name) for name in (known if names is None else known & set(names))}
        except (OSError, SafetensorError) as error:
            msg = f"{file} cannot be read ({error}); fix: restore the bundle, or take one with a base: models/base"
            raise BundleError(msg) from error

    @property
    def has_base(self) -> bool:
        """Whether adapters can be added."""
        return (self.path / BASE_WEIGHTS).is_file()

    @property
    def weights_file(self) -> Path:
        """File in which the graphs keep weights; a bundle whose graphs hold them all has none."""
        compact = self.path / WEIGHTS
        return compact if compact.is_file() else self.path / BASE_WEIGHTS

    def with_adapters(self, mix: AdapterMix) -> "Bundle":
        """Return the bundle with these adapters instead of its own."""
        own = read_calibration(self.path)
        return replace(self, adapters=mix, temperatures=mix.temperatures(own))

    @property
    def identity(self) -> str:
        """Hash of everything that the graphs depend on: two bundles with the same one run the same engines."""
        parts = [(adapter.card.files, weight) for adapter, weight in self.adapters.parts]
        return hashlib.sha256(json.dumps([self.manifest.files, parts], sort_keys=True).encode()).hexdigest()

    def temperature(self, present: tuple[str, ...]) -> float:
        """Return the confidence temperature for the modalities that are present; 1 where none was measured."""
        key = "".join("1" if m in present else "0" for m in MODALITIES)
        return self.temperatures.get(key, 1.0)


def bundle_folders() -> list[Path]:
    """Return folders in which bundles are looked up by name: the repository's, then the installed share."""
    here = Path(__file__).resolve()
    shares = [Path(prefix) / "share" for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if prefix]
    shares.append(Path(sysconfig.get_path("data")) / "share")
    return [here.parents[2] / "models", *(share / "peft_dml_ros" / "models" for share in shares)]


def find_bundle(name: str | Path) -> Path:
    """Return the folder of a bundle by path or name. Raises BundleError: no such folder; those that exist are named."""
    path = Path(name).expanduser()
    if (path / MANIFEST).is_file():
        return path
    for folder in bundle_folders():
        if (folder / name / MANIFEST).is_file():
            return folder / name
    known = {p.parent.name for folder in bundle_folders() for p in folder.glob(f"*/{MANIFEST}")}
    msg = f"no bundle '{name}': neither a folder with {MANIFEST} nor an installed bundle; {nearest(str(name), known)}"
    raise BundleError(msg)


def load_bundle(name: str | Path, trusted_key: str = "", adapter: str = DEFAULT) -> Bundle:
    """Read and verify a bundle.

    Raises BundleError: a file is missing or altered, a graph does not fit the model spec, or the signature is not good;
    ConfigError: the key is none.

    Args:
        name: Folder, or name of an installed bundle.
        trusted_key: Public key, or the file that holds it, that must have signed the bundle; any bundle when empty.
        adapter: Name, folder or mix, see `adapter_mix.parse_mix`; by default the bundle's own, if it has one.
    """
    path = find_bundle(name)
    try:
        content = read_limited(path / MANIFEST)
        if trusted_key:
            verify(path / MANIFEST, content, public_key(trusted_key))
        manifest = Manifest.model_validate_json(content)
    except (OSError, ValidationError) as error:
        msg = f"{path / MANIFEST}: no manifest of schema {SCHEMA_VERSION}: {one_line(error)}"
        raise BundleError(f"{msg}; fix: export it again") from error
    problems = [*altered_files(path, manifest.files, _used(path, manifest)), *_unfit(manifest)]
    if problems:
        msg = f"bundle {path} refused: {'; '.join(problems)}; fix: export it again, or restore it from its source"
        raise BundleError(msg)
    bundle = Bundle(path, manifest, read_calibration(path))
    return bundle.with_adapters(load_adapters(bundle, adapter, trusted_key))


def own_adapters(bundle: Bundle) -> list[str]:
    """Return the names of the adapters that come with a bundle."""
    return sorted(card.parent.name for card in (bundle.path / ADAPTERS).glob(f"*/{CARD}"))


def load_adapters(bundle: Bundle, text: str, trusted_key: str = "") -> AdapterMix:
    """Read and verify the adapters that a text names, for a bundle's base.

    Raises BundleError: one of them is missing, damaged or of another base, or the bundle has no base to add it to;
    ConfigError: the text says nothing sensible.

    Args:
        bundle: Verified bundle.
        text: Name, folder or mix, see `adapter_mix.parse_mix`.
        trusted_key: As for `load_bundle`.
    """
    own, base = bundle.path / ADAPTERS, str(bundle.manifest.base.get("sha256", ""))
    if text == DEFAULT and not (own / DEFAULT).is_dir():
        return BASE_ALONE
    weights = parse_mix(text)
    if weights and not bundle.has_base:
        msg = f"bundle {bundle.path} has no {BASE_WEIGHTS}: its graphs hold merged weights, no adapter can be added"
        raise BundleError(f"{msg}; fix: take a bundle with a base, e.g. models/base, or set adapter: none")
    found = ((find_adapter(name, own, base), weight) for name, weight in weights.items())
    return AdapterMix(
        tuple((load_adapter(path, base, bundle.manifest.name, trusted_key), weight) for path, weight in found)
    )


def _used(path: Path, manifest: Manifest) -> list[str]:
    """Return files that a hash must cover."""
    used = [graph.file for graph in manifest.graphs.values()]
    used += [file for files in manifest.variants.values() for file in files.values()]
    return used + [name for name in (CALIBRATION, BASE_WEIGHTS, WEIGHTS) if (path / name).is_file()]


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
