# SPDX-License-Identifier: Apache-2.0
"""Convert radar detections to sweeps: clouds with an ARS408's or 4D radar's fields, RadarScan, ARS548 lists."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from peft_dml_ros.conversions.decode import stamp_ns_from_msg
from peft_dml_ros.conversions.pointcloud import cloud_view, column, need
from peft_dml_ros.core.doppler import MOST_RETURNS, points_from_returns
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import RADAR_DTYPE, RadarSweep
from peft_dml_ros.core.typing import AnyArray, FloatArray

#: Fields that may hold the radial speed in m/s, positive for what moves away
DOPPLER_FIELDS: Final = (
    *("range_rate", "doppler", "doppler_velocity", "radial_velocity", "radial_speed", "v_r", "vr", "velocity"),
    *("Doppler", "v_doppler_mps", "vel", "v", "radar_relative_radial_velocity"),
)
RCS_FIELDS: Final = (
    *("rcs", "RCS", "amplitude", "power"),
    *("snr", "intensity", "rcs_dbsm", "Power", "signal_to_noise_ratio"),
)
#: A detection for which one of them is set is left out; flags of the standard deviations do not matter
ARS548_FLAGS: Final = ("invalid_distance", "invalid_azimuth", "invalid_elevation", "invalid_range_rate")
_NEEDED: Final = ("x", "y", "vx_comp", "vy_comp")
_DEFAULTS: Final = {"is_quality_valid": 1, "ambig_state": 3}
_FINITE: Final = ("x", "y", "z", "rcs", "vx", "vy", "vx_comp", "vy_comp")
_MOST: Final = 1e4


def radar_from_msg(msg: Any) -> RadarSweep:
    """Convert a PointCloud2, RadarScan or ARS548 detection list; points that are not finite or flagged are dropped.

    A cloud needs x, y and either vx_comp, vy_comp (other ARS408 fields get neutral values) or one of `DOPPLER_FIELDS`,
    from which the radar's own motion is taken out. `points_dropped` counts what is lost. Raises DataError: the cloud is
    malformed or lacks needed fields, or there are more returns than any radar sends.
    """
    if hasattr(msg, "returns"):
        rows = [(r.range, r.azimuth, r.elevation, r.doppler_velocity, r.amplitude) for r in _limited(msg, msg.returns)]
        return _sweep_of_returns(msg, rows)
    if hasattr(msg, "detections"):
        rows = [
            (d.range, d.azimuth_angle, d.elevation_angle, d.range_rate, d.rcs)
            for d in _limited(msg, msg.detections)
            if not any(getattr(d, flag, False) for flag in ARS548_FLAGS)
        ]
        return _sweep_of_returns(msg, rows)
    view = cloud_view(msg, (*(RADAR_DTYPE.names or ()), *DOPPLER_FIELDS, *RCS_FIELDS, *ARS548_FLAGS))
    names = view.dtype.names or ()
    doppler = next((name for name in DOPPLER_FIELDS if name in names), "")
    if doppler and not {"vx_comp", "vy_comp"} <= set(names):
        need(msg, names, ("x", "y"))
        return _sweep_of_doppler(msg, view, doppler)
    need(msg, names, _NEEDED, f"; a 4D radar's cloud has one of {', '.join(DOPPLER_FIELDS)} instead of the velocities")
    points = np.zeros(view.size, dtype=RADAR_DTYPE)
    with np.errstate(over="ignore", invalid="ignore"):
        for name in RADAR_DTYPE.names or ():
            source = {"vx": "vx_comp", "vy": "vy_comp"}.get(name, name) if name not in names else name
            points[name] = column(view, source) if source in names else _DEFAULTS.get(name, 0)
    # What is not finite is not smaller either.
    finite = np.logical_and.reduce([np.abs(points[name]) < _MOST for name in _FINITE])
    return RadarSweep(stamp_ns_from_msg(msg), points if finite.all() else points[finite])


def _limited(msg: Any, returns: Any) -> Any:
    if len(returns) > MOST_RETURNS:
        kind = type(msg).__name__.split("__")[-1]
        text = f"{kind} in frame '{msg.header.frame_id}' has {len(returns)} returns; fix: at most {MOST_RETURNS}"
        raise DataError(text)
    return returns


def _sweep_of_returns(msg: Any, rows: Sequence[tuple[float, ...]]) -> RadarSweep:
    returns = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return RadarSweep(stamp_ns_from_msg(msg), points_from_returns(returns[_measured(returns)]))


def _sweep_of_doppler(msg: Any, view: AnyArray, doppler: str) -> RadarSweep:
    """Return the sweep of a cloud that knows radial speeds only."""
    names = view.dtype.names or ()
    if view.size > MOST_RETURNS:
        text = f"PointCloud2 in frame '{msg.header.frame_id}' has {view.size} returns; fix: at most {MOST_RETURNS}"
        raise DataError(text)
    rcs = next((name for name in RCS_FIELDS if name in names), "")
    zeros = np.zeros(view.size)
    x, y, z, speed, amplitude = (
        column(view, name).astype(np.float64) if name in names else zeros for name in ("x", "y", "z", doppler, rcs)
    )
    flat = np.hypot(x, y)
    returns = np.stack([np.hypot(flat, z), np.arctan2(y, x), np.arctan2(z, flat), speed, amplitude], axis=1)
    flagged = [column(view, flag) != 0 for flag in ARS548_FLAGS if flag in names]
    kept = _measured(returns) & ~np.logical_or.reduce([np.zeros(view.size, dtype=bool), *flagged])
    return RadarSweep(stamp_ns_from_msg(msg), points_from_returns(returns[kept]))


def _measured(returns: FloatArray) -> AnyArray:
    with np.errstate(invalid="ignore"):
        return np.asarray((np.abs(returns) < _MOST).all(axis=1) & (returns[:, 0] >= 0))
