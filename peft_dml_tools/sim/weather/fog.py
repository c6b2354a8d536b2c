# SPDX-License-Identifier: Apache-2.0
"""Fog on LiDAR: attenuated hard returns, and soft ones of the fog itself (Hahner et al., ICCV 2021, arXiv 2108.05249).

For a hard target at range R0 with intensity i, extinction α and backscatter β:
    hard  i_h = i exp(-2 α R0)
    soft  i_s = i R0² (β / β0) max over R < R0 of I(R)
    I(R) = ∫ over the pulse of sin²(π t / 2τ) exp(-2 α r) / r² ξ(r) dt,  r = R - c t / 2
The larger one is measured; the soft one at the range where I(R) has its maximum.
"""

from functools import lru_cache
from typing import Final

import numpy as np

from peft_dml_ros.core.typing import Float32Array, FloatArray

LIGHT_MPS: Final = 299_792_458.0
HALF_POWER_PULSE_S: Final = 20e-9
#: The receiver sees none of the beam before the first range, all of it after the second, linearly in between
CROSSOVER_M: Final = (0.9, 1.0)

TARGET_BACKSCATTER: Final = 1e-6 / np.pi  #: β0, differential reflectivity of the hard targets
STEP_M: Final = 0.1
#: Beyond, I(R) only falls: its maximum lies where the pulse's middle leaves the crossover, about 4 m
TABLE_END_M: Final = 12.0

JITTER_M: Final = 10.0


def extinction_per_m(visibility_m: float) -> float:
    """Return the extinction α of light in fog of a meteorological optical range (5 % contrast): ln 20 / MOR."""
    return float(np.log(20.0)) / visibility_m


def backscatter_per_m_sr(alpha_per_m: float) -> float:
    """Return the backscatter β of fog with extinction α: 0.046 / MOR."""
    return 0.046 * alpha_per_m / float(np.log(20.0))


@lru_cache(maxsize=64)
def soft_return(alpha_per_m: float) -> tuple[FloatArray, FloatArray]:
    """Return the strongest fog return before a hard target, by the target's range in steps of `STEP_M` from 0.

    Returns:
        (K,) range of the strongest fog return in m and (K,) its I(R) in s/m²; the last entries hold for all ranges
        beyond. A target nearer than the receiver's crossover has none (0, 0).
    """
    steps = round(TABLE_END_M / STEP_M)
    time_s = np.linspace(0.0, 2 * HALF_POWER_PULSE_S, 801)
    reach_m = np.arange(steps)[:, None] * STEP_M - LIGHT_MPS * time_s / 2
    near, full = CROSSOVER_M
    seen = np.clip((reach_m - near) / (full - near), 0.0, 1.0)
    pulse = np.sin(np.pi * time_s / (2 * HALF_POWER_PULSE_S)) ** 2
    safe = np.maximum(reach_m, near)
    integrand = pulse * np.exp(-2 * alpha_per_m * safe) / safe**2 * seen
    response = ((integrand[:, 1:] + integrand[:, :-1]) / 2).sum(axis=1) * (time_s[1] - time_s[0])
    best = np.maximum.accumulate(response)
    at = np.maximum.accumulate(np.where((response == best) & (response > 0), np.arange(steps), 0))
    # Only fog strictly before the target counts, so entry k holds the maximum over entries 0 to k - 1.
    peak_m, peak = np.zeros(steps), np.zeros(steps)
    peak_m[1:], peak[1:] = at[:-1] * STEP_M, best[:-1]
    return peak_m, peak


def fog(
    points: Float32Array,
    alpha_per_m: float,
    rng: np.random.Generator,
    *,
    beta_per_m_sr: float | None = None,
    jitter_m: float = JITTER_M,
) -> Float32Array:
    """Return a LiDAR sweep seen through fog, in its order; no point is lost, far ones become near returns of the fog.

    Args:
        points: (N, 5) float32: x, y, z in m (sensor frame), intensity 0-255, ring.
        alpha_per_m: Extinction.
        rng: Scatter of the fog returns' ranges.
        beta_per_m_sr: Backscatter; that of `backscatter_per_m_sr` when not given.
        jitter_m: A fog return's range is multiplied by R0 / U(R0 - jitter, R0 + jitter); 0 for none.
    """
    beta = backscatter_per_m_sr(alpha_per_m) if beta_per_m_sr is None else beta_per_m_sr
    range_m = np.sqrt(np.einsum("ij,ij->i", points[:, :3], points[:, :3]))
    peak_m, peak = soft_return(alpha_per_m)
    entry = np.minimum(np.rint(range_m / STEP_M).astype(np.int64), len(peak) - 1)
    hard = np.exp(-2 * alpha_per_m * range_m)
    soft = range_m**2 * (beta / TARGET_BACKSCATTER) * peak[entry]
    moved = np.flatnonzero(soft > hard)
    out = points.copy()
    out[:, 3] *= hard
    factor = peak_m[entry[moved]] / range_m[moved]
    if jitter_m > 0:
        lowest = np.maximum(range_m[moved] - jitter_m, 1.0)
        factor = np.minimum(factor * range_m[moved] / rng.uniform(lowest, range_m[moved] + jitter_m), 1.0)
    out[moved, :3] *= factor[:, None].astype(np.float32)
    out[moved, 3] = np.minimum(points[moved, 3] * soft[moved], 255.0)
    return out
