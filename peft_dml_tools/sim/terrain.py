# SPDX-License-Identifier: Apache-2.0
"""The height of the ground: hills and bumps as a sum of plane waves, so that height and slope are exact anywhere."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from peft_dml_ros.core.typing import FloatArray

HILLS: Final = 3
HILL_LENGTH_M: Final = (60.0, 200.0)
#: Slope of one hill's flank at relief 1; the ground mesh's cells of 4 to 6 m then lie within 4 cm of the waves
STEEPEST: Final = 0.085

BUMPS: Final = 4
BUMP_LENGTH_M: Final = (14.0, 40.0)
BUMP_M: Final = (0.004, 0.02)


@dataclass(frozen=True, slots=True)
class Terrain:
    """Height over the world's plane, 0 at the world's origin."""

    vectors: FloatArray  #: (K, 2) float64 wave vectors, rad/m
    amplitudes_m: FloatArray  #: (K,) float64
    phases_rad: FloatArray  #: (K,) float64

    @classmethod
    def make(cls, rng: np.random.Generator, relief: float = 1.0) -> "Terrain":
        """Draw hills and bumps of heights times `relief`; a quarter of all places is nearly flat."""
        hilliness = float(rng.choice([rng.uniform(0.0, 0.2), rng.uniform(0.2, 1.0)], p=[0.25, 0.75]))
        lengths = np.concatenate([rng.uniform(*HILL_LENGTH_M, HILLS), rng.uniform(*BUMP_LENGTH_M, BUMPS)])
        slopes = hilliness * STEEPEST * rng.uniform(0.25, 1.0, HILLS)
        heights = np.concatenate([slopes * lengths[:HILLS] / (2 * np.pi), rng.uniform(*BUMP_M, BUMPS)])
        towards = rng.uniform(-np.pi, np.pi, HILLS + BUMPS)
        vectors = 2 * np.pi / lengths[:, None] * np.stack([np.cos(towards), np.sin(towards)], axis=1)
        return cls(vectors, relief * heights, rng.uniform(-np.pi, np.pi, HILLS + BUMPS))

    def height_m(self, position_m: FloatArray) -> FloatArray:
        """Return the height (...) of places (..., 2) in the world frame."""
        phase = position_m @ self.vectors.T + self.phases_rad
        height: FloatArray = (np.sin(phase) - np.sin(self.phases_rad)) @ self.amplitudes_m
        return height
