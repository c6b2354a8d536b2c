# SPDX-License-Identifier: Apache-2.0
"""Built engines on disk: each with everything it was built from, so that none is ever used where it does not fit."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from peft_dml_ros.core.errors import EngineError

FORMAT: Final = "peft-dml engine 1"
FOLDER_VARIABLE: Final = "PEFT_DML_ENGINE_CACHE"
"""Environment variable that names another folder for built engines."""


@dataclass(frozen=True, slots=True)
class BuildProfile:
    """How an engine is built.

    Attributes:
        optimization_level: 0 (fast build) to 5 (fast engine), as TensorRT counts.
        workspace_mib: Scratch memory that a kernel may ask for.
        tf32: Whether float32 products may be rounded to TF32 on GPUs that can.
    """

    optimization_level: int = 3
    workspace_mib: int = 1024
    tf32: bool = True


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that a built engine depends on; it is built anew when any of it changes.

    Attributes:
        onnx_sha256: Of the graph's file.
        precision: Of the bundle.
        library: TensorRT's version.
        gpu: Name of the GPU.
        compute_capability: Of the GPU.
        driver: Version of its driver.
        profile: How it is built.
    """

    onnx_sha256: str
    precision: str
    library: str
    gpu: str
    compute_capability: str
    driver: str
    profile: BuildProfile

    def digest(self) -> str:
        """Short name of this key."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Folder of built engines: `PEFT_DML_ENGINE_CACHE`, or the user's cache folder."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "peft_dml_ros" / "engines"


def engine_path(folder: Path, graph: str, key: EngineKey) -> Path:
    """File of an engine; another key is another file, so that the previous engine stays usable."""
    gpu = re.sub(r"[^A-Za-z0-9]+", "-", key.gpu).strip("-").lower()
    return folder / f"{graph}-{key.precision}-{gpu}-{key.digest()}.engine"


def write_engine(path: Path, key: EngineKey, plan: bytes) -> None:
    """Store an engine atomically.

    Raises:
        EngineError: the folder cannot be written, or the disk is full; what was there stays.
    """
    header = {"format": FORMAT, "key": asdict(key), "sha256": hashlib.sha256(plan).hexdigest(), "bytes": len(plan)}
    write_atomically(path, json.dumps(header).encode() + b"\n" + plan)


def read_engine(path: Path, key: EngineKey) -> bytes:
    """The stored engine.

    Raises:
        EngineError: it is damaged, or was built for something else; every difference is named.
    """
    head, _, plan = path.read_bytes().partition(b"\n")
    try:
        header = json.loads(head)
        stored = header["key"]
        sound = header["format"] == FORMAT and header["sha256"] == hashlib.sha256(plan).hexdigest()
    except (ValueError, KeyError, TypeError):
        sound, stored = False, {}
    if not sound:
        msg = f"{path} is damaged or no engine of this software; it will be built again"
        raise EngineError(msg)
    wanted = asdict(key)
    if differences := [f"{name} {stored.get(name)} instead of {wanted[name]}" for name in _differing(stored, wanted)]:
        msg = f"{path} was built for {', '.join(differences)}; it will be built again"
        raise EngineError(msg)
    return plan


def require_space(folder: Path, nbytes: int) -> None:
    """Refuse to begin what could not be stored: a build takes minutes.

    Raises:
        EngineError: the disk has less space than this.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder).free) < nbytes:
        msg = (
            f"{folder} has {free >> 20} MiB free, an engine may take {nbytes >> 20} MiB; free space there or name"
            f" another folder in {FOLDER_VARIABLE}; engines built before are untouched"
        )
        raise EngineError(msg)


def engine_headers(folder: Path) -> Iterator[tuple[Path, dict[str, object]]]:
    """Every engine in a folder with what it says of itself."""
    for path in sorted(folder.glob("*.engine")):
        with path.open("rb") as file:
            try:
                yield path, json.loads(file.readline())
            except ValueError:
                continue


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file as a whole, or leave everything as it was.

    Raises:
        EngineError: the folder cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as temporary:
            temporary.write_bytes(content)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        msg = (
            f"cannot write {path} ({len(content) >> 20} MiB): {error.strerror}; free space there or name another folder"
            f" in {FOLDER_VARIABLE}; engines built before are untouched"
        )
        raise EngineError(msg) from error


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _differing(stored: dict[str, object], wanted: dict[str, object]) -> list[str]:
    return [name for name in wanted if stored.get(name) != wanted[name]]


def cached(path: Path, key: EngineKey, build: Callable[[], bytes], log: Callable[[str], None]) -> bytes:
    """The stored engine, or a new one that is then stored.

    Args:
        path: From `engine_path`.
        key: What it must have been built from.
        build: Makes the engine.
        log: Is told why one is built.

    Raises:
        EngineError: the build failed, or its result cannot be stored.
    """
    if path.is_file():
        try:
            return read_engine(path, key)
        except EngineError as error:
            log(str(error))
    else:
        log(f"no engine yet for {path.stem}: building it takes minutes, once")
    plan = build()
    write_engine(path, key, plan)
    return plan
