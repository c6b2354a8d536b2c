# SPDX-License-Identifier: Apache-2.0
"""Fields of the 13 nuScenes tables, and which of them refer to which table."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np

#: Whole numbers stay below this, so that microseconds fit into 64 bits as nanoseconds
_LARGEST: Final = 9_000_000_000_000_000


class FieldKind(NamedTuple):
    """What a field must hold."""

    name: str  #: What to call it
    holds: Callable[[Any], bool]  #: Whether a value is of this kind
    #: Whether all values of a column surely are; quick, for tables of millions of records
    all_hold: Callable[[Sequence[Any]], bool]


def _types(values: Iterable[Any]) -> set[type]:
    return set(map(type, values))


def _token(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _all_whole(column: Sequence[Any]) -> bool:
    return not _types(column) - {int} and max(map(abs, column), default=0) < _LARGEST


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(length: int) -> FieldKind:
    def holds(value: Any) -> bool:
        return isinstance(value, list) and len(value) == length and all(map(_number, value))

    def all_hold(column: Sequence[Any]) -> bool:
        if _types(column) - {list} or set(map(len, column)) - {length}:
            return False
        if _types(chain.from_iterable(column)) - {int, float}:
            return False
        return bool(np.isfinite(np.fromiter(chain.from_iterable(column), np.float64)).all())

    return FieldKind(f"{length} finite numbers", holds, all_hold)


def _tokens(value: Any) -> bool:
    return isinstance(value, list) and all(map(_token, value))


def _intrinsics(value: Any) -> bool:
    return value == [] or (isinstance(value, list) and len(value) == 3 and all(map(VECTOR.holds, value)))


TEXT: Final = FieldKind("a string", lambda v: isinstance(v, str), lambda column: not _types(column) - {str})
TOKEN: Final = FieldKind("a token", _token, lambda column: not _types(column) - {str} and all(column))
WHOLE: Final = FieldKind("a whole number", _whole, _all_whole)
STAMP: Final = FieldKind("microseconds since 1970 as a whole number below 9e15 (nanoseconds?)", _whole, _all_whole)
FLAG: Final = FieldKind("true or false", lambda v: isinstance(v, bool), lambda column: not _types(column) - {bool})
VECTOR: Final = _numbers(3)
QUATERNION: Final = _numbers(4)
TOKENS: Final = FieldKind("a list of tokens", _tokens, lambda column: all(map(_tokens, column)))
INTRINSICS: Final = FieldKind("[] or 3 x 3 finite numbers", _intrinsics, lambda column: all(map(_intrinsics, column)))

_LINKS: Final = {"prev": TEXT, "next": TEXT}

#: Fields that every record of a table has. The official sets have some more, which nothing depends on.
TABLES: Final[dict[str, dict[str, FieldKind]]] = {
    "attribute": {"token": TOKEN, "name": TEXT},
    "calibrated_sensor": {
        "token": TOKEN,
        "sensor_token": TOKEN,
        "translation": VECTOR,
        "rotation": QUATERNION,
        "camera_intrinsic": INTRINSICS,
    },
    "category": {"token": TOKEN, "name": TEXT},
    "ego_pose": {"token": TOKEN, "timestamp": STAMP, "rotation": QUATERNION, "translation": VECTOR},
    "instance": {
        "token": TOKEN,
        "category_token": TOKEN,
        "nbr_annotations": WHOLE,
        "first_annotation_token": TOKEN,
        "last_annotation_token": TOKEN,
    },
    "log": {"token": TOKEN, "logfile": TEXT, "vehicle": TEXT, "date_captured": TEXT, "location": TEXT},
    "map": {"token": TOKEN, "log_tokens": TOKENS, "category": TEXT, "filename": TEXT},
    "sample": {"token": TOKEN, "timestamp": STAMP, "scene_token": TOKEN, **_LINKS},
    "sample_annotation": {
        "token": TOKEN,
        "sample_token": TOKEN,
        "instance_token": TOKEN,
        "visibility_token": TEXT,
        "attribute_tokens": TOKENS,
        "translation": VECTOR,
        "size": VECTOR,
        "rotation": QUATERNION,
        "num_lidar_pts": WHOLE,
        "num_radar_pts": WHOLE,
        **_LINKS,
    },
    "sample_data": {
        "token": TOKEN,
        "sample_token": TOKEN,
        "ego_pose_token": TOKEN,
        "calibrated_sensor_token": TOKEN,
        "filename": TEXT,
        "fileformat": TEXT,
        "width": WHOLE,
        "height": WHOLE,
        "timestamp": STAMP,
        "is_key_frame": FLAG,
        **_LINKS,
    },
    "scene": {
        "token": TOKEN,
        "name": TEXT,
        "log_token": TOKEN,
        "nbr_samples": WHOLE,
        "first_sample_token": TOKEN,
        "last_sample_token": TOKEN,
    },
    "sensor": {"token": TOKEN, "channel": TEXT, "modality": TEXT},
    "visibility": {"token": TOKEN},
}

#: (table, field) -> table that it refers to; an empty string refers to nothing
REFERENCES: Final[dict[tuple[str, str], str]] = {
    ("calibrated_sensor", "sensor_token"): "sensor",
    ("instance", "category_token"): "category",
    ("instance", "first_annotation_token"): "sample_annotation",
    ("instance", "last_annotation_token"): "sample_annotation",
    ("map", "log_tokens"): "log",
    ("sample", "scene_token"): "scene",
    ("sample", "prev"): "sample",
    ("sample", "next"): "sample",
    ("sample_annotation", "sample_token"): "sample",
    ("sample_annotation", "instance_token"): "instance",
    ("sample_annotation", "visibility_token"): "visibility",
    ("sample_annotation", "attribute_tokens"): "attribute",
    ("sample_annotation", "prev"): "sample_annotation",
    ("sample_annotation", "next"): "sample_annotation",
    ("sample_data", "sample_token"): "sample",
    ("sample_data", "ego_pose_token"): "ego_pose",
    ("sample_data", "calibrated_sensor_token"): "calibrated_sensor",
    ("sample_data", "prev"): "sample_data",
    ("sample_data", "next"): "sample_data",
    ("scene", "log_token"): "log",
    ("scene", "first_sample_token"): "sample",
    ("scene", "last_sample_token"): "sample",
}

#: Table whose records are linked by prev and next -> field that is the same all along a chain
CHAINED: Final = {
    "sample": "scene_token",
    "sample_annotation": "instance_token",
    "sample_data": "calibrated_sensor_token",
}


_OTHER_NAMES: Final = {("log", "date_captured"): "data_captured"}  #: Names that T4 has for fields of nuScenes


def faults(table: str, record: Any, fields: Iterable[str] | None = None) -> list[str]:
    """Return what is wrong with the fields of a record; empty when nothing is.

    Args:
        table: Its table.
        record: Anything.
        fields: The fields to look at; None for all.
    """
    if not isinstance(record, dict):
        return [f"is {type(record).__name__}, not a record"]
    out = []
    for name in TABLES[table] if fields is None else fields:
        if name not in record and _OTHER_NAMES.get((table, name)) in record:
            continue
        if name not in record:
            out.append(f"lacks '{name}'")
        elif not TABLES[table][name].holds(record[name]):
            out.append(f"'{name}' is {_short(record[name])}, not {TABLES[table][name].name}")
    return out


def fit(table: str, records: list[Any], fields: Iterable[str]) -> bool:
    """Return whether these fields of all records surely are sound: `faults` of each in a hundredth of the time."""
    if _types(records) - {dict}:
        return False
    try:
        return all(TABLES[table][name].all_hold([record[name] for record in records]) for name in fields)
    except (KeyError, OverflowError):
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
