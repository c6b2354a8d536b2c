# SPDX-License-Identifier: Apache-2.0
"""Prepared frames on disk: what takes long to make, weather above all, is made once for all runs and processes."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

import peft_dml_ros
import peft_dml_tools
import peft_dml_train
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import AnyArray
from peft_dml_train.data.digest import digest
from peft_dml_train.data.frame import CameraFrame, Frame, Pillars

log = logging.getLogger(__name__)
FORMAT = 1
"""Of the files."""
DIGITS = 20
"""Of a file's name, and of what names are made of."""

PREPARING = (
    (peft_dml_ros, ("core", "conversions")),
    (peft_dml_tools, ("datasets", "sim/weather", "sim/corruptions")),
    (peft_dml_train, ("data/cache.py", "data/dataset.py", "data/frame.py", "data/degradation.py")),
    (peft_dml_train, ("evaluation/conditions.py",)),
)
"""Sources that a prepared frame depends on: where one of them changes, every frame is made again."""

TABLES = ("voxel_pixel", "voxel_depth")
ROWS = ("mask", "age_s", "completeness", "quality")
BOXES = tuple(f.name for f in fields(Boxes3D) if f.name != "ids")
DEFAULT_GB = 20.0
KEPT_SHARE = 0.8
COUNT_EVERY = 200
"""Files written between two looks at the size of the folder."""


@lru_cache(maxsize=8)
def code_digest(more: tuple[Path, ...] = ()) -> str:
    """Return the hash of the sources that prepare frames, and of further files that change them."""
    seen = hashlib.sha256(str(FORMAT).encode())
    for package, parts in PREPARING:
        folder = Path(str(package.__file__)).parent
        for part in parts:
            place = folder / part
            for path in sorted(place.rglob("*.py")) if place.is_dir() else (place,):
                seen.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    for path in more:
        seen.update(path.name.encode() + b"\0" + path.read_bytes())
    return seen.hexdigest()[:DIGITS]


def source_digest(root: Path, spec: ModelSpec, more: tuple[Path, ...] = ()) -> str:
    """Return the hash of all that the frames of a folder share: the data, the model facts, the code.

    The data are known by where they lie and when their tables were written; rewritten scenes are other data.
    """
    tables = sorted((*root.glob("*/*.json"), *root.glob("*/scenes")))
    seen = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in tables]
    return digest((code_digest(more), str(root.resolve()), seen, spec.model_dump(mode="json")), DIGITS)


