# SPDX-License-Identifier: Apache-2.0
"""A bundle's network, its adapter merged, as the base of cells: everyone who has the bundle begins with it."""

from dataclasses import replace
from pathlib import Path

import torch

from peft_dml_evidence.cells import PROPOSED, Cell, TrainingPlan
from peft_dml_ros.core.bundle import BASE_WEIGHTS, load_bundle
from peft_dml_ros.core.errors import ConfigError
from peft_dml_train.adapters.base_weights import load_base_state
from peft_dml_train.adapters.lora import load_adapter, merge, weights_digest
from peft_dml_train.config import TrainConfig
from peft_dml_train.data.digest import digest
from peft_dml_train.loop.checkpoint import load_checkpoint
from peft_dml_train.loop.stages import new_network


def base_identity(path: Path) -> str:
    """Return a hash of a bundle's base and of the adapter that comes with it."""
    bundle = load_bundle(path)
    adapters = [adapter.card.files for adapter, _ in bundle.adapters.parts]
    return digest([bundle.manifest.files.get(BASE_WEIGHTS), adapters])


def start_identity(path: Path) -> str:
    """Return what identifies encoders to begin with: a weights file, or a bundle."""
    return base_identity(path) if path.is_dir() else weights_digest(start_state(path))


def start_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a file: a checkpoint, or a bundle's `base.safetensors`, which no adapter has changed."""
    return load_base_state(path.parent) if path.name == BASE_WEIGHTS else load_checkpoint(path)


def on_given_base(cell: Cell) -> Cell:
    """Return the cell as it is run on a given base: robustness is that of the given network itself."""
    return replace(cell, plan=TrainingPlan("base")) if cell.command == "robustness" and cell.plan == PROPOSED else cell


def bundle_state(path: Path, config: TrainConfig) -> dict[str, torch.Tensor]:
    """Return the weights of a bundle's network with its adapter merged.

    Raises ConfigError: the recipe describes another network; DataError: the bundle has no base.
    """
    bundle, network = load_bundle(path), new_network(config)
    state, wanted = load_base_state(bundle.path), network.state_dict()
    wrong = sorted(n for n in state.keys() | wanted.keys() if not _alike(state.get(n), wanted.get(n)))
    # What has no weights differs without a word.
    trained = bundle.manifest.provenance.get("config", {}).get("network", {})
    here = config.network.model_dump(mode="json")
    wrong = wrong or sorted(f"network.{n}" for n in trained.keys() & here.keys() if trained[n] != here[n])
    if wrong:
        msg = f"{path} holds another network than recipe '{config.name}', at {', '.join(wrong[:3])}"
        raise ConfigError(f"{msg}; fix: --base models/base goes with --config near or demo")
    network.load_state_dict(state)
    for adapter, _ in bundle.adapters.parts:
        network = merge(load_adapter(network, adapter.path))
    return network.state_dict()


def _alike(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is not None and b is not None and a.shape == b.shape


def refuse_other_base(plan: TrainingPlan) -> None:
    """Refuse a plan whose base differs from a given one. Raises ConfigError: names what the plan changes."""
    changes = [*plan.base, *([f"scenes of kind '{plan.source.kind}'"] if plan.source.kind != "any" else [])]
    if changes and plan.mode != "untrained":
        raise ConfigError(f"this cell trains a base of its own, with {', '.join(changes)}; fix: leave --base out")
