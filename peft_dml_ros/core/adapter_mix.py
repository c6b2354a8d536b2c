# SPDX-License-Identifier: Apache-2.0
"""Which adapters a bundle runs with, and the weights that come of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from peft_dml_ros.core.adapter import Adapter, low_rank_product
from peft_dml_ros.core.errors import BundleError, ConfigError
from peft_dml_ros.core.typing import AnyArray, Float32Array

DEFAULT: Final = "default"  #: The adapter that a bundle is meant to run with
OFF: Final = "none"  #: Runs the base alone


def parse_mix(text: str) -> dict[str, float]:
    """Return the weight of each adapter by name or folder, from `rain`, `none`, or a mix: `default=0.7,rain=0.3`.

    Raises ConfigError: a weight is no number from 0 to 1, their sum is above 1, or a name stands twice.
    """
    if text.strip() in {"", OFF}:
        return {}
    mix: dict[str, float] = {}
    for part in text.split(","):
        name, given, number = part.strip().partition("=")
        try:
            weight = float(number) if given else 1.0
        except ValueError:
            weight = -1.0
        if not name or name in mix or not 0.0 <= weight <= 1.0:
            msg = f"adapter '{text}': fix: give a name, 'none', or weights from 0 to 1 such as default=0.7,rain=0.3"
            raise ConfigError(msg)
        mix[name] = weight
    if sum(mix.values()) > 1.0 + 1e-6:
        raise ConfigError(f"adapter '{text}': weights add up to {sum(mix.values()):g}, more than 1; fix: lower them")
    return {name: weight for name, weight in mix.items() if weight}


@dataclass(frozen=True, slots=True)
class AdapterMix:
    """Adapters of one base, each with its weight; none for the base alone."""

    parts: tuple[tuple[Adapter, float], ...] = ()

    def __str__(self) -> str:
        """Return the text that `parse_mix` takes, with plain names."""
        if len(self.parts) == 1 and self.parts[0][1] == 1.0:
            return self.parts[0][0].card.name
        return ",".join(f"{adapter.card.name}={weight:g}" for adapter, weight in self.parts) or OFF

    def weights(self, base: Mapping[str, AnyArray], wanted: Iterable[str]) -> dict[str, Float32Array]:
        """Return those `wanted` weights that differ from the base's.

        Low-rank matrices are added, W + Σ wᵢ αᵢ/rᵢ BᵢAᵢ; the small modules are blended, M + Σ wᵢ (Mᵢ − M). Raises
        BundleError: an adapter has another shape than the base.
        """
        names, found = set(wanted), dict[str, Float32Array]()
        for adapter, weight in self.parts:
            scale = np.float32(weight * adapter.card.alpha / adapter.card.rank)
            for name, a, b in adapter.low_rank():
                if name in names:
                    start = _start(adapter, base, name, (len(b), *a.shape[1:]))
                    found[name] = found.get(name, start) + scale * low_rank_product(a, b, start.shape)
            for name, values in adapter.whole():
                if name in names:
                    mine = values.astype(np.float32)
                    start = _start(adapter, base, name, mine.shape)
                    blended = found.get(name, start) + np.float32(weight) * (mine - start)
                    found[name] = mine if weight == 1.0 else blended
        return found

    def temperatures(self, base: Mapping[str, float]) -> dict[str, float]:
        """Return the confidence temperatures by mask: the weighted mean of the adapters', the base's for the rest."""
        rest = 1.0 - sum(weight for _, weight in self.parts)
        masks = set(base).union(*(adapter.temperatures for adapter, _ in self.parts))
        return {
            mask: rest * base.get(mask, 1.0)
            + sum(weight * adapter.temperatures.get(mask, base.get(mask, 1.0)) for adapter, weight in self.parts)
            for mask in masks
        }

    def ranges(self, graph: str) -> dict[str, float]:
        """Return the largest magnitude of each activation of a graph among the adapters."""
        found: dict[str, float] = {}
        for adapter, _ in self.parts:
            for tensor, value in adapter.ranges.get(graph, {}).items():
                found[tensor] = max(found.get(tensor, 0.0), value)
        return found


BASE_ALONE: Final = AdapterMix()


def _start(adapter: Adapter, base: Mapping[str, AnyArray], name: str, shape: tuple[int, ...]) -> Float32Array:
    """Return the base's values, to which something of this shape is added."""
    values = base.get(name)
    if values is None or values.shape != shape:
        has = "nothing of that name" if values is None else f"shape {values.shape}"
        msg = f"adapter {adapter.path}: '{name}' of shape {shape} does not fit, the base has {has}"
        raise BundleError(f"{msg}; fix: train it again on this base")
    return values.astype(np.float32)
