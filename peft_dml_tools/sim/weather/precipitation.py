# SPDX-License-Identifier: Apache-2.0
"""Rain and snow on LiDAR: attenuation, returns of single drops, lost points, range noise (LISA, arXiv 2107.07004).

Powers are relative: a target of reflectance ρ at range R in clear air returns ρ / R².
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from peft_dml_ros.core.typing import AnyArray, Float32Array, FloatArray

MAX_RANGE_M: Final = 200.0
DETECTABLE: Final = 0.9 / MAX_RANGE_M**2  #: Least power that counts as a return: a white target at the maximum range
MIN_RANGE_M: Final = 1.5  #: Nearer returns are the vehicle itself; they stay, and no drop is seen there
SPREAD: Final = float(np.tan(3e-3))  #: Tangent of the beam's divergence
RANGE_RESOLUTION_M: Final = 0.09
LEAST_MM: Final = 0.05
EXTINCTION_EFFICIENCY: Final = 2.0  #: Q_ext of particles much larger than the wavelength
WATER_INDEX: Final = 1.328
ICE_INDEX: Final = 1.3031
RARE: Final = 1e-6  #: Particles larger than all but this share are taken for impossible when the search is bounded


@dataclass(frozen=True, slots=True)
class Particles:
    """What falls: number density N(D) = N0 exp(-Λ D) of particles with diameter D."""

    intercept_per_m3_mm: float  #: N0
    slope_per_mm: float  #: Λ
    reflectance: float  #: Share of the light on a particle that comes back

    @property
    def alpha_per_m(self) -> float:
        """Extinction: π/4 Q_ext ∫ D² N(D) dD; the 1e-6 makes m² of mm²."""
        return np.pi / 4 * 1e-6 * EXTINCTION_EFFICIENCY * 2 * self.intercept_per_m3_mm / self.slope_per_mm**3

    @property
    def per_m3(self) -> float:
        """Particles above `LEAST_MM` in a cubic metre."""
        return self.intercept_per_m3_mm / self.slope_per_mm * float(np.exp(-self.slope_per_mm * LEAST_MM))

    def diameters_mm(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Return the diameters (count,) of random particles."""
        return LEAST_MM + rng.exponential(1.0 / self.slope_per_mm, count)


def rain(rate_mmph: float) -> Particles:
    """Return rain drops after Marshall and Palmer; their extinction is 3.65e-4 R^0.63 per metre."""
    return Particles(8000.0, 4.1 * rate_mmph**-0.21, _fresnel(WATER_INDEX))


def snow(rate_mmph: float) -> Particles:
    """Return snow flakes after Gunn and Marshall, sized by their melted diameter; the rate is that of the water."""
    return Particles(7600.0 * rate_mmph**-0.87, 2.55 * rate_mmph**-0.48, _fresnel(ICE_INDEX))


def flakes(rate_mmph: float, fall_mps: float, *, density: float = 0.1, mean_mm: float = 3.0) -> Particles:
    """Return white flakes that fill the share of the air given by rate and fall speed (Hahner et al., CVPR 2022).

    Args:
        rate_mmph: Melted water in mm/h.
        fall_mps: Terminal velocity.
        density: Of snow, relative to water.
        mean_mm: Mean diameter.
    """
    occupied = rate_mmph / (3.6e6 * density * fall_mps)
    # For exponentially distributed diameters the mean cube is six times the cube of the mean.
    per_m3 = occupied / (np.pi * (mean_mm * 1e-3) ** 3)
    return Particles(per_m3 / mean_mm, 1.0 / mean_mm, 0.9)


def _fresnel(index: float) -> float:
    """Return the share of light that a surface reflects at normal incidence."""
    return ((index - 1.0) / (index + 1.0)) ** 2


def beam_volume_m3(range_m: AnyArray) -> AnyArray:
    """Return the volume of the beam up to a range, as LISA counts particles in it: π/3 R (R tan(divergence) / 2)²."""
    volume: AnyArray = np.pi / 3 * range_m**3 * (SPREAD / 2) ** 2
    return volume


