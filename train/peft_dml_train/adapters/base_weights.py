# SPDX-License-Identifier: Apache-2.0
"""The base's weights as bundles store them: every parameter and statistic by name, the large ones in 16 bit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

import torch
from safetensors.torch import load_file, save_file

from peft_dml_ros.core.bundle import BASE_WEIGHTS
from peft_dml_ros.core.errors import DataError

#: Tensors of fewer values stay in 32 bit: they are few in all, and rounded they would cost most of the accuracy
LEAST: Final = 512
LARGEST: Final = 60000.0  #: Where float16 ends, with room for rounding
READABLE: Final = 0o644
State: TypeAlias = Mapping[str, torch.Tensor]


def is_halved(value: torch.Tensor) -> bool:
    """Return True for a tensor that is stored in 16 bit."""
    wide = value.dtype == torch.float32 and value.ndim > 1 and value.numel() >= LEAST
    return wide and float(value.abs().max()) <= LARGEST


def rounded(state: State) -> dict[str, torch.Tensor]:
    """Return a network's state with the values that its stored form has: what adapters are trained on."""
    return {name: value.half().float() if is_halved(value) else value.clone() for name, value in state.items()}


def stored(state: State) -> dict[str, torch.Tensor]:
    """Return a state as it is written."""
    return {name: (value.half() if is_halved(value) else value).contiguous() for name, value in state.items()}


def save_base(state: State, folder: Path) -> Path:
    """Write `base.safetensors` into a bundle; its values are those of `rounded`."""
    path = folder / BASE_WEIGHTS
    save_file(stored(state), path, {"format": "pt"})
    path.chmod(READABLE)  # safetensors leaves it to its owner alone
    return path


def load_base_state(bundle: Path) -> dict[str, torch.Tensor]:
    """Return the base's state in 32 bit. Raises DataError: the bundle has no base, or it is damaged."""
    try:
        found = load_file(bundle / BASE_WEIGHTS)
    except Exception as error:
        raise DataError(f"{bundle / BASE_WEIGHTS} cannot be read ({error}); fix: take a bundle with a base") from error
    return {name: value.float() if value.dtype == torch.float16 else value for name, value in found.items()}
