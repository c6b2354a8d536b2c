# SPDX-License-Identifier: Apache-2.0
"""The four radar noises of RobuRCDet (arXiv 2502.13071), at three severities of our choice.

All take and return points (N,) structured `RADAR_DTYPE`, sensor frame; severities are 1 to 3.
"""

from typing import Final

import numpy as np

from peft_dml_ros.core.typing import AnyArray
from peft_dml_tools.sim.weather.radar_attenuation import own_velocity_mps

MISSING: Final = (0.2, 0.4, 0.6)
SPURIOUS: Final = (0.2, 0.5, 1.0)  #: Invented points for each real one
SPURIOUS_RANGE_M: Final = (3.0, 100.0)
SPURIOUS_HALF_FOV_RAD: Final = float(np.deg2rad(60.0))
SHIFT_M: Final = (0.3, 0.7, 1.5)
RCS_SIGMA_DB: Final = (3.0, 6.0, 10.0)
DOPPLER_SIGMA_MPS: Final = (0.3, 0.8, 1.5)


def keypoint_missing(points: AnyArray, severity: int, rng: np.random.Generator) -> AnyArray:
    """Drop a share of the detections."""
    return points[rng.random(len(points)) >= MISSING[severity - 1]]


def spurious_points(points: AnyArray, severity: int, rng: np.random.Generator) -> AnyArray:
    """Add detections of nothing, with attributes drawn from the real ones so that nothing else gives them away."""
    if not len(points):
        return points
    count = round(len(points) * SPURIOUS[severity - 1])
    false = points[rng.integers(0, len(points), count)].copy()
    bearing = rng.uniform(-SPURIOUS_HALF_FOV_RAD, SPURIOUS_HALF_FOV_RAD, count)
    range_m = rng.uniform(*SPURIOUS_RANGE_M, count)
    sight = np.stack([np.cos(bearing), np.sin(bearing)])
    false["x"], false["y"] = range_m * sight
    doppler = rng.normal(0, 2.0, count)
    false["vx_comp"], false["vy_comp"] = doppler * sight
    false["vx"], false["vy"] = (doppler - own_velocity_mps(points) @ sight) * sight
    return np.concatenate([points, false])


def point_shifting(points: AnyArray, severity: int, rng: np.random.Generator) -> AnyArray:
    """Move each detection in x and y by Gaussian noise."""
    out = points.copy()
    out["x"] += rng.normal(0, SHIFT_M[severity - 1], len(points)).astype(np.float32)
    out["y"] += rng.normal(0, SHIFT_M[severity - 1], len(points)).astype(np.float32)
    return out


def non_positional(points: AnyArray, severity: int, rng: np.random.Generator) -> AnyArray:
    """Falsify cross-section and Doppler, the latter along the line of sight, raw and compensated alike."""
    out = points.copy()
    out["rcs"] += rng.normal(0, RCS_SIGMA_DB[severity - 1], len(points)).astype(np.float32)
    bearing = np.arctan2(points["y"], points["x"])
    error = rng.normal(0, DOPPLER_SIGMA_MPS[severity - 1], len(points))
    along = {"vx": np.cos(bearing), "vy": np.sin(bearing)}
    for name, share in along.items():
        out[name] += (error * share).astype(np.float32)
        out[f"{name}_comp"] += (error * share).astype(np.float32)
    return out
