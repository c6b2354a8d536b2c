# SPDX-License-Identifier: Apache-2.0
"""Points to pillars: vertical columns of the bird's-eye-view grid, with an index map instead of a scatter.

The kernels are compiled by numba, once at configure; a plain numpy version is their oracle in the tests.
"""

import numba
import numpy as np

from peft_dml_ros.core.spec import GridSpec, LidarSpec, RadarSpec
from peft_dml_ros.core.typing import BoolArray, Float32Array, Int32Array


@numba.njit(cache=True, nogil=True)
def _cells(
    points: Float32Array,
    half_range_m: float,
    side: int,
    z_m: tuple[float, float],
    cells: Int32Array,
    seen: BoolArray,
) -> int:
    """Fill `cells` (N,) with each point's cell, -1 outside, and `seen` (side²,); returns how many were seen."""
    scale = side / (2.0 * half_range_m)
    occupied = 0
    for i in range(points.shape[0]):
        cells[i] = -1
        if not z_m[0] < points[i, 2] < z_m[1]:
            continue
        column = int(np.floor((points[i, 0] + half_range_m) * scale))
        row = int(np.floor((points[i, 1] + half_range_m) * scale))
        if column < 0 or row < 0 or column >= side or row >= side:
            continue
        cell = row * side + column
        cells[i] = cell
        if not seen[cell]:
            seen[cell] = True
            occupied += 1
    return occupied


def _keep_nearest(cells: Int32Array, seen: BoolArray, side: int, capacity: int) -> None:
    """Set to -1 the cells beyond the `capacity` occupied ones that are nearest to the grid's centre."""
    occupied = np.flatnonzero(seen)
    # Twice the distance from the middle: whole numbers, exact.
    rows, columns = np.divmod(occupied, side)
    distance = (2 * columns - side + 1) ** 2 + (2 * rows - side + 1) ** 2
    near = np.zeros(side * side, dtype=np.bool_)
    near[occupied[np.argpartition(distance, capacity - 1)[:capacity]]] = True
    cells[~near[cells]] = -1


@numba.njit(cache=True, nogil=True)
def _fill(cells: Int32Array, slots: Int32Array, counts: Int32Array, index_map: Int32Array) -> int:
    """Fill `slots` (P, N) with point indices and `index_map` (side²) with pillar numbers; returns the pillars used."""
    capacity, depth = slots.shape
    used = 0
    for i in range(cells.shape[0]):
        cell = cells[i]
        if cell < 0:
            continue
        pillar = index_map[cell]
        if pillar == capacity:
            pillar = used
            index_map[cell] = pillar
            used += 1
        if counts[pillar] < depth:
            slots[pillar, counts[pillar]] = i
            counts[pillar] += 1
    return used


@numba.njit(cache=True, nogil=True)
def _lidar_features(
    points: Float32Array,
    slots: Int32Array,
    counts: Int32Array,
    used: int,
    cell_m: float,
    half_range_m: float,
    out: Float32Array,
) -> None:
    for p in range(used):
        n = counts[p]
        mean_x, mean_y, mean_z = 0.0, 0.0, 0.0
        for k in range(n):
            i = slots[p, k]
            mean_x += points[i, 0]
            mean_y += points[i, 1]
            mean_z += points[i, 2]
        mean_x, mean_y, mean_z = mean_x / n, mean_y / n, mean_z / n
        first = slots[p, 0]
        centre_x = (np.floor((points[first, 0] + half_range_m) / cell_m) + 0.5) * cell_m - half_range_m
        centre_y = (np.floor((points[first, 1] + half_range_m) / cell_m) + 0.5) * cell_m - half_range_m
        for k in range(slots.shape[1]):
            i = slots[p, k] if k < n else first
            out[p, k, 0] = points[i, 0]
            out[p, k, 1] = points[i, 1]
            out[p, k, 2] = points[i, 2]
            out[p, k, 3] = points[i, 3]
            out[p, k, 4] = points[i, 4]
            out[p, k, 5] = points[i, 0] - mean_x
            out[p, k, 6] = points[i, 1] - mean_y
            out[p, k, 7] = points[i, 2] - mean_z
            out[p, k, 8] = points[i, 0] - centre_x
            out[p, k, 9] = points[i, 1] - centre_y


