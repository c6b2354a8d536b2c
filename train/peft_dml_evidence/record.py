# SPDX-License-Identifier: Apache-2.0
"""A cell's result as JSON, and what tells whether it is still the result of that cell."""

import os
import platform
import subprocess
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from peft_dml_evidence.cells import Cell, as_tree
from peft_dml_evidence.given_base import start_identity
from peft_dml_evidence.recipe import recipe_tree
from peft_dml_evidence.training import CellBench, way
from peft_dml_train.data.digest import digest

SCHEMA = 1


@lru_cache(maxsize=1)
def commit() -> str:
    """Return the commit of the source code, with `+` when files differ from it; unknown outside a checkout."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "train", "peft_dml_ros")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def identity(bench: CellBench, cell: Cell, seed: int) -> str:
    """Return what changes with the result of the command: a hash of cell, recipe, seed, data and frames."""
    config, first = (recipe_tree(bench.config(cell.plan, seed, second=second)) for second in (True, False))
    picks = (cell.test, cell.plan.source, cell.plan.target)
    folders = [bench.folder.identity["hash"], *(bench.data(pick).identity["hash"] for pick in picks if pick.domain)]
    given = bench.setting.base or bench.setting.start
    start = start_identity(given) if given else ""
    tree = [SCHEMA, as_tree(cell), config, first, folders, bench.setting.frames, bench.setting.scenes, start]
    return digest([*tree, *way(cell.plan)])


def header(bench: CellBench, cell: Cell, seed: int) -> dict[str, Any]:
    """Return what a result says of itself besides its figures."""
    recipe = bench.config(cell.plan, seed, second=True)
    folder = bench.data(cell.test)
    return {
        "schema": SCHEMA,
        "command": cell.command,
        "cell": cell.name,
        "about": cell.about,
        "config": bench.setting.config,
        "seed": seed,
        "identity": identity(bench, cell, seed),
        "commit": commit(),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "torch": torch.__version__},
        "data": folder.identity,
        "data_seed": folder.identity["seed"],
        "config_hash": digest(recipe_tree(recipe)),
        "overrides": [*bench.setting.overrides, *cell.plan.base, *cell.plan.adapt],
        "mode": cell.plan.mode,
        "frames_at_most": bench.setting.frames,
        "training_scenes_at_most": bench.setting.scenes,
        "range_m": recipe.spec.grid.half_range_m,
        "base": bench.setting.base.name if bench.setting.base else "",
        "steps": {
            "base": recipe.pretrain.steps
            if not bench.setting.base and cell.plan.mode not in {"scratch", "untrained"}
            else 0,
            "adapted": recipe.finetune.steps if cell.plan.mode not in {"base", "untrained"} else 0,
        },
    }
