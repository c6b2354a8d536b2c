# SPDX-License-Identifier: Apache-2.0
"""Files that are held to their sha256, and the small JSON files that bundles and adapters have in common."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from peft_dml_ros.core.errors import BundleError

CALIBRATION: Final = "calibration.json"
LARGEST_CARD: Final = 16 * 2**20  #: No larger manifest or card is read


def sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_limited(file: Path) -> bytes:
    """Return a manifest's or card's bytes. Raises BundleError: it is larger than any of them; OSError: unreadable."""
    if (size := file.stat().st_size) > LARGEST_CARD:
        raise BundleError(f"{file} is of {size} bytes; no manifest has over {LARGEST_CARD}; fix: export it again")
    return file.read_bytes()


def altered_files(folder: Path, files: Mapping[str, str], used: Iterable[str]) -> list[str]:
    """Return what is wrong with the files of a folder."""
    problems = []
    for name, expected in files.items():
        file = (folder / name).resolve()
        if not file.is_relative_to(folder.resolve()):
            problems.append(f"'{name}' leaves the folder")
        elif not file.is_file():
            problems.append(f"'{name}' is missing")
        elif sha256(file) != expected:
            problems.append(f"'{name}' was altered (sha256 differs)")
    return [*problems, *(f"'{file}' has no sha256" for file in used if file not in files)]


def read_calibration(folder: Path) -> dict[str, float]:
    """Return the temperatures by availability mask; none without a file. Raises BundleError: the file is damaged."""
    file = folder / CALIBRATION
    if not file.is_file():
        return {}
    try:
        return {str(k): float(v) for k, v in json.loads(file.read_text())["temperature"].items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BundleError(f"{file} is not {{'temperature': {{mask: number}}}} ({error}); fix: restore it") from error
