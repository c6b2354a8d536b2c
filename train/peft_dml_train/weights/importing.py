# SPDX-License-Identifier: Apache-2.0
"""Public weights to a base network that the training starts from."""

import json
import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_train.config import TrainConfig
from peft_dml_train.loop.checkpoint import save_checkpoint
from peft_dml_train.loop.stages import new_network
from peft_dml_train.weights import pillar, resnet
from peft_dml_train.weights.mapping import MappingReport, fill
from peft_dml_train.weights.reading import read_tensors

BASE, ACCOUNT = "base.pt", "import.json"


def import_weights(
    config: TrainConfig, out: Path, *, lidar: Path | None = None, camera: Path | None = None, partial: bool = False
) -> dict[str, MappingReport]:
    """Fill the LiDAR encoder and the image backbone; write `base.pt` and `import.json`; return the accounts by encoder.

    Raises ConfigError: no file given; DataError: a file cannot be read safely, is of no known project, or leaves
    tensors of its encoder unfilled.

    Args:
        config: Recipe whose network is filled; what no file gives keeps its random start.
        out: Folder of the run.
        lidar: CenterPoint-pillar checkpoint.
        camera: ResNet weights.
        partial: Take what fits, instead of refusing a file that does not fill its encoder.
    """
    if lidar is None and camera is None:
        raise ConfigError("nothing to import; fix: give --pillar, --resnet or both")
    network = new_network(config)
    state, accounts = network.state_dict(), {}
    if lidar is not None:
        tensors = read_tensors(lidar)
        rules = pillar.pillar_rules(tensors, config.network.lidar)
        accounts["lidar"] = fill(state, pillar.TARGET, tensors, rules, pillar.reason)
    if camera is not None:
        tensors = read_tensors(camera)
        rules = resnet.resnet_rules(tensors, config.network.camera)
        accounts["camera"] = fill(state, resnet.TARGET, tensors, rules, resnet.reason)
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({name: asdict(account) for name, account in accounts.items()}, indent=1)
    (out / ACCOUNT).write_text(f"{text}\n")
    if not partial and not all(account.complete for account in accounts.values()):
        raise DataError(_complaint(accounts, out))
    save_checkpoint(out / BASE, state)
    return accounts


def _complaint(accounts: dict[str, MappingReport], out: Path) -> str:
    lines = []
    for name, account in accounts.items():
        lines += [f"{name}: {t} is missing" for t in account.missing]
        lines += [
            f"{name}: {m['source']} is {m['source_shape']}, {m['target']} is {m['target_shape']}"
            for m in account.mismatched
        ]
    shown = "; ".join(lines[:8]) + (f"; and {len(lines) - 8} more" if len(lines) > 8 else "")
    return f"{shown}. All is in {out / ACCOUNT}; fix: correct the recipe's sizes, or take what fits with --partial"


def account_lines(accounts: dict[str, MappingReport]) -> list[str]:
    """Return the accounts in words: counts, and every tensor that was left or not filled."""
    lines = []
    for name, account in accounts.items():
        values = sum(math.prod(entry["shape"]) for entry in account.used)
        lines.append(f"{name}: {len(account.used)} tensors used ({values:,} values), {len(account.unused)} not used")
        reasons = Counter(entry["reason"] for entry in account.unused)
        lines += [f"  not used: {count} ({text})" for text, count in reasons.items()]
        lines += [f"  missing: {target}" for target in account.missing]
        lines += [
            f"  shapes differ: {m['source']} {m['source_shape']}, {m['target']} {m['target_shape']}"
            for m in account.mismatched
        ]
    return lines
