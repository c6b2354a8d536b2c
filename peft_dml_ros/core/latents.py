# SPDX-License-Identifier: Apache-2.0
"""Latent maps of an earlier frame, moved by the ego motion to the present one.

An encoder need not run at every frame: its last map is sampled where the vehicle's new grid lies on the old one.
"""

from dataclasses import dataclass, replace

import numba
import numpy as np

from peft_dml_ros.core.engine import EngineArray
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.inputs import EncoderInputs
from peft_dml_ros.core.spec import GridSpec
from peft_dml_ros.core.typing import Float32Array


@dataclass(frozen=True, slots=True)
class Latent:
    """Output of one encoder."""

    array: EngineArray  #: (1, d, size, size) map or (1, d) token, in `base_link` at `stamp_ns`
    stamp_ns: int  #: Reference time of the frame that it is for
    inputs: EncoderInputs  #: What it was made from, without the arrays

    def at(self, stamp_ns: int, now_SE3_then: SE3, grid: GridSpec) -> "Latent":
        """Return the map as it lies in the grid of a later frame, and its age there; it must be in host memory."""
        later_s = (stamp_ns - self.stamp_ns) * 1e-9
        older = replace(self.inputs, age_s=self.inputs.age_s + later_s)
        return Latent(moved(np.asarray(self.array), now_SE3_then, grid), stamp_ns, older)


def moved(latent: Float32Array, now_SE3_then: SE3, grid: GridSpec) -> Float32Array:
    """Return a map interpolated at the present grid's cells and normalised again; 0 where the old grid ends.

    Args:
        latent: (1, d, size, size) float32, L2-normalised per cell, in `base_link` at an earlier time.
        now_SE3_then: Maps `base_link` at that time to `base_link` now.
        grid: Grid of both maps.
    """
    then_SE3_now = now_SE3_then.inverse()
    out = np.zeros_like(latent)
    rotation = then_SE3_now.rotation[:2, :2].astype(np.float32)
    shift_cells = (then_SE3_now.translation[:2] / grid.cell_m).astype(np.float32)
    _sample(latent[0], rotation, shift_cells, out[0])
    return out


@numba.njit(cache=True, nogil=True)
def _sample(source: Float32Array, rotation: Float32Array, shift_cells: Float32Array, out: Float32Array) -> None:
    """Fill `out` (d, size, size); coordinates are counted in cells from the centre of the grid."""
    depth, size = source.shape[0], source.shape[1]
    middle = np.float32(0.5 * (size - 1))
    left, top = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
    u, v = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    inside, square = np.empty(size, dtype=np.bool_), np.empty(size, dtype=np.float32)
    for row in range(size):
        y = np.float32(row) - middle
        for column in range(size):
            x = np.float32(column) - middle
            from_x = rotation[0, 0] * x + rotation[0, 1] * y + shift_cells[0] + middle
            from_y = rotation[1, 0] * x + rotation[1, 1] * y + shift_cells[1] + middle
            inside[column] = -0.5 <= from_x <= size - 0.5 and -0.5 <= from_y <= size - 0.5
            left[column] = min(max(int(np.floor(from_x)), 0), size - 2)
            top[column] = min(max(int(np.floor(from_y)), 0), size - 2)
            u[column] = min(max(from_x - np.float32(left[column]), np.float32(0.0)), np.float32(1.0))
            v[column] = min(max(from_y - np.float32(top[column]), np.float32(0.0)), np.float32(1.0))
            square[column] = 0.0
        for k in range(depth):
            for column in range(size):
                if inside[column]:
                    i, j, right = top[column], left[column], u[column]
                    upper = source[k, i, j] + right * (source[k, i, j + 1] - source[k, i, j])
                    lower = source[k, i + 1, j] + right * (source[k, i + 1, j + 1] - source[k, i + 1, j])
                    value = upper + v[column] * (lower - upper)
                    out[k, row, column] = value
                    square[column] += value * value
        for column in range(size):
            square[column] = 1.0 / np.sqrt(square[column]) if square[column] > 1e-12 else 0.0
        for k in range(depth):
            for column in range(size):
                out[k, row, column] *= square[column]


def compile_kernels() -> None:
    """Compile everything here, which otherwise the first moved map would have to wait for."""
    moved(np.ones((1, 1, 4, 4), dtype=np.float32), SE3.identity(), GridSpec(size=4))
