# SPDX-License-Identifier: Apache-2.0
"""Source and target domain: they must not share a scene, or the adaptation would only repeat the pretraining."""

from __future__ import annotations

import json
from pathlib import Path

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.data.dataset import scenes_of

BASE_SCENES = "base.json"
"""File next to `base.pt` with the scenes that it was trained on."""


def identities(data: Path, splits: tuple[str, ...]) -> dict[str, str]:
    """Return what identifies each scene of some splits, by its name.

    A simulated scene is known by its seed and name, a recorded one by its token.
    """
    about = next(iter(sorted(data.glob("*/simulate.json"))), None)
    reader = NuScenesReader(data)
    tokens = {row["name"]: row["token"] for row in reader.tables.rows("scene")}
    origin = f"seed {json.loads(about.read_text()).get('seed')}" if about else ""
    return {name: f"{origin}, {name}" if origin else str(tokens[name]) for name in scenes_of(reader, splits)}


def write_scenes(path: Path, data: Path, splits: tuple[str, ...], origin: str) -> None:
    """Note the scenes of a base, and where its weights come from."""
    scenes = sorted(identities(data, splits).values())
    path.write_text(json.dumps({"origin": origin, "data": data.name, "scenes": scenes}, indent=1) + "\n")


def origin_of(path: Path) -> str:
    """Return what a base's note says of its weights; nothing where there is no note."""
    return str(json.loads(path.read_text()).get("origin", "")) if path.is_file() else ""


def refuse_shared_scenes(path: Path, data: Path, splits: tuple[str, ...]) -> None:
    """Compare a base's scenes with those of a target.

    Args:
        path: Of `write_scenes`; a base of other origin, e.g. imported weights, has none.
        data: Folder of the target.
        splits: Of the target.

    Raises:
        ConfigError: scenes are in both.
        DataError: the note is damaged.
    """
    if not path.is_file():
        return
    try:
        source = set(json.loads(path.read_text())["scenes"])
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path} is damaged ({error}); run the pretraining again, which writes it"
        raise DataError(msg) from error
    shared = sorted(name for name, identity in identities(data, splits).items() if identity in source)
    if shared:
        more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
        msg = f"source and target share {', '.join(shared[:3])}{more}: the encoders were pretrained on them"
        raise ConfigError(
            f"{msg}; fix: choose other scenes in splits.finetune, or simulate a target with another --seed"
        )
