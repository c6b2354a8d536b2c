# SPDX-License-Identifier: Apache-2.0
"""Accumulated sweeps to one cloud in `base_link`, on the intensity scale that a network knows, and clouds to pillars.

The kernels are compiled by numba, once at configure; a plain numpy version is their oracle in the tests.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

import numba
import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import LidarSweep, RadarSweep, trusted_radar_points
from peft_dml_ros.core.spec import GridSpec, LidarSpec, RadarSpec
from peft_dml_ros.core.typing import AnyArray, BoolArray, Float32Array, Int32Array

#: Sweeps older than this behind the newest are left out, unless the model's own spacing reaches further
OLDEST_S: Final = 0.5
Ranges = Mapping[str, tuple[float, float]]
MEDIAN, MAXIMUM = "lidar_intensity_median", "lidar_intensity_maximum"
#: Least and greatest median and maximum of a sweep, for bundles that do not state theirs: nuScenes' with room
TRAINED: Final = {MEDIAN: (2.0, 60.0), MAXIMUM: (100.0, 255.0)}
TYPICAL_MEDIAN: Final = 12.0  #: nuScenes'; other scales are brought to it
FEWEST_POINTS: Final = 100  #: Fewer say nothing
#: A mean above this is not on the scale 0 to 255 (nuScenes 20, KITTI 70): no intensity is better then
MOST_MEAN: Final = 128.0
_EVERY: Final = 7  #: Point that is looked at; no divisor of usual numbers of beams

Swept = TypeVar("Swept", LidarSweep, RadarSweep)


def recent(sweeps: Sequence[Swept], count: int, spacing_s: float = 0.0, oldest_s: float = OLDEST_S) -> list[Swept]:
    """Pick the newest sweep and those before it at a spacing, so that a sensor's rate makes no difference.

    A quarter less than the spacing is near enough: rates are not exact, and a slower sensor's sweeps are all taken.
    After a gap, what was measured before it is left out: moved over seconds, it would show objects that have gone.

    Args:
        sweeps: Newest first.
        count: Most that are taken.
        spacing_s: Time between these; 0 takes each.
        oldest_s: Time behind the newest beyond which none is taken.
    """
    kept: list[Swept] = []
    oldest_s = max(oldest_s, 2.5 * spacing_s * (count - 1))
    for sweep in sweeps:
        due = not kept or kept[-1].stamp_ns - sweep.stamp_ns >= 0.75e9 * spacing_s
        if len(kept) < count and due and sweeps[0].stamp_ns - sweep.stamp_ns <= oldest_s * 1e9:
            kept.append(sweep)
    return kept


class Levels(NamedTuple):
    """Intensity of a sweep's returns."""

    points: int  #: How many the sweep has
    median: float
    bright: float  #: What one in a hundred exceeds: a few retroreflectors beyond the scale say nothing
    maximum: float
    mean: float

    @classmethod
    def of(cls, points: Float32Array) -> "Levels":
        """Return the levels of (N, 5) points; organised clouds have (0, 0, 0) where nothing returned."""
        few = points[::_EVERY] if len(points) > _EVERY * FEWEST_POINTS else points
        seen = few[few[:, 0] != 0, 3]
        if not len(seen):
            return cls(len(points), 0.0, 0.0, 0.0, 0.0)
        places = len(seen) // 2, len(seen) * 99 // 100
        median, bright = np.partition(seen, places)[list(places)]
        return cls(len(points), float(median), float(bright), float(points[:, 3].max()), float(seen.mean()))

    def factor(self, trained: Ranges | None) -> float:
        """Return the factor that brings another scale to the one that was trained on; 1 where it is that.

        It is 0 where the values even so count something else, photons for example. Without `trained`, ranges by
        `MEDIAN` and `MAXIMUM`, the scale is left as it is.
        """
        if self.points < FEWEST_POINTS:
            return 1.0
        factor = self._rescaled(trained) if trained else 1.0
        # Counts that fall with distance keep a long tail: their mean stays high where the median is right.
        return factor if factor * self.mean <= MOST_MEAN else 0.0

    def _rescaled(self, trained: Ranges) -> float:
        # The maximum tells scale from content: in fog or on wet asphalt the median is low, and signs still shine.
        high = self.median > trained[MEDIAN][1] or self.bright > trained[MAXIMUM][1]
        low = self.maximum < trained[MAXIMUM][0] and self.median < TYPICAL_MEDIAN / 2
        return TYPICAL_MEDIAN / self.median if self.median > 0 and (high or low) else 1.0


