# SPDX-License-Identifier: Apache-2.0
"""A spinning LiDAR with 32 beams (HDL-32E): ranges by ray casting, intensity by material and incidence."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import LidarSweep
from peft_dml_ros.core.typing import Float32Array, IntArray
from peft_dml_ros.sim.raycast import Caster

ELEVATIONS_DEG: Final = (
    *(-30.67, -29.33, -27.91, -26.63, -25.32, -24.00, -22.72, -21.43, -20.08, -18.74, -17.38, -16.03, -14.70, -13.36),
    *(-12.03, -10.69, -9.35, -8.02, -6.68, -5.34, -4.01, -2.68, -1.34, -0.01, 1.32, 2.66, 4.00, 5.33, 6.67, 8.00),
    *(9.33, 10.67),
)
"""Elevation of each ring, lowest first."""

AZIMUTHS: Final = 1085
MAX_RANGE_M: Final = 100.0
RANGE_SIGMA_M: Final = 0.02
FULL_SCALE: Final = 120.0
"""Intensity of a perfect white diffuse surface at normal incidence."""


@lru_cache(maxsize=1)
def _pattern() -> tuple[Float32Array, Float32Array]:
    """Unit directions (N, 3) in the sensor frame and ring (N,), in firing order: column by column."""
    elevation = np.deg2rad(ELEVATIONS_DEG)
    # The head turns clockwise from the back, as nuScenes' does.
    azimuth = -np.pi / 2 - np.arange(AZIMUTHS) * 2 * np.pi / AZIMUTHS
    grid_a, grid_e = np.meshgrid(azimuth, elevation, indexing="ij")
    directions = np.stack([np.cos(grid_e) * np.cos(grid_a), np.cos(grid_e) * np.sin(grid_a), np.sin(grid_e)], axis=-1)
    ring = np.tile(np.arange(len(elevation)), AZIMUTHS)
    return directions.reshape(-1, 3).astype(np.float32), ring.astype(np.float32)


def scan(
    caster: Caster, base_SE3_lidar: SE3, time_s: float, stamp_ns: int, rng: np.random.Generator
) -> tuple[LidarSweep, IntArray]:
    """One turn, as if fired at once.

    Args:
        caster: The world.
        base_SE3_lidar: Mounting.
        time_s: When, in the world's time.
        stamp_ns: Stamp to give it.
        rng: Noise.

    Returns:
        The sweep, and (A,) the number of returns from each actor.
    """
    world_SE3_lidar = caster.world.world_SE3_base(time_s) @ base_SE3_lidar
    directions, ring = _pattern()
    rays = world_SE3_lidar.rotate(directions)
    hits = caster.at(time_s).cast(world_SE3_lidar.translation, rays, MAX_RANGE_M)
    cosine = -np.einsum("ij,ij->i", hits.normal, rays)
    reflectance = caster.mesh.reflectance[np.maximum(hits.face, 0)]
    # Received energy falls with the square of range; returns fade out where it nears the detector's floor.
    energy = reflectance * (0.15 + 0.85 * cosine) / np.maximum(hits.range_m, 1.0) ** 2
    chance = 1.0 - np.exp(-energy / 1.5e-5)
    kept = (hits.range_m < MAX_RANGE_M) & (rng.random(len(rays), dtype=np.float32) < chance * 0.995)
    ranges = hits.range_m[kept] + rng.normal(0, RANGE_SIGMA_M, int(kept.sum())).astype(np.float32)
    speckle = rng.gamma(9.0, 1 / 9.0, len(ranges))
    intensity = np.clip(FULL_SCALE * reflectance[kept] * (0.15 + 0.85 * cosine[kept]) * speckle, 0, 255)
    points = np.empty((len(ranges), 5), np.float32)
    points[:, :3] = directions[kept] * ranges[:, None]
    points[:, 3] = np.floor(intensity)
    points[:, 4] = ring[kept]
    owner = caster.owner[hits.face[kept]]
    counts = np.bincount(owner[owner >= 0], minlength=len(caster.world.actors))
    return LidarSweep(stamp_ns, points), counts
