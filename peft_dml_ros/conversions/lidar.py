# SPDX-License-Identifier: Apache-2.0
"""Convert LiDAR clouds of any driver to sweeps; choose the field that holds the intensity, and its scale."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from peft_dml_ros.conversions.cdr import NS_PER_S
from peft_dml_ros.conversions.pointcloud import cloud_view, need
from peft_dml_ros.core.errors import DataError, nearest
from peft_dml_ros.core.measurements import LidarSweep
from peft_dml_ros.core.typing import AnyArray, Float32Array

#: Fields that may hold the intensity, the calibrated ones first: Ouster's `intensity` counts photons
INTENSITY_FIELDS: Final = ("reflectivity", "intensity", "reflectance", "remission", "intensities", "i")
RING_FIELDS: Final = ("ring", "channel", "line", "laser_id")
FULL_SCALE: Final = 255.0
_MOST_INTENSITY: Final = 65535.0  #: Beyond this no sensor measures: bytes were damaged on the way
_MOST_SIGNS: Final = 0.05  #: Share of returns that retroreflectors may be
_ONES: Final = np.ones(5, dtype=np.float32)


class IntensityField(NamedTuple):
    """Where the intensity of a LiDAR stands, and how it becomes 0 to 255."""

    field: str = ""  #: Name of the field; empty takes the first of `INTENSITY_FIELDS`
    scale: float = 0.0  #: Factor on its values; 0 takes 255 for reflectances of 0 to 1, and 1 for all others


ANY: Final = IntensityField()  #: What the known names and ranges say


def lidar_from_msg(msg: Any, intensity: IntensityField = ANY) -> LidarSweep:
    """Convert a PointCloud2 to a sweep. Needs x, y, z; intensity and ring are 0 when absent.

    Points that are not finite are dropped; `points_dropped` counts them. Raises DataError: the cloud is malformed, or
    lacks coordinates or the intensity field that was asked for.
    """
    wanted = (*INTENSITY_FIELDS, intensity.field) if intensity.field else INTENSITY_FIELDS
    view = cloud_view(msg, ("x", "y", "z", *wanted, *RING_FIELDS))
    names = view.dtype.names or ()
    need(msg, names, ("x", "y", "z"), "; fix: let the driver publish x, y, z in metres")
    stamp = msg.header.stamp
    stamp_ns, where = int(stamp.sec) * NS_PER_S + int(stamp.nanosec), f"PointCloud2 in frame '{msg.header.frame_id}'"
    return sweep_of_columns(view.reshape(-1), stamp_ns, intensity, where, [field.name for field in msg.fields])


def sweep_of_columns(
    view: AnyArray, stamp_ns: int, intensity: IntensityField = ANY, where: str = "cloud", fields: Sequence[str] = ()
) -> LidarSweep:
    """Return the sweep of a structured array (N,) with x, y, z and any other fields.

    Raises DataError: it lacks the intensity field that was asked for; names `where`, and the nearest of all `fields`.
    """
    names = view.dtype.names or ()
    if intensity.field and intensity.field not in names and len(view):
        there = nearest(intensity.field, fields or names)
        raise DataError(f"{where} has no field '{intensity.field}' (intensity_field); {there}")
    source = intensity.field or next((name for name in INTENSITY_FIELDS if name in names), "")
    ring = next((name for name in RING_FIELDS if name in names), "")
    points = np.zeros((len(view), 5), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for index, name in enumerate(("x", "y", "z", source, ring)):
            if name in names:
                points[:, index] = view[name]
        total = points @ _ONES
    if not np.isfinite(total).all():
        points = _without_broken(points)
    scale = intensity.scale or _scale(points[:, 3], view.dtype[source].kind if source in names else "")
    if scale != 1.0:
        points[:, 3] *= np.float32(scale)
    np.clip(points[:, 3], 0.0, _MOST_INTENSITY, out=points[:, 3])
    return LidarSweep(stamp_ns, points, source)


def _scale(values: AnyArray, kind: str) -> float:
    """Return 255 for reflectances of 0 to 1 (fractions, and above 1 on signs alone), 1 for values that count."""
    if kind != "f" or not len(values):
        return 1.0
    most = float(values.max())
    # On the scale to 255 something shines in every sweep.
    share = most <= 1.0 or (most < FULL_SCALE / 3 and float((values > 1.0).mean()) < _MOST_SIGNS)
    return FULL_SCALE if most > 0.0 and share and bool((values % 1.0 != 0.0).any()) else 1.0


def _without_broken(points: Float32Array) -> Float32Array:
    """Return points with finite coordinates; intensity and ring that are not finite become 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        keep = np.isfinite(points[:, 0] + points[:, 1] + points[:, 2])
    kept = points.take(np.flatnonzero(keep), axis=0)
    for values in (kept[:, 3], kept[:, 4]):
        values[~np.isfinite(values)] = 0.0
    return kept
