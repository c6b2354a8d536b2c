# SPDX-License-Identifier: Apache-2.0
"""Shadows: what the sun sees, drawn once for what stands still and again for what moves."""

from dataclasses import dataclass
from typing import Final

import numba
import numpy as np

from peft_dml_ros.core.typing import Float32Array, FloatArray, IntArray
from peft_dml_tools.sim.camera.raster import NOTHING, draw_parallel, project
from peft_dml_tools.sim.camera.scene_mesh import SceneMesh
from peft_dml_tools.sim.camera.shading import Sunshine

SIDE_PX: Final = 2048
HALF_WIDTHS_M: Final = (48.0, 190.0)  #: Of the map that is sharp and near, and the one that is coarse and far
NO_WINDOWS: Final[IntArray] = np.zeros((0, 4), np.int64)
STEP_M: Final = 16.0  #: The maps follow the vehicle in such steps, so that a picture depends on its instant alone


@dataclass(slots=True)
class _ShadowMap:
    """One view from the sun."""

    half_m: float  #: Half its width
    still: Float32Array  #: (S, S) float32 height towards the sun of what stands still
    now: Float32Array  #: The same with what moves
    dirty: IntArray  #: (K, 4) windows of `now` that differ from `still`: first row and column, and one past the last
    cell: tuple[int, int] | None  #: Which place it was drawn for
    matrix: FloatArray  #: (3, 4) float64 world to (column, row, height)


class SunMaps:
    """Shadow maps around the vehicle, one inside the other.

    Attributes:
        maps: (2, S, S) float32 height towards the sun of what the sun meets first.
    """

    def __init__(self, scene: SceneMesh, sun: FloatArray) -> None:
        self._scene = scene
        side = np.cross(sun, [0.0, 0.0, 1.0] if abs(sun[2]) < 0.99 else [1.0, 0.0, 0.0])
        side /= np.linalg.norm(side)
        self._axes: FloatArray = np.stack([side, np.cross(sun, side), sun])
        count = len(HALF_WIDTHS_M)
        self.maps: Float32Array = np.full((count, SIDE_PX, SIDE_PX), NOTHING, np.float32)
        self._maps = [
            _ShadowMap(half, np.empty((SIDE_PX, SIDE_PX), np.float32), self.maps[i], NO_WINDOWS, None, np.zeros((3, 4)))
            for i, half in enumerate(HALF_WIDTHS_M)
        ]
        self._pixels: Float32Array = np.empty_like(scene.vertices)

    def draw(self, viewer_m: FloatArray) -> None:
        """Bring the maps up to date with the scene, around a viewer (3,)."""
        cell = (round(float(viewer_m[0]) / STEP_M), round(float(viewer_m[1]) / STEP_M))
        for level in self._maps:
            if level.cell != cell:
                self._draw_still(level, cell)
            _restore(level.still, level.dirty, level.now)
            level.dirty = self._draw_movers(level)

    def sunshine(self, cover: float) -> Sunshine:
        """Return the sun and the places of its maps, for the shading kernel, under a cover of clouds."""
        rows = [[tuple(map(float, row)) for row in level.matrix] for level in self._maps]
        texels = tuple(2 * level.half_m / SIDE_PX for level in self._maps)
        direction = tuple(map(float, self._axes[2]))
        return Sunshine(direction, (rows[0][0], rows[1][0]), (rows[0][1], rows[1][1]), rows[0][2], texels, cover)

    def _draw_still(self, level: _ShadowMap, cell: tuple[int, int]) -> None:
        scale = SIDE_PX / (2 * level.half_m)
        centre = self._axes[:2] @ np.array([*cell, 0.0]) * STEP_M
        level.matrix[:2, :3] = self._axes[:2] * scale
        level.matrix[:2, 3] = SIDE_PX / 2 - centre * scale
        level.matrix[2, :3] = self._axes[2]
        faces, last = self._scene.faces, self._scene.still_faces
        project(self._scene.vertices, level.matrix, self._pixels)
        level.still.fill(NOTHING)
        draw_parallel(self._pixels, faces, 0, last, level.still)
        level.now[:] = level.still
        level.cell, level.dirty = cell, NO_WINDOWS

    def _draw_movers(self, level: _ShadowMap) -> IntArray:
        """Draw what moves; returns the windows that this may have changed."""
        scene = self._scene
        first = len(scene.vertices) - scene.moving_vertices
        project(scene.vertices[first:], level.matrix, self._pixels[first:])
        draw_parallel(self._pixels, scene.faces, scene.still_faces, len(scene.faces), level.now)
        reach = scene.radius_m * SIDE_PX / (2 * level.half_m) + 1
        middle = scene.centre_m @ level.matrix[1::-1, :3].T + level.matrix[1::-1, 3]
        low = np.clip(np.floor(middle - reach[:, None]), 0, SIDE_PX).astype(np.int64)
        high = np.clip(np.ceil(middle + reach[:, None]), 0, SIDE_PX).astype(np.int64)
        return np.concatenate([low, high], axis=1)


@numba.njit(cache=True, nogil=True)
def _restore(still: Float32Array, windows: IntArray, now: Float32Array) -> None:
    """Copy windows (K, 4) of first row, first column, and one past the last."""
    for k in range(windows.shape[0]):
        for row in range(windows[k, 0], windows[k, 2]):
            for column in range(windows[k, 1], windows[k, 3]):
                now[row, column] = still[row, column]
