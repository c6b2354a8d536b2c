# SPDX-License-Identifier: Apache-2.0
"""Fields of the 13 nuScenes tables, and which of them refer to which table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _token(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(length: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) == length and all(map(_number, value))


def _tokens(value: Any) -> bool:
    return isinstance(value, list) and all(map(_token, value))


def _intrinsics(value: Any) -> bool:
    return value == [] or (isinstance(value, list) and len(value) == 3 and all(map(_numbers(3), value)))


Kind = tuple[str, Callable[[Any], bool]]
TEXT: Final[Kind] = ("a string", _text)
TOKEN: Final[Kind] = ("a token", _token)
WHOLE: Final[Kind] = ("a whole number", _whole)
FLAG: Final[Kind] = ("true or false", _flag)
VECTOR: Final[Kind] = ("3 finite numbers", _numbers(3))
QUATERNION: Final[Kind] = ("4 finite numbers", _numbers(4))
TOKENS: Final[Kind] = ("a list of tokens", _tokens)
INTRINSICS: Final[Kind] = ("[] or 3 x 3 finite numbers", _intrinsics)

_LINKS: Final = {"prev": TEXT, "next": TEXT}

TABLES: Final[dict[str, dict[str, Kind]]] = {
    "attribute": {"token": TOKEN, "name": TEXT},
    "calibrated_sensor": {
        "token": TOKEN,
        "sensor_token": TOKEN,
        "translation": VECTOR,
        "rotation": QUATERNION,
        "camera_intrinsic": INTRINSICS,
    },
    "category": {"token": TOKEN, "name": TEXT},
    "ego_pose": {"token": TOKEN, "timestamp": WHOLE, "rotation": QUATERNION, "translation": VECTOR},
    "instance": {
        "token": TOKEN,
        "category_token": TOKEN,
        "nbr_annotations": WHOLE,
        "first_annotation_token": TOKEN,
        "last_annotation_token": TOKEN,
    },
    "log": {"token": TOKEN, "logfile": TEXT, "vehicle": TEXT, "date_captured": TEXT, "location": TEXT},
    "map": {"token": TOKEN, "log_tokens": TOKENS, "category": TEXT, "filename": TEXT},
    "sample": {"token": TOKEN, "timestamp": WHOLE, "scene_token": TOKEN, **_LINKS},
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
        "timestamp": WHOLE,
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
"""Fields that every record of a table has. The official sets have some more, which nothing depends on."""

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
"""(table, field) -> table that it refers to; an empty string refers to nothing."""

CHAINED: Final = {
    "sample": "scene_token",
    "sample_annotation": "instance_token",
    "sample_data": "calibrated_sensor_token",
}
"""Table whose records are linked by prev and next -> field that is the same all along a chain."""


def faults(table: str, record: Any) -> list[str]:
    """What is wrong with the fields of a record; empty when nothing is."""
    if not isinstance(record, dict):
        return [f"is {type(record).__name__}, not a record"]
    out = []
    for name, (kind, holds) in TABLES[table].items():
        if name not in record:
            out.append(f"lacks '{name}'")
        elif not holds(record[name]):
            out.append(f"'{name}' is {_short(record[name])}, not {kind}")
    return out


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
