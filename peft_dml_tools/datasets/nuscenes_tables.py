# SPDX-License-Identifier: Apache-2.0
"""The JSON tables of a nuScenes folder, read when first asked for and indexed by token."""

import gc
import json
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.datasets.nuscenes_schema import TABLES, faults, fit

Record: TypeAlias = dict[str, Any]

NS_PER_US: Final = 1000
#: Tables without which nothing can be read
NEEDED = ("scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor")

#: Tables that hold the annotations; a folder may lack them, it has no truth then
TRUTH = ("sample_annotation", "instance", "category", "attribute")

#: What the reader takes from the records of a table
_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "scene": ("token", "name"),
    "sample": ("token", "timestamp", "scene_token"),
    "sample_data": (
        *("token", "sample_token", "ego_pose_token", "calibrated_sensor_token", "timestamp", "filename"),
        *("is_key_frame", "width", "height", "prev", "next"),
    ),
    "ego_pose": ("token", "rotation", "translation"),
    "calibrated_sensor": ("token", "sensor_token", "translation", "rotation", "camera_intrinsic"),
    "sensor": ("token", "channel"),
    "sample_annotation": (
        *("token", "sample_token", "instance_token", "attribute_tokens", "translation", "size", "rotation"),
        *("prev", "next", "num_lidar_pts", "num_radar_pts"),
    ),
    "instance": ("token", "category_token"),
    "category": ("token", "name"),
    "attribute": ("token", "name"),
}


def find_version(path: Path, version: str | None = None) -> tuple[Path, str]:
    """Return a data set's folder and the name of the one in it with the tables, which `path` may be itself.

    Raises DataError: there is no such folder, or none was named and there are several.
    """
    if not path.is_dir():
        raise DataError(f"no folder {path}; fix: name one that holds samples/, sweeps/ and v1.0-*/")
    whole = path if path.name else path.absolute()
    if version in (None, whole.name) and holds_tables(whole):
        return whole.parent, whole.name
    found = sorted(p.name for p in whole.iterdir() if holds_tables(p))
    if version in found or (version is None and len(found) == 1):
        return whole, version or found[0]
    there = f"there are: {', '.join(found)}; fix: name one, {whole / found[0]} for example" if found else ""
    there = there or "fix: unpack its tables: no folder holds a scene.json"
    wanted = f"version '{version}'" if version else "exactly one version folder (v1.0-mini, v1.0-trainval, ...)"
    raise DataError(f"{whole} does not hold {wanted}; {there}")


def holds_tables(path: Path) -> bool:
    """Return whether a folder has tables of nuScenes, some of which may be missing."""
    return any((path / f"{table}.json").is_file() for table in ("scene", "sample", "sample_data", "sensor"))


