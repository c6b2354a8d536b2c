# SPDX-License-Identifier: Apache-2.0
"""Radar returns that know their Doppler speed only: to points, with the radar's own motion taken out.

Most returns are of things that stand still, and the Doppler speeds of these follow one velocity of the radar. It is
found as in Kellner et al., Instantaneous ego-motion estimation using Doppler radar (ITSC 2013): the velocity that most
returns agree on, then least squares over them. No odometry and no mounting is needed.
"""

from typing import Final

import numpy as np

from peft_dml_ros.core.measurements import RADAR_DTYPE
from peft_dml_ros.core.typing import AnyArray, FloatArray

#: A return whose Doppler speed is this near to what a radar's velocity foretells is of a thing that stands still
AGREE_MPS: Final = 0.4
FEWEST: Final = 6
SHARE: Final = 0.5  #: The standing returns must be so many, and this share of all, for a velocity to be believed
MOST_RETURNS: Final = 5000  #: More returns than any radar sends in a cycle
_TRIES: Final = 200
#: Least determinant of the directions' mean square: returns in one line do not tell the velocity across it
_SPREAD: Final = 1e-3


def points_from_returns(returns: FloatArray) -> AnyArray:
    """Return (N,) points of a radar cycle, `RADAR_DTYPE` in its frame, compensated velocities along the line of sight.

    Without enough standing returns all are taken to stand: `vx_comp` and `vy_comp` are then 0.

    Args:
        returns: (N, 5) range in m, azimuth (anticlockwise) and elevation in rad, Doppler speed in m/s (positive: it
            moves away), amplitude in dB, taken for the radar cross section in dBsm. All finite.
    """
    distance, azimuth, elevation, doppler, amplitude = returns.T
    flat = np.cos(elevation)
    directions = np.stack([np.cos(azimuth) * flat, np.sin(azimuth) * flat], axis=1)
    velocity = radar_velocity(directions, doppler)
    compensated = np.zeros_like(doppler) if velocity is None else doppler + directions @ velocity
    points = np.zeros(len(returns), dtype=RADAR_DTYPE)
    points["x"], points["y"] = (directions * distance[:, None]).T
    points["z"] = distance * np.sin(elevation)
    points["rcs"] = amplitude
    points["vx"], points["vy"] = (directions * doppler[:, None]).T
    points["vx_comp"], points["vy_comp"] = (directions * compensated[:, None]).T
    points["is_quality_valid"], points["ambig_state"] = 1, 3
    return points


def radar_velocity(directions: FloatArray, doppler_mps: FloatArray) -> FloatArray | None:
    """Return a radar's (2,) velocity over ground by Doppler speeds, positive away, None when too few returns agree."""
    needed = max(FEWEST, int(np.ceil(SHARE * len(doppler_mps))))
    if len(doppler_mps) < needed:
        return None
    first, second = np.random.default_rng(0).integers(0, len(doppler_mps), (2, _TRIES))
    systems = np.stack([directions[first], directions[second]], axis=1)
    apart = np.abs(np.linalg.det(systems)) > 0.05
    if not apart.any():
        return None
    wanted = -np.stack([doppler_mps[first], doppler_mps[second]], axis=1)[apart]
    tried = np.linalg.solve(systems[apart], wanted[..., None])[..., 0]
    agree = np.abs(tried @ directions.T + doppler_mps) < AGREE_MPS
    standing = agree[agree.sum(axis=1).argmax()]
    chosen = directions[standing]
    if standing.sum() < needed or np.linalg.det(chosen.T @ chosen / len(chosen)) < _SPREAD:
        return None
    velocity: FloatArray = np.linalg.lstsq(chosen, -doppler_mps[standing], rcond=None)[0]
    return velocity
