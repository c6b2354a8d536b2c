# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: written whole or not at all, and read without executing anything from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from peft_dml_ros.core.errors import DataError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside, then rename: a crash leaves the last checkpoint as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Tensors and plain values of a checkpoint.

    Raises:
        DataError: there is none, or it is damaged.
    """
    if not path.is_file():
        msg = f"no checkpoint {path}; run the stage before it first"
        raise DataError(msg)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        msg = f"checkpoint {path} cannot be read: {error}"
        raise DataError(msg) from error
