# SPDX-License-Identifier: Apache-2.0
"""Files of fleet jobs on local paths and on `fsspec` URLs (s3://, gs://, ...): inputs fetched, results published whole.

A result is a folder that is visible with its marker file only when it is complete: locally by one rename, in object
stores by writing the marker last.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Final

from peft_dml_ros.core.errors import ConfigError, DataError

MARKER: Final = "result.json"  #: File of a result folder that is written last; a folder without it does not exist
CHUNK: Final = 1 << 20


def is_url(place: str) -> bool:
    """Return whether a place is an fsspec URL and not a path of this machine."""
    return "://" in place


def filesystem(place: str) -> tuple[Any, str]:
    """Return the fsspec file system of a place, and the place as that file system names it.

    Raises ConfigError: fsspec or the package of this protocol is not installed.
    """
    try:
        import fsspec

        fs, path = fsspec.core.url_to_fs(place)
    except (ImportError, ValueError) as error:
        msg = f"{place}: {error}; fix: pip install 'peft_dml_ros[fleet]' and the protocol's package"
        raise ConfigError(msg) from error
    return fs, str(path)


@dataclass(frozen=True)
class ResultStore:
    """A folder of results, local or remote."""

    root: str  #: Path or URL

    @cached_property
    def _fs(self) -> tuple[Any, str]:
        return filesystem(self.root)

    def path(self, name: str) -> str:
        """Return where a file of this store lies, as its file system names it."""
        return str(PurePosixPath(self._fs[1]) / name)

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where there is no such file."""
        try:
            return bytes(self._fs[0].cat_file(self.path(name)))
        except FileNotFoundError:
            return None

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return a JSON file's content; None where it is missing or was cut short."""
        content = self.read(name)
        try:
            return None if content is None else dict(json.loads(content))
        except (ValueError, TypeError):
            return None

    def result(self, folder: str) -> dict[str, Any] | None:
        """Return the marker of a complete result; None where there is none."""
        return self.read_json(f"{folder}/{MARKER}")

    def names(self, folder: str) -> list[str]:
        """Return the names of the entries of a folder, sorted; empty where it does not exist."""
        try:
            return sorted(PurePosixPath(p).name for p in self._fs[0].ls(self.path(folder), detail=False))
        except FileNotFoundError:
            return []

    def write(self, name: str, content: bytes) -> None:
        """Write one file; it is seen whole or not at all."""
        fs, target = self._fs[0], self.path(name)
        if is_url(self.root):
            fs.pipe_file(target, content)
            return
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=Path(target).parent, prefix=".part-", delete=False) as file:
            try:
                file.write(content)
                file.flush()
            except OSError:
                Path(file.name).unlink(missing_ok=True)
                raise
        os.replace(file.name, target)  # noqa: PTH105  atomic on purpose

    def publish(self, folder: str, local: Path) -> None:
        """Move a finished local folder, its marker included, to `folder` of this store.

        Raises OSError: the disk is full or the store refuses; nothing becomes visible then.
        """
        if not is_url(self.root):
            target = Path(self.path(folder))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            try:
                os.replace(local, target)  # noqa: PTH105  same file system: `workspace` puts it there
            except OSError:
                if not (target / MARKER).is_file():  # a retried job of a node believed dead may have won the race
                    raise
            return
        files = sorted(p for p in local.rglob("*") if p.is_file())
        for file in [*(p for p in files if p.name != MARKER), *(p for p in files if p.name == MARKER)]:
            self._fs[0].put_file(str(file), self.path(f"{folder}/{file.relative_to(local).as_posix()}"))

    def remove(self, folder: str) -> None:
        """Delete a folder of this store; nothing happens where it does not exist."""
        if self._fs[0].exists(self.path(folder)):
            self._fs[0].rm(self.path(folder), recursive=True)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Yield an empty local folder that is removed afterwards, on the store's own file system where it is local."""
        parent = None
        if not is_url(self.root):
            parent = Path(self.path(".part"))
            parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="job-", dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fetched(place: str, files: list[str] | None = None) -> Iterator[Path]:
    """Yield a local path of an input; what comes from a URL is downloaded and removed afterwards.

    Raises DataError: it does not exist or cannot be fetched.

    Args:
        place: Path or URL of a file or folder.
        files: Paths below a folder to fetch; None fetches all of it.
    """
    if not is_url(place):
        yield Path(place)
        return
    fs, path = filesystem(place)
    with tempfile.TemporaryDirectory(prefix="peft_dml_fetch_") as folder:
        target = Path(folder) / PurePosixPath(path).name
        try:
            if files is not None:
                for name in files:
                    (target / name).parent.mkdir(parents=True, exist_ok=True)
                    fs.get_file(f"{path}/{name}", str(target / name))
            else:
                fs.get(path, str(target), recursive=bool(fs.isdir(path)))
        except FileNotFoundError as error:
            raise DataError(f"{place} does not exist or is not readable: {error}; fix: check the address") from error
        yield target


def content_digest(place: str) -> str:
    """Return a digest of a file's or folder's content. Raises DataError: it does not exist.

    Local files are read whole. Of remote objects the store's own identity counts (ETag, size, time of change): reading
    them here would download everything twice.
    """
    digest = hashlib.sha256()
    fs, path = filesystem(place)
    if not fs.exists(path):
        raise DataError(f"{place} does not exist; fix: name a bag, a nuScenes folder, or a pattern of such")
    for name in [path] if fs.isfile(path) else sorted(fs.find(path)):
        digest.update(str(name).removeprefix(path).encode() + b"\0")  # a copy under another name is the same drive
        if is_url(place):
            digest.update(str(fs.ukey(name)).encode())
            continue
        with Path(name).open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
