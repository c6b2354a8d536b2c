# SPDX-License-Identifier: Apache-2.0
"""Temporary folders of sessions; those of killed ones are removed when the next session starts."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PREFIX: Final = "peft_dml_session_"
#: File in such a folder that its process holds locked; the kernel releases it with the process, however that ends
LOCK: Final = ".lock"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a temporary folder, which is removed with what is in it; first remove what killed processes have left."""
    remove_leftovers()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        path = Path(folder)
        new = path / f"{LOCK}.new"
        with new.open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            new.rename(path / LOCK)  # only now do others see it, and it is locked already
            yield path


def remove_leftovers() -> None:
    """Remove this user's scratch folders whose lock no process holds; what cannot be removed stays."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
                continue
            with (folder / LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
