# SPDX-License-Identifier: Apache-2.0
"""A recipe as its results and weights are known by."""

from typing import Any

from peft_dml_train.config import EARLIER_KEYS, LossConfig, TrainConfig

#: Losses' options that came after results were recorded: at their default they change nothing, and are left out
LATER = ("metric", "temperature")


def recipe_tree(config: TrainConfig) -> dict[str, Any]:
    """Return all options, as JSON holds them; those that were renamed by the names that recorded results know."""
    tree: dict[str, Any] = config.model_dump(mode="json")
    plain = LossConfig().model_dump(mode="json")
    tree["losses"] = {k: v for k, v in tree["losses"].items() if k not in LATER or v != plain[k]}
    names = {new: old for old, new in EARLIER_KEYS.items()}
    tree["dropout"] = {names.get(k, k): v for k, v in tree["dropout"].items()}
    return tree
