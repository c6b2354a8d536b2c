# SPDX-License-Identifier: Apache-2.0
"""Write a bundle's manifest; the vehicle only reads it."""

from pathlib import Path

from peft_dml_ros.core.bundle import ADAPTERS, MANIFEST, Manifest
from peft_dml_ros.core.signature import SUFFIX
from peft_dml_ros.core.verified_files import sha256
from peft_dml_tools.atomic_files import write_json

SIGNATURE = MANIFEST + SUFFIX  #: File with a bundle's signature, which its manifest does not list


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest with the sha256 of every other file, atomically. Raises DataError: it cannot be written."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = path.name.startswith(".") or path.name in {MANIFEST, SIGNATURE}
        if path.is_file() and not hidden and name.parts[0] != ADAPTERS:
            files[str(name)] = sha256(path)
    write_json(folder / MANIFEST, manifest.model_copy(update={"files": files}).model_dump(mode="json"))
