# SPDX-License-Identifier: Apache-2.0
"""The shipped base with noise in its default adapter's head: something that a few frames can make better."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from peft_dml_ros.core.adapter import WEIGHTS
from peft_dml_ros.core.bundle import ADAPTERS
from peft_dml_train.export.adapter import read_card, write_card

BASE = Path(__file__).parents[2] / "models" / "base"


def damaged_base(folder: Path) -> Path:
    """Copy models/base and damage the copy's default adapter, whose card then holds again.

    Returns:
        The folder.
    """
    shutil.copytree(BASE, folder)
    path = folder / ADAPTERS / "default" / WEIGHTS
    tensors, draw = load_file(path), torch.Generator().manual_seed(5)
    for name, value in tensors.items():
        if ".head." in name and value.ndim > 1:
            noise = torch.randn(value.shape, generator=draw) * value.float().std()
            tensors[name] = (value.float() + noise).to(value.dtype)
    save_file(tensors, path, {"format": "pt"})
    write_card(path.parent, read_card(path.parent))
    return folder