@dataclass
class FrameCache:
    """Frames by key, a file each, in a folder of bounded size; the longest unused go first.

    Files are written under another name and then renamed, so that several processes may share a folder. A file that
    is missing, cut short or of another kind counts as not there.

    Attributes:
        folder: Made when the first frame is kept.
        most_gb: Size of the folder at most.
        sources: Further source files that change frames, e.g. those of a caller's own corruptions.
    """

    folder: Path
    most_gb: float = DEFAULT_GB
    sources: tuple[Path, ...] = ()
    _size: int = -1
    _written: int = 0
    _told: bool = False
    _tables: dict[str, dict[str, AnyArray]] = field(default_factory=dict)

    @staticmethod
    def key(source: str, token: str, change: str) -> str:
        """Return the key of one frame.

        Args:
            source: `source_digest` of its folder and model facts.
            token: Its sample.
            change: What was done to it, with severity and seed; empty for nothing.
        """
        return digest((source, token, change), DIGITS)

    def frame(self, key: str, make: Callable[[], Frame]) -> Frame:
        """Return a frame, made and kept if it was not there."""
        found = self.read(key)
        if found is None:
            found = make()
            self.write(key, found)
        return found

    def holds(self, key: str) -> bool:
        """Return whether there is a file of a frame."""
        return self._path(key).is_file()

    def read(self, key: str) -> Frame | None:
        """Return a frame; none where there is none, or a damaged one."""
        path = self._path(key)
        try:
            with safe_open(path, framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                notes = file.metadata()
            frame = self._frame(arrays, notes)
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        with suppress(OSError):
            os.utime(path)  # last used
        return frame

    def boxes(self, key: str) -> Boxes3D | None:
        """Return a frame's truth alone, the rest of the file unread."""
        try:
            with safe_open(self._path(key), framework="numpy") as file:
                arrays = {f"boxes.{name}": file.get_tensor(f"boxes.{name}") for name in BOXES}
                return _boxes(arrays, file.metadata())
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def write(self, key: str, frame: Frame) -> None:
        """Keep a frame; where the disk refuses, training goes on without."""
        arrays = {f"boxes.{name}": getattr(frame.boxes, name) for name in BOXES}
        arrays |= {name: getattr(frame, name) for name in ROWS}
        arrays |= {f"window.{m}": window for m, window in frame.windows.items()}
        for m, pillars in frame.pillars.items():
            arrays |= {f"{m}.points": pillars.points, f"{m}.cells": pillars.cells}
        notes = {"token": frame.token, "ids": json.dumps(frame.boxes.ids), "tables": ""}
        try:
            if frame.camera is not None:
                for name in ("images", "present", "depth_bins"):
                    arrays[f"camera.{name}"] = getattr(frame.camera, name)
                notes["tables"] = self._keep_tables(frame.camera)
            self._save(self._path(key), arrays, notes)
        except (OSError, SafetensorError) as error:
            log.warning("a prepared frame is not kept in %s: %s", self.folder, error)

    def arrays(self, key: str, make: Callable[[], dict[str, AnyArray]]) -> dict[str, AnyArray]:
        """Return arrays by name, made and kept if they were not there."""
        with suppress(OSError, SafetensorError):
            return load_file(self._path(key))
        made = make()
        with suppress(OSError, SafetensorError):
            self._save(self._path(key), made, {})
        return made

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _frame(self, arrays: dict[str, AnyArray], notes: dict[str, str]) -> Frame:
        pillars = {
            m: Pillars(arrays[f"{m}.points"], arrays[f"{m}.cells"])
            for m in ("lidar", "radar")
            if f"{m}.points" in arrays
        }
        camera = None
        if notes["tables"]:
            tables = self._read_tables(notes["tables"])
            images, present, bins = (arrays[f"camera.{name}"] for name in ("images", "present", "depth_bins"))
            camera = CameraFrame(images, present, tables["voxel_pixel"], tables["voxel_depth"], bins)
        windows = {m: arrays[f"window.{m}"] for m in ("imu", "gnss") if f"window.{m}" in arrays}
        rows = {name: arrays[name] for name in ROWS}
        return Frame(notes["token"], pillars, camera, windows, **rows, boxes=_boxes(arrays, notes))

    def _keep_tables(self, camera: CameraFrame) -> str:
        """Keep look-up tables once for all frames of a calibration, named by their content; return the name."""
        arrays = {name: np.ascontiguousarray(getattr(camera, name)) for name in TABLES}
        name = hashlib.sha256(b"".join(a.tobytes() for a in arrays.values())).hexdigest()[:20]
        path = self.folder / "tables" / f"{name}.safetensors"
        if not path.is_file():
            self._save(path, arrays, {})
        return name

    def _read_tables(self, name: str) -> dict[str, AnyArray]:
        if name not in self._tables:
            with safe_open(self.folder / "tables" / f"{name}.safetensors", framework="numpy") as file:
                self._tables[name] = {table: file.get_tensor(table) for table in TABLES}
        return self._tables[name]

    def _save(self, path: Path, arrays: dict[str, AnyArray], notes: dict[str, str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, temporary, notes or None)
            size = temporary.stat().st_size
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        # Other processes write too: now and then all files are counted.
        self._written += 1
        counted = self._size >= 0 and self._written % COUNT_EVERY
        self._size = self._size + size if counted else sum(s for _, s, _ in self._files())
        if self._size > 1e9 * self.most_gb:
            self._shrink()

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Yield frames with the time of their last use and their size; other processes may be taking them away."""
        for path in self.folder.glob("??/*.safetensors"):
            with suppress(OSError):
                about = path.stat()
                yield about.st_mtime, about.st_size, path

    def _shrink(self) -> None:
        files = sorted(self._files())
        if not self._told:
            log.warning(
                "%s holds %g GB: frames unused for long go; a larger --cache-gb keeps them", self.folder, self.most_gb
            )
            self._told = True
        self._size = sum(size for _, size, _ in files)
        while files and self._size > KEPT_SHARE * 1e9 * self.most_gb:
            _, size, path = files.pop(0)
            path.unlink(missing_ok=True)
            self._size -= size


def _boxes(arrays: dict[str, AnyArray], notes: dict[str, str]) -> Boxes3D:
    return Boxes3D(**{name: arrays[f"boxes.{name}"] for name in BOXES}, ids=tuple(json.loads(notes["ids"])))
