# SPDX-License-Identifier: Apache-2.0
"""Points to pillars: vertical columns of the bird's-eye-view grid, with an index map instead of a scatter.

The kernels are compiled by numba, once at configure; a plain numpy version is their oracle in the tests.
"""

import numba
import numpy as np

from peft_dml_ros.core.spec import GridSpec, LidarSpec, RadarSpec
from peft_dml_ros.core.typing import Float32Array, Int32Array


@numba.njit(cache=True, nogil=True)
def _bin_points(
    points: Float32Array, half_range_m: float, side: int, slots: Int32Array, counts: Int32Array, index_map: Int32Array
) -> int:
    """Fill `slots` (P, N) with point indices and `index_map` (side²) with pillar numbers; returns the pillars used."""
    capacity, depth = slots.shape
    scale = side / (2.0 * half_range_m)
    used = 0
    for i in range(points.shape[0]):
        column = int(np.floor((points[i, 0] + half_range_m) * scale))
        row = int(np.floor((points[i, 1] + half_range_m) * scale))
        if column < 0 or row < 0 or column >= side or row >= side:
            continue
        cell = row * side + column
        pillar = index_map[cell]
        if pillar == capacity:
            if used == capacity:
                continue
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
    points: Float32Array, half_range_m: float, side: int, capacity: int, depth: int
) -> tuple[Int32Array, Int32Array, Int32Array, int]:
    slots = np.zeros((capacity, depth), dtype=np.int32)
    counts = np.zeros(capacity, dtype=np.int32)
    index_map = np.full(side * side, capacity, dtype=np.int32)
    used = int(_bin_points(points, half_range_m, side, slots, counts, index_map))
    return slots, counts, index_map, used


def lidar_pillars(points: Float32Array, grid: GridSpec, spec: LidarSpec) -> tuple[Float32Array, Int32Array]:
    """Pillars of accumulated sweeps.

    Args:
        points: (N, 5) float32: x, y, z (m, base_link at the reference time), intensity 0-1, age in s; newest first, so
            that a full pillar keeps its newest points.
        grid: Range of the grid.
        spec: Number and depth of pillars, height range.

    Returns:
        (P, N, 10) float32 point features (`LidarSpec`), and (pillar_grid²,) int32 index map: the pillar of each cell,
        or P where there is none.
    """
    points = points[(points[:, 2] > spec.z_min_m) & (points[:, 2] < spec.z_max_m)]
    if len(points) > spec.pillars:
        # Near cells first: when pillars run out, it is the far end that goes. Sorting 100 k rows costs more than it
        # saves, so only a frame that could overflow pays for it.
        points = _near_first(points, grid.half_range_m, spec)
    side = spec.pillar_grid
    slots, counts, index_map, used = _bins(points, grid.half_range_m, side, spec.pillars, spec.points_per_pillar)
    features = np.zeros((spec.pillars, spec.points_per_pillar, spec.features), dtype=np.float32)
    _lidar_features(points, slots, counts, used, 2 * grid.half_range_m / side, grid.half_range_m, features)
    return features, index_map


@numba.njit(cache=True, nogil=True)
def _occupied(points: Float32Array, half_range_m: float, side: int) -> int:
    seen = np.zeros(side * side, dtype=np.bool_)
    scale = side / (2.0 * half_range_m)
    count = 0
    for i in range(points.shape[0]):
        column = int(np.floor((points[i, 0] + half_range_m) * scale))
        row = int(np.floor((points[i, 1] + half_range_m) * scale))
        if 0 <= column < side and 0 <= row < side and not seen[row * side + column]:
            seen[row * side + column] = True
            count += 1
    return count


def _near_first(points: Float32Array, half_range_m: float, spec: LidarSpec) -> Float32Array:
    if _occupied(points, half_range_m, spec.pillar_grid) <= spec.pillars:
        return points
    return points[np.argsort(points[:, 0] ** 2 + points[:, 1] ** 2, kind="stable")]


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
    slots, counts, index_map, used = _bins(points, grid.half_range_m, grid.size, spec.pillars, spec.points_per_pillar)
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