def _bins(
    points: Float32Array, half_range_m: float, side: int, capacity: int, depth: int, z_m: tuple[float, float]
) -> tuple[Int32Array, Int32Array, Int32Array, int]:
    slots = np.zeros((capacity, depth), dtype=np.int32)
    counts = np.zeros(capacity, dtype=np.int32)
    index_map = np.full(side * side, capacity, dtype=np.int32)
    cells = np.empty(len(points), dtype=np.int32)
    seen = np.zeros(side * side, dtype=np.bool_)
    if _cells(points, half_range_m, side, z_m, cells, seen) > capacity:
        # When pillars run out, it is the far end that goes.
        _keep_nearest(cells, seen, side, capacity)
    return slots, counts, index_map, int(_fill(cells, slots, counts, index_map))


def lidar_pillars(points: Float32Array, grid: GridSpec, spec: LidarSpec) -> tuple[Float32Array, Int32Array]:
    """Pillars of accumulated sweeps.

    Args:
        points: (N, 5) float32: x, y, z (m, base_link at the reference time), intensity 0-1, age in s; newest first, so
            that a full pillar keeps its newest points. Beyond `spec.pillars`, the farthest pillars are left out.
        grid: Range of the grid.
        spec: Number and depth of pillars, height range.

    Returns:
        (P, N, 10) float32 point features (`LidarSpec`), and (pillar_grid²,) int32 index map: the pillar of each cell,
        or P where there is none.
    """
    side = spec.pillar_grid
    z_m = (spec.z_min_m, spec.z_max_m)
    slots, counts, index_map, used = _bins(points, grid.half_range_m, side, spec.pillars, spec.points_per_pillar, z_m)
    features = np.zeros((spec.pillars, spec.points_per_pillar, spec.features), dtype=np.float32)
    _lidar_features(points, slots, counts, used, 2 * grid.half_range_m / side, grid.half_range_m, features)
    return features, index_map


def radar_pillars(points: Float32Array, grid: GridSpec, spec: RadarSpec) -> tuple[Float32Array, Int32Array]:
    """Radar pillars on the common grid.

    Args:
        points: (N, 6) float32: x, y (m, base_link, moved to the reference time), RCS (dBsm), vx, vy (m/s, compensated,
            base_link axes), age in s; newest first.
        grid: The common grid.
        spec: Number and depth of pillars.

    Returns:
        (P, N, 8) float32 features (`RadarSpec`), and (size²,) int32 index map, P where a cell is empty.
    """
    flat = (-np.inf, np.inf)
    slots, counts, index_map, used = _bins(
        points, grid.half_range_m, grid.size, spec.pillars, spec.points_per_pillar, flat
    )
    features = np.zeros((spec.pillars, spec.points_per_pillar, spec.features), dtype=np.float32)
    if used:
        spare = np.arange(spec.points_per_pillar)[None] >= counts[:used, None]
        rows = points[np.where(spare, slots[:used, :1], slots[:used])]
        centre = (np.floor((rows[..., :2] + grid.half_range_m) / grid.cell_m) + 0.5) * grid.cell_m - grid.half_range_m
        features[:used, :, 0:2] = rows[..., 0:2]
        features[:used, :, 2] = rows[..., 2] / 20.0
        features[:used, :, 3:5] = rows[..., 3:5] / 10.0
        features[:used, :, 5] = rows[..., 5]
        features[:used, :, 6:8] = rows[..., 0:2] - centre
    return features, index_map


def compile_kernels() -> None:
    """Compile everything here, which otherwise the first frame would have to wait for."""
    grid = GridSpec(size=4)
    lidar_pillars(np.zeros((1, 5), dtype=np.float32), grid, LidarSpec(pillar_grid=4, pillars=1, points_per_pillar=2))
    radar_pillars(np.zeros((1, 6), dtype=np.float32), grid, RadarSpec(pillars=1, points_per_pillar=2))
