# SPDX-License-Identifier: Apache-2.0
"""The frame of something that moves on the ground, at one time or at the time of each ray."""

from dataclasses import dataclass

import numpy as np

from peft_dml_ros.core.typing import Float32Array, IntArray


@dataclass(frozen=True, slots=True)
class MoverFrame:
    """Frame of one mover, once for all rays or once for each.

    Attributes:
        position: (1 or K, 3) float32 its origin, world frame.
        cos, sin: (1 or K,) float32 of its yaw.
    """

    position: Float32Array
    cos: Float32Array
    sin: Float32Array

    def points(self, points: Float32Array) -> Float32Array:
        """Return points (K, 3) of the world in the mover's frame."""
        return self.vectors(points - self.position)

    def vectors(self, vectors: Float32Array) -> Float32Array:
        """Return directions (K, 3) of the world in the mover's frame."""
        return _turned(vectors, self.cos, -self.sin)

    def back(self, vectors: Float32Array) -> Float32Array:
        """Return directions (K, 3) of the mover's frame in the world."""
        return _turned(vectors, self.cos, self.sin)

    def some(self, index: IntArray) -> "MoverFrame":
        """Return the frame of some rays."""
        if len(self.cos) == 1:
            return self
        return MoverFrame(self.position[index], self.cos[index], self.sin[index])


def _turned(vectors: Float32Array, cos: Float32Array, sin: Float32Array) -> Float32Array:
    """Return vectors (K, 3) turned about +z."""
    out = np.empty(vectors.shape, np.float32)
    x, y = vectors[:, 0], vectors[:, 1]
    out[:, 0] = x * cos - y * sin
    out[:, 1] = x * sin + y * cos
    out[:, 2] = vectors[:, 2]
    return out
