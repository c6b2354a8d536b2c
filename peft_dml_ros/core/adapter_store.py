# SPDX-License-Identifier: Apache-2.0
"""The vehicle's own adapters: a folder addressed by content, with a name for each base and adapter.

    objects/<sha256 of adapter.json>/    the adapter's files
    names/<base>/<name>                  the digest that the name stands for

An adapter is copied beside and then renamed, so that a full disk or a lost power supply leaves what was there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from peft_dml_ros.core.adapter import CARD, Adapter, load_adapter
from peft_dml_ros.core.errors import BundleError, nearest
from peft_dml_ros.core.verified_files import sha256

FOLDER_VARIABLE: Final = "PEFT_DML_ADAPTERS"
"""Environment variable that names another folder for the vehicle's adapters."""
BASE_DIGITS: Final = 16


class StoredAdapter(NamedTuple):
    """One name in the store.

    Attributes:
        name: By which the node finds it.
        base: First digits of its base's hash.
        path: Folder of its files.
    """

    name: str
    base: str
    path: Path


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
            yield StoredAdapter(file.name, file.parent.name, store / "objects" / file.read_text().strip())


def find_adapter(name: str, own: Path, base: str) -> Path:
    """Return the folder of an adapter.

    Args:
        name: Folder, or name of one that comes with the bundle or is in the vehicle's store.
        own: Folder of the adapters that come with the bundle.
        base: sha256 of the base's weights.

    Raises:
        BundleError: there is none; those that there are for this base are named.
    """
    for folder in (Path(name).expanduser(), own / name):
        if (folder / CARD).is_file():
            return folder
    known = {s.name: s.path for s in stored_adapters() if s.base == base[:BASE_DIGITS]}
    if name not in known:
        names = {*known, *(card.parent.name for card in own.glob(f"*/{CARD}")), "none"}
        msg = f"no adapter '{name}' for this base: neither a folder with {CARD} nor a known name"
        raise BundleError(f"{msg}; {nearest(name, names)}; add one: peft-dml adapter add FOLDER")
    return known[name]


def add_adapter(folder: Path, base: str, where: str, trusted_key: str = "", store: Path | None = None) -> Adapter:
    """Verify an adapter and copy it into the store; its name then stands for this one.

    Args:
        folder: The adapter.
        base: sha256 of the base's weights.
        where: The base's bundle, for messages.
        trusted_key: As for `load_adapter`.
        store: Another folder than the vehicle's.

    Raises:
        BundleError: the adapter is refused, see `load_adapter`, or it cannot be stored; what was there stays.
    """
    store = store or store_folder()
    load_adapter(folder, base, where, trusted_key)
    target = store / "objects" / sha256(folder / CARD)
    try:
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".add-") as temporary:
                work = Path(temporary) / target.name
                shutil.copytree(folder, work)
                load_adapter(work, base, where, trusted_key)  # what was copied, not what was looked at before
                _synchronise(work)
                work.rename(target)
        added = load_adapter(target, base, where, trusted_key)
        _point(store / "names" / base[:BASE_DIGITS] / added.card.name, target.name)
    except OSError as error:
        msg = f"adapter {folder} cannot be stored in {store}: {error.strerror}; make room or set {FOLDER_VARIABLE}"
        raise BundleError(f"{msg}; what was there is as it was") from error
    return added


def remove_adapter(name: str, base: str = "", store: Path | None = None) -> None:
    """Take a name out of the store, and the files that no other name stands for.

    Raises:
        BundleError: there is no such name, or adapters of several bases have it.
    """
    store = store or store_folder()
    every = list(stored_adapters(store))
    found = [s for s in every if s.name == name and s.base.startswith(base[:BASE_DIGITS])]
    if len(found) != 1:
        known = nearest(name, {s.name for s in every}) if not found else f"bases {', '.join(s.base for s in found)}"
        msg = f"{'several adapters' if found else 'no adapter'} '{name}' in {store}: {known}"
        raise BundleError(f"{msg}; choose one: --base HASH" if found else msg)
    (store / "names" / found[0].base / name).unlink()
    if all(other.path != found[0].path for other in stored_adapters(store)):
        shutil.rmtree(found[0].path, ignore_errors=True)


def _point(file: Path, digest: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(digest + "\n")
    temporary.replace(file)


def _synchronise(folder: Path) -> None:
    """Have everything on the disk before it gets its name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
