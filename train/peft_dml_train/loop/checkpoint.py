# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: written whole or not at all, and read without executing anything from them."""

import os
from pathlib import Path
from typing import Any

import torch

from peft_dml_ros.core.errors import DataError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a temporary file, then rename it: a crash leaves the last checkpoint as it was.

    Raises:
        DataError: it cannot be written, e.g. because the disk is full.
    """
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    # torch's writer hides the system's error behind its own.
    except (OSError, RuntimeError) as error:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
        kept = "the one before it is as it was" if path.is_file() else "there was none before it"
        msg = f"checkpoint {path} cannot be written ({error}); {kept}"
        raise DataError(f"{msg}; fix: make room on its disk and carry on with --resume") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return tensors and plain values of a checkpoint.

    Raises:
        DataError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise DataError(f"no checkpoint {path}; fix: run the stage before it first")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"checkpoint {path} cannot be read: {error}; fix: an older one, or train again") from error
    return state
