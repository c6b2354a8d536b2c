# SPDX-License-Identifier: Apache-2.0
"""Points out of pillars and back: what moves or adds points builds the pillars again, by the vehicle's own code."""

import numpy as np

from peft_dml_ros.core.pillars import lidar_pillars, radar_pillars
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import AnyArray, BoolArray, Float32Array
from peft_dml_train.data.frame import Pillars

LIDAR_AGE, RADAR_AGE = 4, 5
RCS_SCALE, SPEED_SCALE = 20.0, 10.0


def compact(features: Float32Array, index_map: AnyArray) -> Pillars:
    """Return pillars without their padding."""
    cells = np.flatnonzero(index_map < len(features)).astype(np.int32)
    return Pillars(features[index_map[cells]].copy(), cells)


def _distinct(points: Float32Array) -> BoolArray:
    """Return (n, N) bool: rows that do not merely repeat their pillar's first point."""
    kept: BoolArray = (points != points[:, :1]).any(axis=2)
    kept[:, 0] = True
    return kept


def lidar_points(entry: Pillars) -> Float32Array:
    """Return (M, 5) x, y, z, intensity, age."""
    rows: Float32Array = entry.points[..., :5][_distinct(entry.points)]
    return rows


def radar_points(entry: Pillars) -> Float32Array:
    """Return (M, 6) x, y, RCS in dBsm, vx, vy in m/s, age."""
    rows: Float32Array = entry.points[..., :6][_distinct(entry.points)].copy()
    rows[:, 2] *= RCS_SCALE
    rows[:, 3:5] *= SPEED_SCALE
    return rows


def to_lidar(points: Float32Array, spec: ModelSpec) -> Pillars:
    """Return pillars of (M, 5) points in any order."""
    newest_first = points[np.argsort(points[:, LIDAR_AGE], kind="stable")]
    return compact(*lidar_pillars(newest_first, spec.grid, spec.lidar))


def to_radar(points: Float32Array, spec: ModelSpec) -> Pillars:
    """Return pillars of (M, 6) points in any order."""
    newest_first = points[np.argsort(points[:, RADAR_AGE], kind="stable")]
    return compact(*radar_pillars(newest_first, spec.grid, spec.radar))
