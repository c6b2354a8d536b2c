# SPDX-License-Identifier: Apache-2.0
"""Textures from position alone: asphalt, grass, paving, road markings, windows, clouds."""

from typing import Final, NamedTuple

import numba
import numpy as np

from peft_dml_tools.sim.mesh import Surface
from peft_dml_tools.sim.road import CYCLE_STRIP_M, PARKING_ACROSS_M, Road

ROAD: Final = int(Surface.ROAD)
PAVEMENT: Final = int(Surface.PAVEMENT)
GRASS: Final = int(Surface.GRASS)
FACADE: Final = int(Surface.FACADE)
FOLIAGE: Final = int(Surface.FOLIAGE)
GLASS: Final = int(Surface.GLASS)
MOST_CROSSINGS: Final = 4


class RoadPaint(NamedTuple):
    """Where a road is painted."""

    lanes: int  #: Lanes in each direction
    lane_m: float  #: Width of a lane
    carriageway_m: float  #: Offset of the outer lane's edge
    strip_m: float  #: Offset of the cycle strip's outer edge
    bay_m: float  #: Width of a parking bay
    #: Station of each street that crosses, and how far it reaches from there; infinite where there are fewer
    crossings_m: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, road: Road) -> "RoadPaint":
        """Return the markings of a road."""
        # Padded: the kernels are compiled for each number of them.
        edge = road.carriageway_m
        padding = ((np.inf, 0.0),) * (MOST_CROSSINGS - len(road.crossings))
        crossings = (*((c.station_m, c.reach_m(edge)) for c in road.crossings), *padding)
        # Numbers of the road are handed over: compiled code in the cache would keep the old ones.
        bay = 6.5 if road.parking_m < PARKING_ACROSS_M else 2.6
        return cls(road.lanes, road.lane_m, edge, edge + CYCLE_STRIP_M, bay, crossings)


# Its name in numba's caches of earlier versions, which are read before they are found to be old.
globals()["Paint"] = RoadPaint


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _hash(i, j):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return a number in [0, 1), the same for the same cell."""
    mixed = (i * 73856093) ^ (j * 19349663)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return ((mixed ^ (mixed >> 16)) & 0xFFFF) / 65536.0


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _rest(x, period):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return what remains of x: `%` would call the slow exact remainder of the C library."""
    return x - period * np.floor(x / period)


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _smooth(x, y):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return value noise in [0, 1)."""
    fx, fy = np.floor(x), np.floor(y)
    i, j = int(fx), int(fy)
    a, b = x - fx, y - fy
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    low = _hash(i, j) * (1 - a) + _hash(i + 1, j) * a
    high = _hash(i, j + 1) * (1 - a) + _hash(i + 1, j + 1) * a
    return low * (1 - b) + high * b


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def grain(surface, p):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return a factor on the brightness of what is uneven: coarse asphalt, grass, leaves."""
    if surface == ROAD:
        fine = _hash(int(np.floor(p[0] / 0.06)), int(np.floor(p[1] / 0.06)))
        return 0.90 + 0.10 * _smooth(p[0] / 1.3, p[1] / 1.3) + 0.10 * fine
    if surface == GRASS:
        fine = _hash(int(np.floor(p[0] / 0.12)), int(np.floor(p[1] / 0.12)))
        return 0.80 + 0.25 * _smooth(p[0] / 0.9, p[1] / 0.9) + 0.16 * fine
    return 0.72 + 0.55 * _hash(int(np.floor(p[0] / 0.22 + p[2] / 0.31)), int(np.floor(p[1] / 0.22 - p[2] / 0.17)))


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def joint(s, d):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return a factor on the brightness of paving: slabs of their own shade, and dark joints between."""
    if _rest(s, 1.5) < 0.06 or _rest(d, 1.5) < 0.06:
        return 0.75
    return 0.96 + 0.08 * _hash(int(np.floor(s / 1.5)), int(np.floor(d / 1.5)))


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def marking(s, d, paint):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return 0 for bare road, 1 for white, 2 for yellow paint, at a station and a distance from the centre line."""
    strip = paint.strip_m
    white = abs(d - paint.carriageway_m) < 0.08 or abs(d - strip) < 0.06 or (d > strip and _rest(s, paint.bay_m) < 0.12)
    for lane in range(1, paint.lanes):
        white |= abs(d - lane * paint.lane_m) < 0.08 and _rest(s, 9.0) < 3.0
    for station, reach in paint.crossings_m:
        away = abs(s - station) - reach
        white |= 1.0 < away < 3.6 and _rest(d, 1.2) < 0.6
        white |= 4.4 < away < 4.8 and d < paint.carriageway_m
    if white:
        return 1
    return 2 if abs(d - 0.15) < 0.07 else 0


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def is_window(p, n):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return whether a point of a wall is one of its windows."""
    if abs(n[2]) >= 0.5:
        return False
    level = _rest(p[2], 3.2)
    return 1.0 < level < 2.5 and _rest(p[0] * n[1] - p[1] * n[0], 2.6) > 0.9


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def clouds(x, y, z, cover):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return the opacity of the clouds in a direction; thinner towards the horizon, where they lie in haze."""
    if z < 0.04 or cover <= 0.0:
        return 0.0
    u, v = 1.6 * x / (z + 0.12), 1.6 * y / (z + 0.12)
    shape = 0.62 * _smooth(u, v) + 0.28 * _smooth(2.3 * u + 7, 2.3 * v) + 0.10 * _smooth(5.1 * u, 5.1 * v + 3)
    dense = min(max((shape - 1.0 + cover) * 4.0, 0.0), 1.0)
    return 0.85 * dense * min((z - 0.04) * 6.0, 1.0)
