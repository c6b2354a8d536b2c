# SPDX-License-Identifier: Apache-2.0
"""Where a data set is from, and what two of them share: a source and a target should share nothing."""

import json
from pathlib import Path
from typing import Any

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.datasets.nuscenes_tables import find_version


def _table(root: Path, name: str, missing: Any = None) -> Any:
    path = Path(*find_version(root), name)
    if missing is not None and not path.is_file():
        return missing
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read where {root} is from: {error}; fix: copy it again") from error


def domain_of(root: Path) -> dict[str, Any]:
    """Return the simulator's domain, empty for real data. Raises DataError: the note of the simulation is damaged."""
    return dict(_table(root, "simulate.json", {}).get("domain", {}))


def scene_identities(root: Path) -> dict[str, str]:
    """Return what identifies each scene, by its name: seed and name of a simulated one, token of a recorded one.

    Raises DataError: a table is missing or damaged.
    """
    settings = _table(root, "simulate.json", {})
    rows = _table(root, "scene.json")
    return {r["name"]: f"seed {settings.get('seed')}, {r['name']}" if settings else str(r["token"]) for r in rows}


def shared_facts(source: dict[str, Any], target: dict[str, Any]) -> list[str]:
    """Return what two domains have in common: name, vehicle, LiDAR, streets, side of traffic, weather."""
    if not source or not target:
        return []
    found = [f"{key} {source[key]}" for key in ("name", "vehicle", "lidar") if source.get(key) == target.get(key)]
    for key, every in (("streets", "mixed"), ("traffic", "both")):
        if source.get(key) == target.get(key) or every in {source.get(key), target.get(key)}:
            found.append(f"{key} {source.get(key)}/{target.get(key)}")
    weather = sorted(set(source.get("weather", ())) & set(target.get("weather", ())))
    return [*found, *(f"weather {text}" for text in weather)]
