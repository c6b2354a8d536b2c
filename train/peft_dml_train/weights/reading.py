# SPDX-License-Identifier: Apache-2.0
"""Tensors of a foreign weights file. Nothing in it is ever executed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from peft_dml_ros.core.errors import DataError

WRAPPERS = ("state_dict", "model", "model_state", "network")


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the named tensors of a .safetensors file or of a torch checkpoint.

    Raises DataError: no such file, no tensors in it, or it would have to run code to be read.
    """
    if not path.is_file():
        raise DataError(f"weights file {path} does not exist; fix: check the path")
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged: {error}; fix: download it again") from error
    except Exception as error:
        raise DataError(
            f"{path} is not read: it holds more than tensors, and reading that could run code ({_first_line(error)}); "
            "fix: where you trust its source, save its 'state_dict' alone as .safetensors and import that"
        ) from error
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = {
        str(k).removeprefix("module."): v
        for k, v in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(v, torch.Tensor)
    }
    if not tensors:
        raise DataError(f"{path} holds no named tensors; fix: save a state_dict")
    return tensors


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
