# SPDX-License-Identifier: Apache-2.0
"""The ground as a mesh: road, kerbs, pavements and verges in strips along the road, and the streets that cross it."""

import itertools
from typing import Final

import numpy as np

from peft_dml_ros.core.typing import BoolArray, FloatArray
from peft_dml_tools.sim.mesh import Material, Mesh, Surface, merge
from peft_dml_tools.sim.road import CROSSING_ENDS_M, CROSSING_HALF_M, KERB_M, Crossing, Road
from peft_dml_tools.sim.terrain import Terrain

ASPHALT: Final = Material((0.23, 0.23, 0.24), 0.13, Surface.ROAD)
CROSS_ASPHALT: Final = Material((0.23, 0.23, 0.24), 0.13, Surface.CROSSING)
PAVING: Final = Material((0.50, 0.49, 0.46), 0.25, Surface.PAVEMENT)
KERBSTONE: Final = Material((0.55, 0.55, 0.53), 0.3)
LAWN: Final = Material((0.22, 0.33, 0.12), 0.35, Surface.GRASS)

CELL_M: Final = 4.0
FINE_CELL_M: Final = 1.0
#: Offsets between the cells of a verge, beyond the pavement; the hills need them this fine only where things stand
VERGE_EDGES_M: Final = (1.0, 7.0, 13.0, 19.0, 26.0, 34.0, 44.0, 60.0, 80.0, 100.0)

LAWN_Z_M: Final = -0.03  #: Verges lie a little below the streets that cross, which are laid upon them


def ground(road: Road, terrain: Terrain) -> Mesh:
    """Return all of the ground; texture coordinates of road and pavement are station and offset."""
    edges = np.arange(road.stations_m[0], road.stations_m[-1] + 0.1, CELL_M)
    fine, paved = edges, edges
    for crossing in road.crossings:
        reach, half = crossing.reach_m(road.frontage_m) + 2.0, crossing.reach_m(road.kerb_m)
        fine = np.union1d(fine, crossing.station_m + np.arange(-reach, reach, FINE_CELL_M))
        paved = np.union1d(paved, [crossing.station_m - half, crossing.station_m + half])
    parts = [_crossing_street(crossing, terrain) for crossing in road.crossings]
    on_crossing = np.zeros(len(paved) - 1, np.bool_)
    for crossing in road.crossings:
        on_crossing |= np.abs(_middles(paved) - crossing.station_m) < crossing.reach_m(road.kerb_m)
    lines = np.linspace(-road.kerb_m, road.kerb_m, 2 * int(np.ceil(road.kerb_m / 5.0)) + 1)
    for low, high in itertools.pairwise(lines):
        parts.append(_strip(road, terrain, paved, ~on_crossing, (low, 0.0), (high, 0.0), ASPHALT))
        parts.append(_strip(road, terrain, paved, on_crossing, (low, 0.0), (high, 0.0), CROSS_ASPHALT))
    for side in (-1, 1):
        free = ~road.near_crossing(_middles(fine), 0.0, side * (road.kerb_m + road.frontage_m) / 2)
        profile = [(road.kerb_m, 0.0), (road.kerb_m, KERB_M), (road.frontage_m, KERB_M)]
        profile.append((road.frontage_m + VERGE_EDGES_M[0], LAWN_Z_M))
        for (near, far), material in zip(itertools.pairwise(profile), (KERBSTONE, PAVING, LAWN), strict=True):
            parts.append(_band(road, terrain, fine, free, side, near, far, material))
        for offsets in itertools.pairwise(road.frontage_m + edge for edge in VERGE_EDGES_M):
            free = ~_covered(road, edges, side, offsets)
            ends = ((offsets[0], LAWN_Z_M), (offsets[1], LAWN_Z_M))
            parts.append(_band(road, terrain, edges, free, side, *ends, LAWN))
    return merge(parts)


def _middles(edges: FloatArray) -> FloatArray:
    return np.asarray((edges[:-1] + edges[1:]) / 2)


def _covered(road: Road, edges: FloatArray, side: int, offsets_m: tuple[float, float]) -> BoolArray:
    """Return which cells lie wholly under a street that crosses."""
    inside = np.ones(len(edges) - 1, np.bool_)
    for offset in offsets_m:
        near = road.near_crossing(edges, -0.5, side * offset)
        inside &= near[:-1] & near[1:]
    return inside


def _band(
    road: Road,
    terrain: Terrain,
    edges: FloatArray,
    take: BoolArray,
    side: int,
    near: tuple[float, float],
    far: tuple[float, float],
    material: Material,
) -> Mesh:
    """Return a strip of one side of the road between two lines of (distance, height), faces up or to the road."""
    inner, outer = (side * near[0], near[1]), (side * far[0], far[1])
    first, second = (inner, outer) if side > 0 else (outer, inner)
    return _strip(road, terrain, edges, take, first, second, material)


def _strip(
    road: Road,
    terrain: Terrain,
    edges: FloatArray,
    take: BoolArray,
    low: tuple[float, float],
    high: tuple[float, float],
    material: Material,
) -> Mesh:
    """Return quads between two lines of (offset, height above the ground) over the taken cells."""
    cells = np.flatnonzero(take)
    s = np.stack([edges[cells], edges[cells + 1], edges[cells + 1], edges[cells]], axis=1)
    d = np.tile([low[0], low[0], high[0], high[0]], (len(cells), 1))
    z = np.tile([low[1], low[1], high[1], high[1]], (len(cells), 1))
    position, _ = road.locate(s, d)
    return _quads(position, terrain.height_m(position) + z, material, np.stack([s, d], axis=-1))


def _crossing_street(crossing: Crossing, terrain: Terrain) -> Mesh:
    """Return the surface of a street that crosses, between the verges and the road's own surface in height."""
    along = np.linspace(-CROSSING_ENDS_M, CROSSING_ENDS_M, 39)
    right = np.linspace(-CROSSING_HALF_M, CROSSING_HALF_M, 4)
    a, r = (v.ravel() for v in np.meshgrid(np.arange(len(along) - 1), np.arange(len(right) - 1)))
    corners = np.stack([along[[a, a, a + 1, a + 1]], right[[r, r + 1, r + 1, r]]], axis=-1).transpose(1, 0, 2)
    position = crossing.locate(corners[..., 0], corners[..., 1])
    return _quads(position, terrain.height_m(position) + LAWN_Z_M / 2, CROSS_ASPHALT, None)


def _quads(position_m: FloatArray, z_m: FloatArray, material: Material, uv: FloatArray | None) -> Mesh:
    """Return a mesh of quads (K, 4, 2), counter-clockwise seen from above."""
    vertices = np.concatenate([position_m, z_m[..., None]], axis=-1).reshape(-1, 3)
    start = 4 * np.arange(len(position_m))[:, None]
    faces = np.concatenate([start + np.array([0, 1, 2]), start + np.array([0, 2, 3])])
    return Mesh.make(vertices, faces, material, None if uv is None else uv.reshape(-1, 2))
