# SPDX-License-Identifier: Apache-2.0
"""The vehicle's own adapters: a folder addressed by content, with a name for each base and adapter.

    objects/<sha256 of adapter.json>/    the adapter's files
    names/<base>/<name>                  the digest that the name stands for

`peft_dml_tools.bundles.adapter_changes` adds and removes them.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from peft_dml_ros.core.adapter import CARD
from peft_dml_ros.core.errors import BundleError, nearest

#: Environment variable that names another folder for the vehicle's adapters
FOLDER_VARIABLE: Final = "PEFT_DML_ADAPTERS"
BASE_DIGITS: Final = 16
_DIGEST: Final = re.compile("[0-9a-f]{64}")


class StoredAdapter(NamedTuple):
    """One name in the store."""

    name: str  #: By which the node finds it
    base: str  #: First digits of its base's hash
    path: Path  #: Folder of its files


def store_folder() -> Path:
    """Return the folder of the vehicle's adapters: `PEFT_DML_ADAPTERS`, or the user's data folder."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named).expanduser()
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "peft_dml_ros" / "adapters"


def stored_adapters(store: Path | None = None) -> Iterator[StoredAdapter]:
    """Yield every name of the store, by base."""
    store = store or store_folder()
    for file in sorted((store / "names").glob("*/*")):
        if not file.name.startswith("."):
            digest = file.read_text(errors="replace").strip()
            digest = digest if _DIGEST.fullmatch(digest) else "damaged"  # never the folder of all of them
            yield StoredAdapter(file.name, file.parent.name, store / "objects" / digest)


def find_adapter(name: str, own: Path, base: str) -> Path:
    """Return the folder of an adapter. Raises BundleError: there is none; those that there are for this base are named.

    Args:
        name: Folder, or name of one that comes with the bundle or is in the vehicle's store.
        own: Folder of the adapters that come with the bundle.
        base: sha256 of the base's weights.
    """
    for folder in (Path(name).expanduser(), own / name):
        if (folder / CARD).is_file():
            return folder
    known = {s.name: s.path for s in stored_adapters() if s.base == base[:BASE_DIGITS]}
    if name not in known:
        names = {*known, *(card.parent.name for card in own.glob(f"*/{CARD}")), "none"}
        msg = f"no adapter '{name}' for this base: neither a folder with {CARD} nor a known name"
        raise BundleError(f"{msg}; {nearest(name, names)}; fix: add one: peft-dml adapter add FOLDER")
    return known[name]
