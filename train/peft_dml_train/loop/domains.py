# SPDX-License-Identifier: Apache-2.0
"""Source and target domain: they must not share a scene, or the adaptation would only repeat the pretraining."""

import json
import logging
from pathlib import Path
from typing import Any

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_tools.atomic_files import write_json
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.provenance import domain_of, scene_identities, shared_facts
from peft_dml_train.data.dataset import scenes_of

log = logging.getLogger(__name__)
BASE_SCENES = "base.json"
"""File next to `base.pt` with the scenes that it was trained on, and their domain."""


def _identities(data: Path, splits: tuple[str, ...]) -> dict[str, str]:
    known = scene_identities(data)
    return {name: known[name] for name in scenes_of(NuScenesReader(data), splits)}


def write_scenes(path: Path, data: Path, splits: tuple[str, ...], origin: str) -> None:
    """Note the scenes of a base and their domain, and where its weights come from."""
    scenes = sorted(_identities(data, splits).values())
    note = {"origin": origin, "data": data.name, "domain": domain_of(data), "scenes": scenes}
    write_json(path, note)


def read_note(path: Path) -> dict[str, Any]:
    """Return a base's note; empty for a base of another origin, e.g. imported weights, which has none.

    Raises:
        DataError: the note is damaged.
    """
    if not path.is_file():
        return {}
    try:
        note = json.loads(path.read_text())
        return {**note, "scenes": list(note["scenes"])}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); fix: run the pretraining again, which writes it") from error


def source_domain(note: dict[str, Any], target: Path) -> dict[str, Any]:
    """Return the domain of a base's scenes from its note, or from the source's folder next to the target's; else {}."""
    folder = target.resolve().parent / str(note.get("data"))
    if note.get("domain") or not any(folder.glob("*/simulate.json")):
        return dict(note.get("domain", {}))
    return domain_of(folder) if set(note["scenes"]) <= set(scene_identities(folder).values()) else {}


def refuse_shared_scenes(path: Path, data: Path, splits: tuple[str, ...]) -> None:
    """Compare a base's scenes with those of a target; what else their domains share is a warning.

    Args:
        path: Of `write_scenes`.
        data: Folder of the target.
        splits: Of the target.

    Raises:
        ConfigError: scenes are in both.
        DataError: the note, or a table of the target, is damaged.
    """
    note = read_note(path)
    if not note:
        return
    source = set(note["scenes"])
    shared = sorted(name for name, identity in _identities(data, splits).items() if identity in source)
    if shared:
        more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
        msg = f"source and target share {', '.join(shared[:3])}{more}: the encoders were pretrained on them"
        msg = f"{msg}; fix: choose other scenes in splits.finetune, or simulate a target with another --seed"
        raise ConfigError(msg)
    if facts := shared_facts(source_domain(note, data), domain_of(data)):
        log.warning("source and target share %s: the adaptation has the less to gain", ", ".join(facts))
