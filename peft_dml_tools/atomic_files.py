# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole or not at all, also on a disk that fills up meanwhile, and the folders for them."""

import json
import os
from pathlib import Path
from typing import Any

from peft_dml_ros.core.errors import ConfigError, DataError

ROOM = "fix: free space there, or name another folder"


def write_whole(path: Path, content: str | bytes, hint: str = ROOM) -> None:
    """Write a file under another name first, and give it its own once it is whole; its folder is made.

    Raises DataError: it cannot be written; nothing of it stays, and an older file of that name does.

    Args:
        path: The file.
        content: Text is written as UTF-8.
        hint: What to do where it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"cannot write {path} ({len(data)} bytes): {error.strerror or error}; {hint}") from error


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file for people, see `write_whole`."""
    write_whole(path, json.dumps(content, indent=1) + "\n")


def claim_folder(out: Path, *marks: str) -> None:
    """Make a folder for results; one that an earlier run made is known by a file of these names.

    Raises ConfigError: it holds something else, hidden entries do not count; or it cannot be written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK):
        raise ConfigError(f"{out} cannot be written to; fix: check its permissions, or choose another folder")
    if any(p.name[0] != "." for p in out.iterdir()) and not any((out / name).exists() for name in marks):
        raise ConfigError(f"{out} holds files of something else; fix: choose a new or an empty folder, or empty it")