class Tables:
    """Lazy access to the tables of one version."""

    NEEDED: ClassVar[tuple[str, ...]] = NEEDED

    def __init__(self, folder: Path, *, allow_missing: bool = False) -> None:
        """Check that the tables exist. Raises DataError: tables are missing; all of them are named."""
        self.folder = folder
        wanted = self.NEEDED if allow_missing else self.NEEDED + TRUTH
        missing = [f"{name}.json" for name in wanted if not (folder / f"{name}.json").is_file()]
        if missing:
            msg = f"{folder} lacks the tables {', '.join(missing)}; fix: copy them from the data set's metadata archive"
            raise DataError(msg)
        self._rows: dict[str, list[Record]] = {}
        self._by_token: dict[str, dict[str, Record]] = {}
        self.renamed: dict[str, str] = {}

    def rows(self, table: str) -> list[Record]:
        """Return all records of a table in file order; empty when an optional table is missing.

        Raises DataError: the file is not a JSON list of records with tokens.
        """
        if table not in self._rows:
            path = self.folder / f"{table}.json"
            if not path.is_file() and table in TRUTH:
                self._rows[table] = []
                return []
            rows = self.raw(table)
            self.require(table, rows)
            self._rows[table] = rows
        return self._rows[table]

    def require(self, table: str, rows: list[Any]) -> None:
        """Refuse a table whose records lack what the reader takes. Raises DataError: names the first of them."""
        fields = _FIELDS.get(table, ("token",))
        if table not in TABLES or fit(table, rows, fields):
            return
        broken = ((number, wrong) for number, row in enumerate(rows) if (wrong := faults(table, row, fields)))
        number, wrong = next(broken, (-1, []))
        if wrong:
            path = self.folder / f"{table}.json"
            msg = f"{path}: record {number}: {'; '.join(wrong)}; fix: list all such records: peft-dml dataset check"
            raise DataError(msg)

    def raw(self, table: str) -> list[Record]:
        """Return the records of a table as they stand in its file. Raises DataError: the file is not a JSON list."""
        path = self.folder / f"{table}.json"
        rows = read_json(path)
        if not isinstance(rows, list):
            raise DataError(f"{path} is no list of records; fix: copy it again")
        return rows

    def get(self, table: str, token: str) -> Record:
        """Return the record of that token. Raises DataError: no such record."""
        if table not in self._by_token:
            self._by_token[table] = {row["token"]: row for row in self.rows(table)}
        try:
            return self._by_token[table][token]
        except KeyError:
            msg = f"{self.folder / table}.json has no record '{token}'; fix: copy tables that belong together"
            raise DataError(msg) from None

    @cached_property
    def samples_of_scene(self) -> dict[str, list[Record]]:
        """Scene token -> its samples in time order."""
        grouped: dict[str, list[Record]] = defaultdict(list)
        for sample in self.rows("sample"):
            grouped[sample["scene_token"]].append(sample)
        for samples in grouped.values():
            samples.sort(key=lambda sample: int(sample["timestamp"]))
        return dict(grouped)

    @cached_property
    def data_of_sample(self) -> dict[str, list[Record]]:
        """Sample token -> its sample_data, keyframes and sweeps, in file order."""
        return self._grouped("sample_data")

    @cached_property
    def annotations_of_sample(self) -> dict[str, list[Record]]:
        """Sample token -> its annotations in file order."""
        return self._grouped("sample_annotation")

    @cached_property
    def channel_of_calibration(self) -> dict[str, str]:
        """Token of a calibrated_sensor -> channel name."""
        return {
            row["token"]: self.get("sensor", row["sensor_token"])["channel"] for row in self.rows("calibrated_sensor")
        }

    def channel(self, data: Record) -> str:
        """Return the sensor name of a sample_data record. Raises DataError: its calibration is not in the tables."""
        try:
            channel = self.channel_of_calibration[data["calibrated_sensor_token"]]
        except KeyError:
            msg = f"{data['filename']}: calibrated_sensor.json or sensor.json lacks its calibration; fix: copy it again"
            raise DataError(msg) from None
        return self.renamed.get(channel, channel)

    def _grouped(self, table: str) -> dict[str, list[Record]]:
        grouped: dict[str, list[Record]] = defaultdict(list)
        for row in self.rows(table):
            grouped[row["sample_token"]].append(row)
        return dict(grouped)


def read_json(path: Path) -> Any:
    """Return the contents of a JSON file. Raises DataError: it cannot be read or is not JSON."""
    collecting = gc.isenabled()
    gc.disable()  # a table of 10^6 records triggers full collections over and over: twice the time
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; fix: copy it again") from error
    except (ValueError, RecursionError) as error:
        msg = f"{path} cannot be read as JSON{_place(path, error)}: {error}; it was cut off or damaged"
        raise DataError(f"{msg}; fix: copy it again") from error
    finally:
        if collecting:
            gc.enable()


def _place(path: Path, error: Exception) -> str:
    """Return where the text stops being JSON, as far as the error tells."""
    if isinstance(error, json.JSONDecodeError):
        byte = len(error.doc[: error.pos].encode("utf-8", errors="surrogatepass"))
    elif isinstance(error, UnicodeDecodeError):
        byte = error.start
    else:
        return ""
    return f" at byte {byte} of {path.stat().st_size}"


def stamp_ns(data: Record) -> int:
    """Return the time of a sample_data record."""
    return int(data["timestamp"]) * NS_PER_US
