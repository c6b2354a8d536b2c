# SPDX-License-Identifier: Apache-2.0
"""Shadows: what the sun sees, drawn once for what stands still and again for what moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from peft_dml_ros.core.typing import Float32Array, FloatArray
from peft_dml_ros.sim.camera.raster import NOTHING, draw_parallel, project
from peft_dml_ros.sim.camera.shading import Sunshine
from peft_dml_ros.sim.camera.stage import Stage

SIDE_PX: Final = 2048
HALF_WIDTHS_M: Final = (48.0, 190.0)
"""Of the map that is sharp and near, and the one that is coarse and far."""

STEP_M: Final = 16.0
"""The maps follow the vehicle in such steps, so that a picture depends on its instant alone."""


@dataclass(slots=True)
class _Map:
    """One view from the sun.

    Attributes:
        half_m: Half its width.
        still: (S, S) float32 height towards the sun of what stands still.
        now: The same with what moves.
        dirty: Windows of `now` that differ from `still`.
        cell: Which place it was drawn for.
        matrix: (3, 4) float64 world to (column, row, height).
    """

    half_m: float
    still: Float32Array
    now: Float32Array
    dirty: list[tuple[slice, slice]]
    cell: tuple[int, int] | None
    matrix: FloatArray


class SunMaps:
    """Shadow maps around the vehicle, one inside the other.

    Attributes:
        maps: (2, S, S) float32 height towards the sun of what the sun meets first.
    """

    def __init__(self, stage: Stage, sun: FloatArray) -> None:
        self._stage = stage
        side = np.cross(sun, [0.0, 0.0, 1.0] if abs(sun[2]) < 0.99 else [1.0, 0.0, 0.0])
        side /= np.linalg.norm(side)
        self._axes: FloatArray = np.stack([side, np.cross(sun, side), sun])
        count = len(HALF_WIDTHS_M)
        self.maps: Float32Array = np.full((count, SIDE_PX, SIDE_PX), NOTHING, np.float32)
        self._maps = [
            _Map(half, np.empty((SIDE_PX, SIDE_PX), np.float32), self.maps[i], [], None, np.zeros((3, 4)))
            for i, half in enumerate(HALF_WIDTHS_M)
        ]
        self._pixels: Float32Array = np.empty_like(stage.vertices)

    def draw(self, viewer_m: FloatArray) -> None:
        """Brings the maps up to date with the stage, around a viewer (3,)."""
        cell = (round(float(viewer_m[0]) / STEP_M), round(float(viewer_m[1]) / STEP_M))
        for level in self._maps:
            if level.cell != cell:
                self._draw_still(level, cell)
            for window in level.dirty:
                level.now[window] = level.still[window]
            level.dirty = self._draw_movers(level)

    def sunshine(self, cover: float) -> Sunshine:
        """The sun and the places of its maps, for the shading kernel, under a cover of clouds."""
        rows = [[tuple(map(float, row)) for row in level.matrix] for level in self._maps]
        texels = tuple(2 * level.half_m / SIDE_PX for level in self._maps)
        direction = tuple(map(float, self._axes[2]))
        return Sunshine(direction, (rows[0][0], rows[1][0]), (rows[0][1], rows[1][1]), rows[0][2], texels, cover)

    def _draw_still(self, level: _Map, cell: tuple[int, int]) -> None:
        scale = SIDE_PX / (2 * level.half_m)
        centre = self._axes[:2] @ np.array([*cell, 0.0]) * STEP_M
        level.matrix[:2, :3] = self._axes[:2] * scale
        level.matrix[:2, 3] = SIDE_PX / 2 - centre * scale
        level.matrix[2, :3] = self._axes[2]
        faces, last = self._stage.faces, self._stage.still_faces
        project(self._stage.vertices, level.matrix, self._pixels)
        level.still.fill(NOTHING)
        draw_parallel(self._pixels, faces, 0, last, level.still)
        level.now[:] = level.still
        level.cell, level.dirty = cell, []

    def _draw_movers(self, level: _Map) -> list[tuple[slice, slice]]:
        """Draws what moves; returns the windows that it changed."""
        stage, dirty = self._stage, []
        for mover in range(len(stage.radius_m)):
            x, y, _ = level.matrix[:, :3] @ stage.centre_m[mover] + level.matrix[:, 3]
            reach = stage.radius_m[mover] * SIDE_PX / (2 * level.half_m) + 1
            low = np.maximum(np.floor([y - reach, x - reach]), 0).astype(int)
            high = np.minimum(np.ceil([y + reach, x + reach]), SIDE_PX).astype(int)
            if (low >= high).any():
                continue
            dirty.append((slice(low[0], high[0]), slice(low[1], high[1])))
            vertices = slice(*stage.vertex_range[mover])
            project(stage.vertices[vertices], level.matrix, self._pixels[vertices])
            draw_parallel(self._pixels, stage.faces, *stage.face_range[mover], level.now)
        return dirty
