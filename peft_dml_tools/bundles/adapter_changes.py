# SPDX-License-Identifier: Apache-2.0
"""Add adapters to the vehicle's store and remove them; `peft_dml_ros.core.adapter_store` says how it is laid out.

An adapter is copied under another name and then renamed, so that a full disk or a lost power supply leaves what was
there.
"""

import os
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from peft_dml_ros.core.adapter import CARD, Adapter, load_adapter
from peft_dml_ros.core.adapter_store import BASE_DIGITS, FOLDER_VARIABLE, store_folder, stored_adapters
from peft_dml_ros.core.errors import BundleError, nearest
from peft_dml_ros.core.verified_files import sha256


def add_adapter(folder: Path, base: str, where: str, trusted_key: str = "", taken: Collection[str] = ()) -> Adapter:
    """Verify an adapter and copy it into the store; its name then stands for this one.

    Raises BundleError: the adapter is refused, see `load_adapter`, it cannot be stored, or its name is one of `taken`,
    those that come with the bundle and come first; what was there stays.
    """
    store = store_folder()
    if (name := load_adapter(folder, base, where, trusted_key).card.name) in taken:
        msg = f"{where} comes with an adapter '{name}', which that name stands for"
        msg = f"{msg}; fix: set the parameter adapter to {folder.resolve()}, or train it under another name"
        raise BundleError(msg)
    target = store / "objects" / sha256(folder / CARD)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".add-") as temporary:
            work = Path(temporary) / target.name
            shutil.copytree(folder, work)
            added = load_adapter(work, base, where, trusted_key)  # what was copied, not what was looked at before
            _synchronise(*work.rglob("*"))
            if target.is_dir():  # without the signature that it has now, or damaged since
                target.rename(Path(temporary) / "before")
            work.rename(target)
        added = replace(added, path=target)
        _point(store / "names" / base[:BASE_DIGITS] / added.card.name, target.name)
    except OSError as error:
        msg = f"adapter {folder} cannot be stored in {store}: {error.strerror}; fix: make room or set {FOLDER_VARIABLE}"
        raise BundleError(f"{msg}; what was there is as it was") from error
    return added


def remove_adapter(name: str, base: str = "") -> None:
    """Take a name out of the store, and the files that no other name stands for.

    Raises BundleError: there is no such name, or adapters of several bases have it.
    """
    store = store_folder()
    every = list(stored_adapters(store))
    if not (named := [s for s in every if s.name == name]):
        raise BundleError(f"no adapter '{name}' in {store}: {nearest(name, {s.name for s in every})}")
    found = [s for s in named if s.base.startswith(base[:BASE_DIGITS])]
    if len(found) != 1:
        msg = f"{'several adapters' if found else 'no adapter'} '{name}'{f' of base {base}' * bool(base)} in {store}"
        raise BundleError(f"{msg}: there are some of bases {', '.join(s.base for s in named)}; fix: --base HASH")
    (store / "names" / found[0].base / name).unlink()
    if all(other.path != found[0].path for other in stored_adapters(store)):
        shutil.rmtree(found[0].path, ignore_errors=True)


def _point(file: Path, digest: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(digest + "\n")
    _synchronise(temporary)
    temporary.replace(file)


def _synchronise(*paths: Path) -> None:
    """Have everything on the disk before it gets its name."""
    for path in paths:
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
