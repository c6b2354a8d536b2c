# SPDX-License-Identifier: Apache-2.0
"""Keep built engines on disk, each with everything it was built from, so that none is used where it does not fit."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from peft_dml_ros.core.errors import EngineError

FORMAT: Final = "peft-dml engine 2"
FOLDER_VARIABLE: Final = "PEFT_DML_ENGINE_CACHE"  #: Environment variable that names another folder for built engines
_LONGEST_HEADER: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class BuildProfile:
    """How an engine is built."""

    optimization_level: int = 3  #: 0 (fast build) to 5 (fast engine), as TensorRT counts
    workspace_mib: int = 1024  #: Scratch memory that a kernel may ask for
    tf32: bool = True  #: Whether float32 products may be rounded to TF32 on GPUs that can


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that a built engine depends on."""

    onnx_sha256: str  #: Digest of the graph with its adapters merged, which holds its precision as well
    library: str  #: Name and version of TensorRT
    capabilities: tuple[str, ...]  #: Compute capabilities of the GPUs that it runs on
    gpu: str = ""  #: Name of the one GPU that it was tuned on; empty when it was built ahead of time
    driver: str = ""  #: Version of that GPU's driver; empty likewise
    profile: BuildProfile | None = None  #: How it is built; none takes any

    def differences(self, stored: dict[str, Any]) -> list[str]:
        """Return in words what keeps a stored engine from being used for this key."""
        wanted = json.loads(json.dumps(asdict(self)))
        names = ("onnx_sha256", "library", "gpu", "driver", *(("profile",) if self.profile else ()))
        found = [f"{n} {stored.get(n)} instead of {wanted[n]}" for n in names if stored.get(n) != wanted[n]]
        lacking = [c for c in self.capabilities if c not in stored.get("capabilities", ())]
        built_for = ", ".join(stored.get("capabilities", ()))
        return found + [f"compute capability {built_for} instead of {c}" for c in lacking]


def cache_folder() -> Path:
    """Return the folder of built engines: `PEFT_DML_ENGINE_CACHE`, or the user's cache folder."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "peft_dml_ros" / "engines"


def engine_headers(folder: Path, name: str = "") -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield every engine in a folder, newest first, with its header; an unreadable header is empty."""
    found = [path for path in folder.glob(f"{name}*.engine") if path.is_file()]
    for path in sorted(found, key=lambda p: (-p.stat().st_mtime_ns, p.name)):
        with path.open("rb") as file:
            try:
                header = json.loads(file.readline(_LONGEST_HEADER))
                usable = header["format"] == FORMAT and isinstance(header["key"], dict)
            except (ValueError, KeyError, TypeError):
                usable, header = False, {}
        yield path, header if usable else {}


def find_engine(folder: Path, name: str, key: EngineKey, log: Callable[[str], None]) -> bytes | None:
    """Return the newest stored engine that fits; where none does, log why those that are there do not."""
    unfit = []
    for path, header in engine_headers(folder, f"{name}-"):
        if header and (differences := key.differences(header["key"])):
            unfit.append(f"{path} was built for {', '.join(differences)}")
            continue
        plan = path.read_bytes().partition(b"\n")[2]
        if header and header["sha256"] == hashlib.sha256(plan).hexdigest():
            return plan
        unfit.append(f"{path} is damaged or of another version of this software")
    for reason in unfit:
        log(f"{reason}; it is not used")
    return None


def write_engine(folder: Path, name: str, key: EngineKey, plan: bytes) -> Path:
    """Store an engine atomically, under a name of its own for every key: engines stored before stay usable.

    Raises EngineError: the folder cannot be written, or the disk is full; what was there stays.
    """
    target = re.sub(r"[^A-Za-z0-9]+", "-", key.gpu or f"sm {' '.join(key.capabilities)}").strip("-").lower()
    digest = hashlib.sha256(json.dumps(asdict(key), sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{name}-{target}-{digest}.engine"
    header = {"format": FORMAT, "key": asdict(key), "sha256": hashlib.sha256(plan).hexdigest(), "bytes": len(plan)}
    write_atomically(path, json.dumps(header).encode() + b"\n" + plan)
    return path


def require_space(folder: Path, nbytes: int) -> None:
    """Refuse to start a build, which may take minutes, whose result could not be stored.

    Raises EngineError: the folder cannot be made, or the disk has less space than this.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise EngineError(_no_room(folder, nbytes, error.strerror)) from error
    if free < nbytes:
        raise EngineError(_no_room(folder, nbytes, f"{free >> 20} MiB free"))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file as a whole, or not at all. Raises EngineError: the folder cannot be written, or the disk is full."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        temporary.write_bytes(content)
        temporary.chmod(0o644)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise EngineError(_no_room(path, len(content), error.strerror)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _no_room(path: Path, nbytes: int, reason: str | None) -> str:
    return (
        f"cannot write {path}, which may take {nbytes >> 20} MiB: {reason}; fix: free it there or name another folder"
        f" in {FOLDER_VARIABLE}; engines built before are untouched"
    )