def precipitate(points: Float32Array, particles: Particles, rng: np.random.Generator) -> Float32Array:
    """Return a LiDAR sweep seen through rain or snow.

    A point whose power falls below `DETECTABLE` is lost. One that is below it in clear air already, though the sensor
    did see it, is kept with a chance of the power left, so that the effect vanishes with the rate. The result is (M, 5)
    float32, M <= N, in the same order; a return of a drop stands in its beam's place.
    """
    range_m = np.sqrt(np.einsum("ij,ij->i", points[:, :3], points[:, :3])).astype(np.float64)
    outside = range_m >= MIN_RANGE_M
    safe = np.maximum(range_m, MIN_RANGE_M)
    left = np.exp(-2 * particles.alpha_per_m * safe)
    clear = points[:, 3] / 255.0 / safe**2
    power = clear * left
    floor = np.where(clear >= DETECTABLE, DETECTABLE, clear * rng.random(len(points)))
    drop_power, drop_m = strongest_particle(safe, np.maximum(power, DETECTABLE), particles, rng)
    replaced = outside & (drop_power > 0)
    kept = ~outside | replaced | (power >= floor)
    sigma_m = RANGE_RESOLUTION_M / np.sqrt(2 * np.maximum(power / DETECTABLE, 1.0))
    measured_m = np.where(replaced, drop_m, safe + sigma_m * rng.normal(size=len(points)))
    intensity = np.where(replaced, 255.0 * drop_power * drop_m**2, points[:, 3] * left)
    out = points.copy()
    out[outside, :3] *= (measured_m[outside] / range_m[outside])[:, None].astype(np.float32)
    out[outside, 3] = np.minimum(intensity[outside], 255.0)
    survivors: Float32Array = out[kept]
    return survivors


def search_range_m(particles: Particles, threshold: FloatArray) -> FloatArray:
    """Return the range (N,) up to which any particle but a `RARE` one could exceed a threshold (N,), in clear air.

    It is where ρ (D / b r)² / r² with b = 1e3 tan(divergence) equals the threshold.
    """
    largest_mm = LEAST_MM - float(np.log(RARE)) / particles.slope_per_mm
    reach_m: FloatArray = (particles.reflectance * (largest_mm / (1e3 * SPREAD)) ** 2 / threshold) ** 0.25
    return reach_m


def strongest_particle(
    range_m: FloatArray, threshold: FloatArray, particles: Particles, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return the power of each beam's strongest particle, (N,), 0 where none exceeds the threshold, and its range in m.

    Particles fill the beam evenly, their number is Poisson distributed. Only the part of each beam is searched in which
    a particle could exceed the threshold at all, since a beam of 100 m holds thousands.

    Args:
        range_m: (N,) where each beam ends.
        threshold: (N,) power that a particle has to exceed.
        particles: What falls.
        rng: Positions and sizes.
    """
    end_m = np.minimum(range_m, search_range_m(particles, threshold))
    searched_m3 = np.maximum(beam_volume_m3(end_m) - beam_volume_m3(np.array(MIN_RANGE_M)), 0.0)
    counts = rng.poisson(particles.per_m3 * searched_m3)
    power, at_m = np.zeros(len(range_m)), np.zeros(len(range_m))
    hit = np.flatnonzero(counts)
    if not len(hit):
        return power, at_m
    beam = np.repeat(hit, counts[hit])
    share = rng.random(len(beam))
    r = np.cbrt(MIN_RANGE_M**3 + (end_m[beam] ** 3 - MIN_RANGE_M**3) * share)
    filled = np.minimum((particles.diameters_mm(len(beam), rng) / (1e3 * SPREAD * r)) ** 2, 1.0)
    returned = particles.reflectance * np.exp(-2 * particles.alpha_per_m * r) * filled / r**2
    above = returned > threshold[beam]
    order = np.argsort(returned[above])
    # The last assignment to a beam is its strongest.
    power[beam[above][order]] = returned[above][order]
    at_m[beam[above][order]] = r[above][order]
    return power, at_m
