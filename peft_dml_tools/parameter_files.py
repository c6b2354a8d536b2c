# SPDX-License-Identifier: Apache-2.0
"""Read the node's parameters from a file, for commands that work without the node."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.params import PerceptionParams, nested, validated

Params = TypeVar("Params", bound=PerceptionParams)


def load_params(
    source: Path | Mapping[str, Any],
    node: str = "perception",
    model: type[Params] = PerceptionParams,  # type: ignore[assignment]  # the default of a type variable
) -> Params:
    """Return parameters from a ROS parameter file, or from nested values.

    Raises ConfigError: the file cannot be read, or holds unknown keys or bad values.

    Args:
        source: YAML file (`<node>: ros__parameters:` or plain), or a mapping of nested or dotted names.
        node: Name of the node whose section is read.
        model: What may stand in it.
    """
    if not isinstance(source, Path):
        return validated(model, nested(source), "parameters")
    try:
        tree = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"cannot read parameter file {source}: {' '.join(str(error).split())}"
        raise ConfigError(f"{msg}; fix: config/perception.yaml is one") from error
    for key in (node, f"/{node}", "/**"):
        tree = tree.get(key, tree) if isinstance(tree, dict) else tree
    tree = tree.get("ros__parameters", tree) if isinstance(tree, dict) else tree
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: {type(tree).__name__} instead of parameters; fix: write a mapping")
    return validated(model, nested(tree), str(source))
