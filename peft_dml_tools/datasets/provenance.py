# SPDX-License-Identifier: Apache-2.0
"""Where a data set is from, and the check that two data sets share nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_tools.datasets.nuscenes_tables import find_version


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a data set is from.

    Attributes:
        root: Its folder.
        scenes: Names of its scenes, and what their descriptions and logs say of their origin.
        domain: Fields of the simulator's domain; empty for data sets that are not simulated.
    """

    root: Path
    scenes: frozenset[str]
    domain: dict[str, Any]

    @classmethod
    def of(cls, root: Path, version: str | None = None) -> Provenance:
        """Read the provenance of a nuScenes folder.

        Raises:
            DataError: a table is missing or damaged.
        """
        folder = root / find_version(root, version)
        try:
            scenes = json.loads((folder / "scene.json").read_text(encoding="utf-8"))
            logs = json.loads((folder / "log.json").read_text(encoding="utf-8"))
            note = folder / "simulate.json"
            settings = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
        except (OSError, ValueError) as error:
            msg = f"cannot read where {folder} is from: {error}"
            raise DataError(msg) from error
        logfiles = {row["token"]: row["logfile"] for row in logs}
        names = [(row["name"], row.get("description", ""), logfiles.get(row.get("log_token"), "")) for row in scenes]
        drives = frozenset("|".join(parts) for parts in names)
        return cls(root, drives, settings.get("domain", {}))


def shared(source: Path, target: Path) -> list[str]:
    """Return what two data sets have in common that a source and a target must not share; empty for nothing.

    Scenes are compared for all data sets; domain, vehicle, LiDAR, street layout, traffic side and weather for simulated
    ones.
    """
    a, b = Provenance.of(source), Provenance.of(target)
    names = ({text.split("|")[0] for text in one.scenes} for one in (a, b))
    both = sorted(set.intersection(*names))
    found = [f"scenes {', '.join(both[:5])}{f' and {len(both) - 5} more' if both[5:] else ''}"] if both else []
    if not a.domain or not b.domain:
        return found
    found += [
        f"{key} {a.domain[key]}" for key in ("name", "vehicle", "lidar") if a.domain.get(key) == b.domain.get(key)
    ]
    for key, every in (("streets", "mixed"), ("traffic", "both")):
        if a.domain.get(key) == b.domain.get(key) or every in {a.domain.get(key), b.domain.get(key)}:
            found.append(f"{key} {a.domain.get(key)}/{b.domain.get(key)}")
    weather = sorted(set(a.domain.get("weather", ())) & set(b.domain.get("weather", ())))
    return [*found, *(f"weather {text}" for text in weather)]


def require_disjoint(source: Path, target: Path) -> None:
    """Refuse two data sets that share what pretraining and adaptation must not share.

    Raises:
        ConfigError: all that they share is named, with the command that makes a pair.
    """
    if found := shared(source, target):
        msg = (
            f"source {source} and target {target} share {'; '.join(found)}. Fix: peft-dml simulate --domain source "
            "--out SOURCE, and --domain target --out TARGET"
        )
        raise ConfigError(msg)
