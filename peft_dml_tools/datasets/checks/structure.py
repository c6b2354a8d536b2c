# SPDX-License-Identifier: Apache-2.0
"""STR: tables are there, are JSON, and their records have the fields they must have."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.datasets.checks.folder import CheckedFolder
from peft_dml_tools.datasets.checks.model import Violation, rule
from peft_dml_tools.datasets.checks.severity import Severity
from peft_dml_tools.datasets.nuscenes_schema import TABLES
from peft_dml_tools.datasets.nuscenes_tables import read_json

_SCENE_NAME: Final = re.compile(r"scene-\d{4}")


@rule(
    "STR001",
    Severity.ERROR,
    "all 13 tables are there",
    "copy the missing tables from the data set's metadata archive, or write the folder again",
)
def tables_present(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per missing table."""
    for table in folder.missing():
        yield Violation(f"{folder.version}/{table}.json", "is missing")


@rule(
    "STR002",
    Severity.ERROR,
    "every table is a JSON list",
    "the file was cut off or overwritten: copy or write it again",
)
def tables_readable(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per table that is no JSON, with the byte."""
    for table in TABLES:
        if problem := folder.unreadable(table):
            yield Violation(f"{folder.version}/{table}.json", problem)


@rule(
    "STR003",
    Severity.ERROR,
    "every record has its fields, of the right type and finite",
    "repair the records, or write the table again; records with faults are left out of all other rules",
)
def records_complete(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per record with faults."""
    for table in TABLES:
        for position, wrong in folder.malformed(table):
            yield Violation(f"{folder.version}/{table}.json record {position}", "; ".join(wrong))


@rule(
    "STR004",
    Severity.ERROR,
    "tokens are unique within a table",
    "two writers made the same token, or tables were joined twice: keep one of the records",
)
def tokens_unique(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per token that occurs more than once."""
    for table in TABLES:
        rows = folder.rows(table)
        if len(folder.by_token(table)) == len(rows):
            continue
        for token, times in Counter(row["token"] for row in rows).items():
            if times > 1:
                yield Violation(f"{table} {token}", f"occurs {times} times")


@rule(
    "STR005",
    Severity.ERROR,
    "splits.json names scenes that exist, each in one split",
    "correct the names in splits.json, or add the scenes",
)
def splits_fit(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield findings on `splits.json`; a folder without one has the official splits."""
    path = folder.tables / "splits.json"
    if not path.is_file():
        return
    where = f"{folder.version}/splits.json"
    try:
        splits: Any = read_json(path)
    except DataError as error:
        yield Violation(where, str(error).removeprefix(f"{path} "))
        return
    if not isinstance(splits, dict) or not all(isinstance(names, list) for names in splits.values()):
        yield Violation(where, "must map split names to lists of scene names")
        return
    scenes = {row["name"] for row in folder.rows("scene")}
    split_of: dict[str, str] = {}
    for split, names in splits.items():
        for name in map(str, names):
            if name not in scenes:
                yield Violation(where, f"split '{split}' names '{name}', which is no scene")
            elif name in split_of:
                yield Violation(where, f"scene '{name}' is in '{split_of[name]}' and in '{split}'")
            split_of[name] = split


@rule("STR006", Severity.WARNING, "map files are there", "copy maps/ as well; only drawing needs it")
def maps_present(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per missing map."""
    for row in folder.rows("map"):
        if not (folder.root / row["filename"]).is_file():
            yield Violation(row["filename"], f"is missing (map {row['token']})")


@rule(
    "STR007",
    Severity.WARNING,
    "scene names are unique and read scene-NNNN",
    "rename the scenes; the devkit's CAN bus reader finds a scene by its four digits",
)
def scene_names(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per scene with another name, and per name that occurs twice."""
    for name, times in Counter(row["name"] for row in folder.rows("scene")).items():
        if times > 1:
            yield Violation(f"scene {name}", f"occurs {times} times")
        if not _SCENE_NAME.fullmatch(name):
            yield Violation(f"scene {name}", "is not scene- and four digits")
