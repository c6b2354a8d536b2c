# SPDX-License-Identifier: Apache-2.0
"""Drives of a fleet job: what the sources on the command line expand to, and the key that names each result."""

import fnmatch
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.fleet.storage import content_digest, fetched, filesystem, is_url

BAG_SUFFIXES: Final = (".mcap", ".db3", ".bag")
SCHEMA: Final = 1  #: Version of the result files; a new one makes every drive run again


@dataclass(frozen=True, slots=True)
class FleetDrive:
    """One recording to run."""

    place: str  #: Path or URL of a bag or of a nuScenes folder
    scene: str = ""  #: Scene of the folder; empty for a bag
    version: str = ""  #: Version folder that holds the scene, where the source names one of several

    @property
    def name(self) -> str:
        """Name in reports and of the result's folder: the scene's, or the bag's below its folder."""
        path = PurePosixPath(self.place.partition("://")[2] or self.place)
        stem = path.stem if path.suffix in BAG_SUFFIXES else path.name
        return self.scene or stem

    @property
    def label(self) -> str:
        """Place and scene in one word, for messages."""
        place = f"{self.place}/{self.version}".rstrip("/")
        return f"{place}:{self.scene}" if self.scene else place


def expand(sources: Iterable[str]) -> list[FleetDrive]:
    """Return the drives of paths, URLs, patterns and folders, in order, each once.

    A folder that is neither a bag nor a nuScenes folder stands for the bags and nuScenes folders below it. Raises
    DataError: a source does not exist or holds no drive.
    """
    drives: dict[FleetDrive, None] = {}
    for source in sources:
        found = list(_drives_of(source))
        if not found:
            raise DataError(
                f"{source}: no drive found; fix: name a bag ({', '.join(BAG_SUFFIXES)} or a rosbag2 folder), nuScenes "
                "folder, a folder of these, or a pattern such as 'night/*.mcap'"
            )
        drives |= dict.fromkeys(found)
    return list(drives)


def _drives_of(source: str) -> Iterable[FleetDrive]:
    fs, path = filesystem(source)
    prefix = source.partition("://")[0] + "://" if is_url(source) else ""
    places = sorted(fs.glob(path)) if any(sign in source for sign in "*?[") else [path]
    for place in places:
        yield from _below(fs, str(place), prefix)


def _below(fs: Any, path: str, prefix: str) -> Iterable[FleetDrive]:
    if fs.isfile(path):
        if PurePosixPath(path).suffix in BAG_SUFFIXES:
            yield FleetDrive(prefix + path)
        return
    if not fs.isdir(path):
        return
    entries = {PurePosixPath(entry).name: str(entry) for entry in sorted(fs.ls(path, detail=False))}
    named = "scene.json" in entries
    tables = [path] if named else [entry for entry in entries.values() if fs.isfile(f"{entry}/scene.json")]
    if "metadata.yaml" in entries:
        yield FleetDrive(prefix + path)
    elif len(tables) > 1:
        raise DataError(f"{prefix}{path} holds {len(tables)} versions; fix: name one: {prefix}{' or '.join(tables)}")
    elif tables:
        root, version = (str(PurePosixPath(path).parent), PurePosixPath(path).name) if named else (path, "")
        scenes = json.loads(fs.cat_file(f"{tables[0]}/scene.json"))
        yield from (FleetDrive(prefix + root, str(scene["name"]), version) for scene in scenes)
    else:
        for entry in entries.values():
            if not fnmatch.fnmatch(PurePosixPath(entry).name, ".*"):
                yield from _below(fs, entry, prefix)


def scene_files(drive: FleetDrive) -> list[str]:
    """Return the files of one scene of a nuScenes folder, relative to it: tables, maps, CAN bus, samples and sweeps.

    Raises DataError: the folder has no such scene.
    """
    from peft_dml_tools.datasets.nuscenes import NuScenesReader

    fs, path = filesystem(drive.place)
    every = [str(name).removeprefix(path).lstrip("/") for name in fs.find(path)]
    tables = [name for name in every if name.startswith(f"{drive.version}/" if drive.version else "v1.0")]
    with fetched(drive.place, tables) as folder:
        records = NuScenesReader(folder / drive.version, allow_missing=True).stream(drive.scene)
    extras = [name for name in every if name.startswith(("maps/", f"can_bus/{drive.scene}_"))]
    return [*tables, *extras, *(name for r in records if (name := str(r["filename"])) in set(every))]


def drive_key(drive: FleetDrive, bundle_sha: str, params: dict[str, Any]) -> str:
    """Return the key of a drive's result: a digest of its content, the bundle, the parameters and the file schema.

    Raises DataError: the drive does not exist.
    """
    if drive.scene and not is_url(drive.place):
        content = _scene_digest(Path(drive.place, drive.version), drive.scene)
    else:
        content = content_digest(drive.place)
    facts = {"schema": SCHEMA, "content": content, "scene": drive.scene, "bundle": bundle_sha, "params": params}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:20]


def _scene_digest(root: Path, scene: str) -> str:
    """Return a digest of one scene: its records, calibration, annotations and the contents of its files."""
    from peft_dml_tools.datasets.nuscenes import NuScenesReader

    reader, digest = NuScenesReader(root, allow_missing=True), hashlib.sha256()
    for record in reader.stream(scene):
        digest.update(json.dumps(record, sort_keys=True, default=str).encode())
        file = reader.root / str(record["filename"])
        if file.is_file():
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    for token in reader.samples(scene):
        truth = reader.truth(token)
        for array in (truth.centers_m, truth.sizes_m, truth.yaws_rad, truth.velocities_mps, truth.labels):
            digest.update(array.tobytes())
        digest.update(repr(reader.rig(token)).encode())
    return digest.hexdigest()
