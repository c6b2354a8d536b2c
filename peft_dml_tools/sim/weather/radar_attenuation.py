# SPDX-License-Identifier: Apache-2.0
"""Rain and snow on radar: attenuation after ITU-R P.838-3 at 77 GHz, lost detections, and spray.

Fog does next to nothing at this wavelength and these ranges.
"""

from typing import Final

import numpy as np

from peft_dml_ros.core.measurements import RADAR_DTYPE
from peft_dml_ros.core.typing import AnyArray, FloatArray

K_HORIZONTAL: Final = 1.132
ALPHA_HORIZONTAL: Final = 0.7177

#: Cross-section that is just detected at 100 m; the floor follows the fourth power of range
FLOOR_DBSM_AT_100_M: Final = 0.0

DRY_SNOW_SHARE: Final = 0.1  #: Attenuation of dry snow relative to rain of the same water (an assumption: a tenth)
SNOW_RADOME_DB: Final = 2.0  #: Loss through snow on the radome, lower end of what is reported (2 to 10 dB)
CLUTTER_PER_MMPH: Final = 0.05  #: Mean number of spray detections a cycle per mm/h (an assumption)
CLUTTER_RANGE_M: Final = (5.0, 50.0)
CLUTTER_HALF_FOV_RAD: Final = float(np.deg2rad(60.0))
MOVING_MPS: Final = 0.6


def specific_attenuation_db_per_km(rain_mmph: float) -> float:
    """Return the one-way attenuation γ = k R^α of horizontally polarised 77 GHz waves."""
    return float(K_HORIZONTAL * rain_mmph**ALPHA_HORIZONTAL) if rain_mmph > 0 else 0.0


def two_way_loss_db(rain_mmph: float, range_m: AnyArray | float) -> AnyArray:
    """Return the loss on the way to a target and back."""
    loss: AnyArray = 2 * specific_attenuation_db_per_km(rain_mmph) * np.asarray(range_m, dtype=np.float64) / 1000.0
    return loss


def floor_dbsm(range_m: FloatArray) -> FloatArray:
    """Return the least cross-section that is detected at a range."""
    floor: FloatArray = FLOOR_DBSM_AT_100_M + 40.0 * np.log10(np.maximum(range_m, 1.0) / 100.0)
    return floor


def attenuate(
    points: AnyArray, rng: np.random.Generator, *, rain_mmph: float = 0.0, snow_mmph: float = 0.0
) -> AnyArray:
    """Return a radar cycle in rain or snow: surviving detections in their order, then spray.

    The cross-section is reduced by the two-way loss; a detection that sinks below the sensor's floor is lost. One that
    lies below it in clear air already is kept with a chance of the power left. Rain and wet roads add spray.

    Args:
        points: (N,) structured `RADAR_DTYPE`, sensor frame.
        rng: Losses and spray.
        rain_mmph: Rain rate.
        snow_mmph: Snow rate, as melted water.
    """
    range_m = np.hypot(points["x"], points["y"]).astype(np.float64)
    loss_db = two_way_loss_db(rain_mmph, range_m) + DRY_SNOW_SHARE * two_way_loss_db(snow_mmph, range_m)
    loss_db = loss_db + (SNOW_RADOME_DB if snow_mmph > 0 else 0.0)
    left_dbsm, floor = points["rcs"] - loss_db, floor_dbsm(range_m)
    weak = points["rcs"] < floor
    kept = np.where(weak, rng.random(len(points)) < 10 ** (-loss_db / 10), left_dbsm >= floor)
    out = points[kept].copy()
    out["rcs"] = left_dbsm[kept]
    spray = clutter(int(rng.poisson(CLUTTER_PER_MMPH * rain_mmph)), own_velocity_mps(points), rng)
    return np.concatenate([out, spray])


def own_velocity_mps(points: AnyArray) -> FloatArray:
    """Return the velocity (2,) of the sensor by what the device compensated; 0 with fewer than two points."""
    if len(points) < 2:
        return np.zeros(2)
    at = np.stack([points["x"], points["y"]], axis=1).astype(np.float64)
    sight = at / np.maximum(np.linalg.norm(at, axis=1, keepdims=True), 1e-6)
    added = np.stack([points["vx_comp"] - points["vx"], points["vy_comp"] - points["vy"]], axis=1)
    own: FloatArray = np.linalg.lstsq(sight, np.einsum("ij,ij->i", added, sight), rcond=None)[0]
    return own


def clutter(count: int, own_mps: FloatArray, rng: np.random.Generator) -> AnyArray:
    """Return false detections of spray: near, weak, with the Doppler of whirled drops.

    Args:
        count: How many.
        own_mps: (2,) velocity of the sensor, which the uncompensated Doppler contains.
        rng: Places and velocities.
    """
    out = np.zeros(count, RADAR_DTYPE)
    range_m = rng.uniform(*CLUTTER_RANGE_M, count)
    bearing = rng.uniform(-CLUTTER_HALF_FOV_RAD, CLUTTER_HALF_FOV_RAD, count)
    sight = np.stack([np.cos(bearing), np.sin(bearing)])
    out["x"], out["y"] = range_m * sight
    doppler = rng.normal(0.0, 1.5, count)
    out["vx_comp"], out["vy_comp"] = doppler * sight
    out["vx"], out["vy"] = (doppler - own_mps @ sight) * sight
    out["rcs"] = np.maximum(rng.normal(-5.0, 3.0, count), floor_dbsm(range_m))
    out["dyn_prop"] = np.where(np.abs(doppler) > MOVING_MPS, np.where(doppler > 0, 0, 2), 1)
    out["id"] = np.arange(count)
    out["is_quality_valid"], out["ambig_state"], out["pdh0"] = 1, 3, 3
    out["x_rms"], out["y_rms"], out["vx_rms"], out["vy_rms"] = 19, 19, 16, 3
    return out