def lidar_cloud(
    sweeps: Sequence[tuple[Float32Array, SE3, float]], min_range_m: float, trained: Ranges | None = None
) -> Float32Array:
    """Return the accumulated LiDAR sweeps.

    Args:
        sweeps: Per sweep (N, 5) float32 points in the sensor's frame (x, y, z in m, intensity 0-255, ring), the
            transform `now_SE3_sensor`, and the age in s; newest first.
        min_range_m: Returns nearer to their sensor than this are the vehicle itself, and are left out, as are points
            that are not finite.
        trained: Ranges of the intensity that the network was trained on; None takes the scale as it is.

    Returns:
        (M, 5) float32: x, y, z in `base_link`, intensity 0-1 after `Levels.factor`, age in s.
    """
    cloud = np.empty((sum(len(points) for points, _, _ in sweeps), 5), dtype=np.float32)
    filled = 0
    for points, now_SE3_sensor, age_s in sweeps:
        factor, square = np.float32(Levels.of(points).factor(trained)), np.float32(min_range_m**2)
        turn, move = (part.astype(np.float32) for part in (now_SE3_sensor.rotation, now_SE3_sensor.translation))
        filled = _append(points, turn, move, square, np.float32(age_s), factor, cloud, filled)
    return cloud[:filled]


@numba.njit(cache=True, nogil=True)
def _append(
    points: Float32Array,
    rotation: Float32Array,
    translation: Float32Array,
    min_square: np.float32,
    age_s: np.float32,
    factor: np.float32,
    cloud: Float32Array,
    filled: int,
) -> int:
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        square = x * x + y * y + z * z
        # Not-a-number fails every comparison.
        if not min_square < square < np.inf:
            continue
        for axis in range(3):
            turned = x * rotation[axis, 0] + y * rotation[axis, 1] + z * rotation[axis, 2]
            cloud[filled, axis] = turned + translation[axis]
        cloud[filled, 3] = min(points[i, 3] * factor, np.float32(255.0)) * np.float32(1 / 255)
        cloud[filled, 4] = age_s
        filled += 1
    return filled


def radar_cloud(sweeps: Sequence[tuple[AnyArray, SE3, float]]) -> Float32Array:
    """Return the accumulated radar sweeps of all radars, newest first.

    Args:
        sweeps: Per sweep its structured points (`RADAR_DTYPE`, sensor's frame), the transform `now_SE3_sensor`, and the
            age in s.

    Returns:
        (M, 6) float32: x, y in `base_link`, moved by v·age; RCS in dBsm; compensated velocity vx, vy in m/s; age in s.
    """
    # Structured arrays are concatenated field by field; their bytes are not.
    raw = np.frombuffer(b"".join(points.tobytes() for points, _, _ in sweeps), dtype=sweeps[0][0].dtype)
    number = np.repeat(np.arange(len(sweeps)), [len(points) for points, _, _ in sweeps])
    trusted = trusted_radar_points(raw)
    raw, number = raw[trusted], number[trusted]
    rotations = np.stack([pose.rotation for _, pose, _ in sweeps]).astype(np.float32)[number]
    translations = np.stack([pose.translation for _, pose, _ in sweeps]).astype(np.float32)[number]
    ages_s = np.array([age_s for _, _, age_s in sweeps], dtype=np.float32)[number]
    xyz = np.stack([raw["x"], raw["y"], raw["z"]], axis=1, dtype=np.float32)
    speed = np.stack([raw["vx_comp"], raw["vy_comp"]], axis=1, dtype=np.float32)
    velocity = np.einsum("nij,nj->ni", rotations[:, :2, :2], speed)
    points = np.empty((len(raw), 6), dtype=np.float32)
    points[:, :2] = np.einsum("nij,nj->ni", rotations[:, :2], xyz) + translations[:, :2] + velocity * ages_s[:, None]
    points[:, 2] = raw["rcs"]
    points[:, 3:5] = velocity
    points[:, 5] = ages_s
    points = points[np.isfinite(points).all(axis=1)]
    newest_first: Float32Array = points[np.argsort(points[:, 5], kind="stable")]
    return newest_first


@numba.njit(cache=True, nogil=True)
def _cells(
    points: Float32Array, half_range_m: float, side: int, z_m: tuple[float, float], cells: Int32Array, seen: BoolArray
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
    """Return pillars of accumulated sweeps.

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
    """Return the radar pillars on the common grid.

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
    lidar_cloud([(np.ones((1, 5), dtype=np.float32), SE3.identity(), 0.0)], 0.0)
    grid = GridSpec(size=4)
    lidar_pillars(np.zeros((1, 5), dtype=np.float32), grid, LidarSpec(pillar_grid=4, pillars=1, points_per_pillar=2))
    radar_pillars(np.zeros((1, 6), dtype=np.float32), grid, RadarSpec(pillars=1, points_per_pillar=2))
