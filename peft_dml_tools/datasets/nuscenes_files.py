# SPDX-License-Identifier: Apache-2.0
"""Sensor files of nuScenes: LiDAR sweeps (.pcd.bin), radar sweeps (.pcd) and CAN bus messages (.json)."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from peft_dml_ros.conversions.lidar import ANY, IntensityField
from peft_dml_ros.core.doppler import points_from_returns
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import RADAR_DTYPE, GnssFix, ImuSample, LidarSweep, RadarSweep, trusted_radar_points
from peft_dml_ros.core.typing import AnyArray
from peft_dml_tools.datasets.nuscenes_tables import NS_PER_US, Record, read_json
from peft_dml_tools.datasets.point_files import read_pcd, read_sweep


def read_lidar(path: Path, stamp_ns: int, columns: int = 5, intensity: IntensityField = ANY) -> LidarSweep:
    """Read a sweep as nuScenes stores it (float32 x, y, z, intensity, ring per point, sensor frame), or a PCD file.

    Raises DataError: the file is missing, or its size is no multiple of 4 bytes a column.
    """
    return read_sweep(path, stamp_ns, columns, intensity)


def read_radar(path: Path, stamp_ns: int, *, keep_all: bool = False) -> RadarSweep:
    """Read a radar sweep from a binary .pcd file. Raises DataError: the header or the number of bytes is wrong.

    Args:
        path: The file; its FIELDS may stand in any order, bytes after the last point are ignored.
        stamp_ns: Time of the sweep.
        keep_all: Keep points that the devkit drops by default (invalid, unknown dynamics, ambiguous Doppler).
    """
    raw = read_pcd(path)
    names = raw.dtype.names or ()
    points = np.zeros(len(raw), dtype=RADAR_DTYPE)
    if relative := {"vrel_x", "vrel_y"} <= set(names):
        names = (*names, *(name for name in RADAR_DTYPE.names or () if name not in names))
    if missing := [name for name in RADAR_DTYPE.names or () if name not in names]:
        msg = f"{path} lacks the radar fields {', '.join(missing)}; it has: {', '.join(names)}"
        raise DataError(f"{msg}; fix: copy it again")
    if relative:
        points = _of_relative_speed(raw)
    else:
        for name in RADAR_DTYPE.names or ():
            points[name] = raw[name]
    keep = np.isfinite(points["x"]) & np.isfinite(points["y"]) & np.isfinite(points["z"])
    return RadarSweep(stamp_ns, points[keep] if keep_all else points[keep & trusted_radar_points(points)])


def _of_relative_speed(raw: AnyArray) -> AnyArray:
    """Return points of a 4D radar (TruckScenes: x, y, z, vrel_x, vrel_y, vrel_z, rcs) with its own motion taken out."""
    place = np.stack([raw["x"], raw["y"], raw["z"]], axis=1).astype(np.float64)
    speed = np.stack([raw["vrel_x"], raw["vrel_y"], raw["vrel_z"]], axis=1).astype(np.float64)
    distance = np.linalg.norm(place, axis=1)
    doppler = np.einsum("ij,ij->i", place, speed) / np.maximum(distance, 1e-6)
    azimuth, elevation = np.arctan2(place[:, 1], place[:, 0]), np.arcsin(place[:, 2] / np.maximum(distance, 1e-6))
    return points_from_returns(np.stack([distance, azimuth, elevation, doppler, raw["rcs"]], axis=1))


def read_imu(path: Path) -> tuple[ImuSample, ...]:
    """Read the CAN bus message `ms_imu`: specific force and angular rate in vehicle axes, in time order.

    Raises DataError: the file is not a list of such messages; the first that is none is named.
    """
    return _messages(path, _imu_sample)


def read_gnss(path: Path) -> tuple[GnssFix, ...]:
    """Read satellite fixes of a simulated scene, in time order; real nuScenes has none.

    Raises DataError: the file is not a list of such messages; the first that is none is named.
    """
    return _messages(path, _gnss_fix)


def _imu_sample(row: Record) -> ImuSample:
    accel_mps2, gyro_radps = (np.array(row[key], dtype=np.float64) for key in ("linear_accel", "rotation_rate"))
    return ImuSample(int(row["utime"]) * NS_PER_US, accel_mps2.reshape(3), gyro_radps.reshape(3))


def _gnss_fix(row: Record) -> GnssFix:
    latitude, longitude, altitude, sigma = (
        float(row[key]) for key in ("latitude_deg", "longitude_deg", "altitude_m", "sigma_m")
    )
    has_fix = bool(row.get("has_fix", True))
    return GnssFix(int(row["utime"]) * NS_PER_US, latitude, longitude, altitude, sigma, has_fix)


_Sample = TypeVar("_Sample", ImuSample, GnssFix)


def _messages(path: Path, convert: Callable[[Record], _Sample]) -> tuple[_Sample, ...]:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DataError(f"{path} is no list of messages; fix: copy it again")
    samples = (_converted(path, number, row, convert) for number, row in enumerate(rows))
    return tuple(sorted(samples, key=lambda sample: sample.stamp_ns))


def _converted(path: Path, number: int, row: Record, convert: Callable[[Record], _Sample]) -> _Sample:
    try:
        return convert(row)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        msg = f"{path}: message {number} is not as it must be ({type(error).__name__}: {error})"
        raise DataError(f"{msg}; fix: copy it again") from error
