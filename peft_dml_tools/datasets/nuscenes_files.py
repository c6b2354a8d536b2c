# SPDX-License-Identifier: Apache-2.0
"""Sensor files of nuScenes: LiDAR sweeps (.pcd.bin), radar sweeps (.pcd) and CAN bus messages (.json)."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import (
    RADAR_DTYPE,
    GnssFix,
    ImuSample,
    LidarSweep,
    RadarSweep,
    trusted_radar_points,
)
from peft_dml_tools.datasets.nuscenes_tables import NS_PER_US, Record, read_json

_PCD_TYPES: Final = {("F", 4): "<f4", ("F", 8): "<f8", ("I", 1): "i1", ("I", 2): "<i2", ("I", 4): "<i4"} | {
    ("U", 1): "u1",
    ("U", 2): "<u2",
    ("U", 4): "<u4",
}


def read_lidar(path: Path, stamp_ns: int) -> LidarSweep:
    """Read a sweep as nuScenes stores it: float32 x, y, z, intensity, ring per point, sensor frame.

    Raises:
        DataError: the file is missing or its size is no multiple of 20 bytes.
    """
    payload = _read(path)
    if len(payload) % 20:
        msg = (
            f"{path} has {len(payload)} bytes, no multiple of 20 (5 float32 per point): it is cut off within the point "
            f"that starts at byte {len(payload) // 20 * 20}; copy it again"
        )
        raise DataError(msg)
    points = np.frombuffer(payload, dtype="<f4").reshape(-1, 5)
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(points @ np.ones(5, dtype=np.float32))
    return LidarSweep(stamp_ns, points if finite.all() else points[finite])


def read_radar(path: Path, stamp_ns: int, *, keep_all: bool = False) -> RadarSweep:
    """Read a radar sweep from a binary .pcd file.

    Args:
        path: The file; its FIELDS may stand in any order, bytes after the last point are ignored.
        stamp_ns: Time of the sweep.
        keep_all: Keep points that the devkit drops by default (invalid, unknown dynamics, ambiguous Doppler).

    Raises:
        DataError: the header or the number of bytes is wrong.
    """
    payload = _read(path)
    header, start = _pcd_header(path, payload)
    layout = _pcd_layout(path, header)
    try:
        count = int(header["POINTS"][0])
    except (KeyError, IndexError, ValueError):
        msg = f"{path}: the header has no number of POINTS"
        raise DataError(msg) from None
    if count < 0 or len(payload) - start < count * layout.itemsize:
        msg = (
            f"{path} promises {count} points of {layout.itemsize} bytes from byte {start} on, but ends at byte "
            f"{len(payload)}; copy it again"
        )
        raise DataError(msg)
    raw = np.frombuffer(payload, dtype=layout, count=count, offset=start)
    points = np.empty(count, dtype=RADAR_DTYPE)
    for name in RADAR_DTYPE.names or ():
        points[name] = raw[name]
    keep = np.isfinite(points["x"]) & np.isfinite(points["y"]) & np.isfinite(points["z"])
    return RadarSweep(stamp_ns, points[keep] if keep_all else points[keep & trusted_radar_points(points)])


def read_imu(path: Path) -> tuple[ImuSample, ...]:
    """Read the CAN bus message `ms_imu`: specific force and angular rate in vehicle axes, in time order.

    Raises:
        DataError: the file is not a list of such messages; the first that is none is named.
    """
    return _messages(path, _imu_sample)


def read_gnss(path: Path) -> tuple[GnssFix, ...]:
    """Read satellite fixes of a simulated scene, in time order; real nuScenes has none.

    Raises:
        DataError: the file is not a list of such messages; the first that is none is named.
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
        msg = f"{path} must be a list of messages"
        raise DataError(msg)
    samples = (_converted(path, number, row, convert) for number, row in enumerate(rows))
    return tuple(sorted(samples, key=lambda sample: sample.stamp_ns))


def _converted(path: Path, number: int, row: Record, convert: Callable[[Record], _Sample]) -> _Sample:
    try:
        return convert(row)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        msg = f"{path}: message {number} is not as it must be ({type(error).__name__}: {error})"
        raise DataError(msg) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise DataError(msg) from error


def _pcd_header(path: Path, payload: bytes) -> tuple[dict[str, list[str]], int]:
    """Return header lines by their first word, and where the points start."""
    mark = payload.find(b"DATA binary\n", 0, 8192)
    if mark < 0:
        msg = f"{path} has no 'DATA binary' line in its first 8 KiB; only binary .pcd files are read"
        raise DataError(msg)
    lines = payload[:mark].decode("ascii", errors="replace").splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    return {line[0]: line[1:] for line in words if line}, mark + len(b"DATA binary\n")


def _pcd_layout(path: Path, header: dict[str, list[str]]) -> np.dtype[np.void]:
    names, sizes, types = (header.get(key, []) for key in ("FIELDS", "SIZE", "TYPE"))
    if not len(names) == len(sizes) == len(types) or set(header.get("COUNT", [])) - {"1"}:
        msg = f"{path}: FIELDS, SIZE and TYPE must have one entry per field, and COUNT only ones"
        raise DataError(msg)
    missing = [name for name in RADAR_DTYPE.names or () if name not in names]
    if missing:
        msg = f"{path} lacks the radar fields {', '.join(missing)}"
        raise DataError(msg)
    try:
        return np.dtype([(n, _PCD_TYPES[t, int(s)]) for n, s, t in zip(names, sizes, types, strict=True)])
    except (KeyError, ValueError) as error:
        msg = f"{path}: a field has an unknown type or a repeated name ({error})"
        raise DataError(msg) from error
