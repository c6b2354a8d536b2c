# SPDX-License-Identifier: Apache-2.0
"""Adapters of a bundle's base: read, verified, and merged into its weights with numpy.

An adapter is a folder: `adapter.json` (its card, with the base's hash and the sha256 of every other file), the
low-rank matrices and the small modules in the format of Hugging Face's `peft`, confidence temperatures, and the ranges
of activations for int8. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022: W' = W + α/r · B·A.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open

from peft_dml_ros.core.adapter_domain import DOMAIN
from peft_dml_ros.core.errors import BundleError, one_line
from peft_dml_ros.core.signature import public_key, verify
from peft_dml_ros.core.spec import Frozen
from peft_dml_ros.core.typing import AnyArray, Float32Array
from peft_dml_ros.core.verified_files import CALIBRATION, altered_files, read_calibration, read_limited

ADAPTER_SCHEMA: Final = 1
CARD: Final = "adapter.json"
CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
RANGES: Final = "activation_ranges.json"
PREFIX: Final = "base_model.model."  #: Before every name in peft's files

#: Options of peft that change the formula; none of them is known here
_UNSUPPORTED: Final = ("use_dora", "use_rslora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "lora_bias")


class AdapterCard(Frozen):
    """What `adapter.json` holds."""

    schema_version: Literal[1] = ADAPTER_SCHEMA
    name: str = Field(pattern=r"^\w[\w.-]*$")
    version: str = "0.1.0"
    description: str = ""
    licence: str = "Apache-2.0"
    base: str = Field(pattern="^[0-9a-f]{64}$", description="sha256 of the base's weights, as its manifest says")
    base_name: str = ""
    rank: int = Field(gt=0)
    alpha: int = Field(gt=0)
    files: dict[str, str] = Field(description="sha256 of every other file")
    provenance: dict[str, Any] = Field(default_factory=dict, description="Data, frames, seeds, command of the training")
    metrics: dict[str, Any] = Field(default_factory=dict, description="What it reaches, and against what")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A verified adapter, its values in memory (about a megabyte)."""

    path: Path  #: Its folder
    card: AdapterCard  #: What it says of itself
    tensors: Mapping[str, AnyArray]  #: Values by name, as `peft` names them without `PREFIX`
    temperatures: Mapping[str, float]  #: Confidence temperature by availability mask; empty where the base's hold
    ranges: Mapping[str, Mapping[str, float]]  #: Largest magnitude of an activation by graph and tensor, for int8

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return sum(array.nbytes for array in self.tensors.values())

    def low_rank(self) -> Iterator[tuple[str, AnyArray, AnyArray]]:
        """Yield (weight's name, A, B) of every adapted layer."""
        for name, a in self.tensors.items():
            layer, _, end = name.partition(".lora_A.")
            if end:
                yield f"{layer}.weight", a, self.tensors[f"{layer}.lora_B.{end}"]

    def whole(self) -> Iterator[tuple[str, AnyArray]]:
        """Yield (name, values) of what replaces the base's values."""
        yield from ((name, array) for name, array in self.tensors.items() if ".lora_" not in name)


def low_rank_product(a: AnyArray, b: AnyArray, shape: tuple[int, ...]) -> Float32Array:
    """Return B·A in the shape of the layer's weight: (out, in), (out, in, k) or (out, in, k, k)."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    product: Float32Array = b.reshape(len(b), -1) @ a.reshape(len(a), -1)
    return product.reshape(shape)


def load_adapter(folder: Path, base: str, where: str, trusted_key: str = "") -> Adapter:
    """Read and verify an adapter.

    Raises BundleError: it belongs to another base, a file is missing, altered or cut short, values are not finite or do
    not fit together, or the signature is not good.

    Args:
        folder: The adapter.
        base: sha256 of the base's weights; any base when empty.
        where: The base's bundle, for messages.
        trusted_key: Public key, or its file, that must have signed `adapter.json`; any adapter when empty.
    """
    try:
        content = read_limited(folder / CARD)
        if trusted_key:
            verify(folder / CARD, content, public_key(trusted_key))
        card = AdapterCard.model_validate_json(content)
    except (OSError, ValidationError) as error:
        msg = f"{folder} is no adapter of schema {ADAPTER_SCHEMA}: {CARD}: {one_line(error)}"
        raise BundleError(f"{msg}; fix: name an adapter's folder, or add it again from its source") from error
    if base and card.base != base:
        msg = (
            f"adapter '{card.name}' ({folder}) belongs to base '{card.base_name}' {card.base[:12]}, but {where} is base"
            f" {base[:12]}; fix: train it on this base: peft-dml-train adapt --base {where}"
        )
        raise BundleError(msg)
    extra = (name for name in (CALIBRATION, RANGES, DOMAIN) if (folder / name).is_file())
    if problems := altered_files(folder, card.files, (CONFIG, WEIGHTS, *extra)):
        raise BundleError(f"adapter {folder} refused: {'; '.join(problems)}; fix: add it again from its source")
    tensors = _read_tensors(folder / WEIGHTS)
    if problems := [*_unfit_config(folder, card), *_unfit_tensors(tensors, card)]:
        raise BundleError(f"adapter {folder} refused: {'; '.join(problems)}; fix: train it again")
    return Adapter(folder, card, tensors, read_calibration(folder), _read_ranges(folder))


def _read_tensors(path: Path) -> dict[str, AnyArray]:
    try:
        with safe_open(path, framework="numpy") as file:
            return {name.removeprefix(PREFIX): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError) as error:
        raise BundleError(f"{path} cannot be read: {error}; fix: add the adapter again from its source") from error


def _unfit_config(folder: Path, card: AdapterCard) -> Iterator[str]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        found = {name: config[key] for name, key in (("rank", "r"), ("alpha", "lora_alpha"))}
    except (ValueError, KeyError, TypeError) as error:
        yield f"'{CONFIG}' is none of peft's: {error}"
        return
    for name, value in found.items():
        if value != getattr(card, name):
            yield f"{name} is {getattr(card, name)} in '{CARD}', {value} in '{CONFIG}'"
    if config.get("base_model_name_or_path") != f"sha256:{card.base}":
        yield f"'{CONFIG}' names another base than '{CARD}'"
    yield from (f"option '{name}' of peft is not supported" for name in _UNSUPPORTED if config.get(name))


def _unfit_tensors(tensors: Mapping[str, AnyArray], card: AdapterCard) -> Iterator[str]:
    if not tensors:
        yield f"'{WEIGHTS}' holds nothing"
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            yield f"'{name}' has values that are not finite"
        layer, kind, end = name.partition(".lora_")
        if kind and end.startswith("A"):
            b = tensors.get(f"{layer}.lora_B{end[1:]}")
            if b is None or len(array) != card.rank or b.shape[1] != card.rank:
                yield f"'{layer}' has no pair of matrices of rank {card.rank}"
        elif kind and not end.startswith("B"):
            yield f"'{name}' is of no known kind"


def _read_ranges(folder: Path) -> dict[str, dict[str, float]]:
    path = folder / RANGES
    if not path.is_file():
        return {}
    try:
        found = {g: {t: float(v) for t, v in by.items()} for g, by in json.loads(path.read_text()).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise BundleError(f"{path} is not {{graph: {{tensor: number}}}} ({error}); fix: add it again") from error
    if any(not math.isfinite(v) or v < 0 for by in found.values() for v in by.values()):
        raise BundleError(f"{path}: a range is not finite; fix: add the adapter again from its source")
    return found
