# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: written whole or not at all, and read without executing anything from them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from peft_dml_ros.core.errors import DataError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside, then rename: a crash leaves the last checkpoint as it was.

    Raises:
        DataError: it cannot be written, e.g. because the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    # torch's writer hides the system's error behind its own.
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        free_mb = shutil.disk_usage(path.parent).free // 2**20
        kept = "the one before it is as it was" if path.is_file() else "there was none before it"
        msg = (
            f"checkpoint {path} cannot be written ({error}); {free_mb} MiB are free on its disk; {kept}; make room and"
        )
        raise DataError(f"{msg} carry on with --resume") from error


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
