# SPDX-License-Identifier: Apache-2.0
"""A nuScenes folder as the rules see it: every table as far as it can be read, and what cannot."""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.datasets.nuscenes_schema import TABLES, faults, fit
from peft_dml_tools.datasets.nuscenes_tables import Record, find_version, read_json

_MODALITIES: Final = ("lidar", "radar", "camera")


class SensorFile(NamedTuple):
    """A file that a sample_data record names."""

    record: Record  #: The sample_data record
    channel: str  #: Its sensor's channel; empty when the tables do not tell
    modality: str  #: lidar, radar or camera; empty when the tables do not tell
    path: Path  #: The file
    size: int  #: Bytes; -1 when there is no such file


class CheckedFolder:
    """Lenient access: nothing raises here for what the data holds, so that all rules can run."""

    def __init__(self, path: Path, version: str | None = None) -> None:
        """Find the version folder. Raises DataError: there is nothing to check."""
        self.root, self.version = find_version(path, version)
        self.tables = self.root / self.version
        self._contents: dict[str, tuple[list[Any], str]] = {}

    def missing(self) -> tuple[str, ...]:
        """Return tables without a file."""
        return tuple(table for table in TABLES if not (self.tables / f"{table}.json").is_file())

    def unreadable(self, table: str) -> str:
        """Return why a table cannot be read as a list; empty when it can, or is missing."""
        return self._content(table)[1]

    def malformed(self, table: str) -> Iterator[tuple[int, list[str]]]:
        """Yield (position, faults) of records that are not as they must be."""
        yield from self._sorted_out[table][1]

    def rows(self, table: str) -> list[Record]:
        """Return records of a table that have all fields; empty when it is missing or unreadable."""
        return self._sorted_out[table][0]

    def tokens(self, table: str) -> frozenset[str]:
        """Return the tokens of all records, also of those with faults: what refers to such is no further mistake."""
        rows = (row for row in self._content(table)[0] if isinstance(row, dict))
        return frozenset(row["token"] for row in rows if isinstance(row.get("token"), str))

    def by_token(self, table: str) -> dict[str, Record]:
        """Return records by token; of several with the same token, the last."""
        return self._by_token[table]

    @cached_property
    def _sorted_out(self) -> dict[str, tuple[list[Record], list[tuple[int, list[str]]]]]:
        """Return, by table, records without faults, and positions and faults of the others."""
        out: dict[str, tuple[list[Record], list[tuple[int, list[str]]]]] = {}
        for table in TABLES:
            content = self._content(table)[0]
            if fit(table, content, TABLES[table]):
                out[table] = (content, [])
                continue
            whole, broken = out.setdefault(table, ([], []))
            for position, record in enumerate(content):
                if wrong := faults(table, record):
                    broken.append((position, wrong))
                else:
                    whole.append(record)
        return out

    @cached_property
    def _by_token(self) -> dict[str, dict[str, Record]]:
        return {table: {row["token"]: row for row in self.rows(table)} for table in TABLES}

    def _content(self, table: str) -> tuple[list[Any], str]:
        if table not in self._contents:
            path = self.tables / f"{table}.json"
            rows: Any = []
            problem = ""
            if path.is_file():
                try:
                    rows = read_json(path)
                except DataError as error:
                    rows, problem = [], str(error).removeprefix(f"{path} ")
                if not isinstance(rows, list):
                    problem, rows = f"holds {type(rows).__name__}, not a list of records", []
            self._contents[table] = (rows, problem)
        return self._contents[table]

    @cached_property
    def channels(self) -> dict[str, tuple[str, str]]:
        """Token of a calibrated_sensor -> (channel, modality) where the tables tell."""
        sensors = self.by_token("sensor")
        return {
            token: (sensor["channel"], sensor["modality"])
            for token, row in self.by_token("calibrated_sensor").items()
            if (sensor := sensors.get(row["sensor_token"])) is not None and sensor["modality"] in _MODALITIES
        }

    @cached_property
    def files(self) -> list[SensorFile]:
        """Every file that sample_data names, in file order."""
        out = []
        for record in self.rows("sample_data"):
            channel, modality = self.channels.get(record["calibrated_sensor_token"], ("", ""))
            path = self.root / record["filename"]
            try:
                size = path.stat().st_size if path.is_file() else -1
            except (OSError, ValueError):
                size = -1
            out.append(SensorFile(record, channel, modality, path, size))
        return out

    def present(self, modality: str) -> Iterator[SensorFile]:
        """Yield the files of a modality that exist."""
        return (file for file in self.files if file.modality == modality and file.size >= 0)

    @cached_property
    def data_of_sample(self) -> dict[str, list[Record]]:
        """Sample token -> its sample_data."""
        grouped: dict[str, list[Record]] = defaultdict(list)
        for record in self.rows("sample_data"):
            grouped[record["sample_token"]].append(record)
        return grouped

    def where(self, path: Path) -> str:
        """Return a path as findings show it: relative to the data set."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
