# SPDX-License-Identifier: Apache-2.0
"""What is not annotated: ground, kerbs, buildings, trees, poles, street furniture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from peft_dml_ros.core.typing import BoolArray, FloatArray
from peft_dml_tools.sim.mesh import Material, Mesh, Surface, box, column, ellipsoid, merge
from peft_dml_tools.sim.road import KERB_M, Road

ASPHALT = Material((0.23, 0.23, 0.24), 0.13, Surface.ROAD)
CROSS_ASPHALT = Material((0.23, 0.23, 0.24), 0.13, Surface.CROSSING)
PAVING = Material((0.50, 0.49, 0.46), 0.25, Surface.PAVEMENT)
KERBSTONE = Material((0.55, 0.55, 0.53), 0.3)
LAWN = Material((0.22, 0.33, 0.12), 0.35, Surface.GRASS)
BARK = Material((0.28, 0.20, 0.14), 0.3)
STEEL = Material((0.42, 0.43, 0.45), 0.4)
FACADES = ((0.62, 0.55, 0.47), (0.50, 0.30, 0.24), (0.70, 0.69, 0.66), (0.42, 0.44, 0.48), (0.75, 0.66, 0.52))
FAR_M = 110.0


def ground(road: Road) -> Mesh:
    """Road, pavements, verges and kerbs as strips of quads, with station and offset as texture coordinates."""
    edges = np.arange(road.stations_m[0], road.stations_m[-1] + 0.1, 2.0)
    crossing = road.near_crossing((edges[:-1] + edges[1:]) / 2)
    bands = [
        (-FAR_M, -road.frontage_m, KERB_M, LAWN),
        (-road.frontage_m, -road.kerb_m, KERB_M, PAVING),
        (-road.kerb_m, road.kerb_m, 0.0, ASPHALT),
        (road.kerb_m, road.frontage_m, KERB_M, PAVING),
        (road.frontage_m, FAR_M, KERB_M, LAWN),
    ]
    parts = []
    for low, high, height, material in bands:
        parts.append(_strip(road, edges, ~crossing, (low, height), (high, height), material))
        parts.append(_strip(road, edges, crossing, (low, 0.0), (high, 0.0), CROSS_ASPHALT))
    for side in (-1, 1):
        near, far = (side * road.kerb_m, 0.0), (side * road.kerb_m, KERB_M)
        first, second = (far, near) if side < 0 else (near, far)
        parts.append(_strip(road, edges, ~crossing, first, second, KERBSTONE))
    return merge(parts)


def _strip(
    road: Road,
    edges: FloatArray,
    take: BoolArray,
    low: tuple[float, float],
    high: tuple[float, float],
    material: Material,
) -> Mesh:
    """Quads between two (offset, height) lines over the taken cells."""
    cells = np.flatnonzero(take)
    s = np.stack([edges[cells], edges[cells + 1], edges[cells + 1], edges[cells]], axis=1)
    d = np.tile([low[0], low[0], high[0], high[0]], (len(cells), 1))
    z = np.tile([low[1], low[1], high[1], high[1]], (len(cells), 1))
    position, _ = road.locate(s, d)
    vertices = np.concatenate([position, z[..., None]], axis=-1).reshape(-1, 3)
    start = 4 * np.arange(len(cells))[:, None]
    faces = np.concatenate([start + np.array([0, 1, 2]), start + np.array([0, 2, 3])])
    return Mesh.make(vertices, faces, material, np.stack([s, d], axis=-1).reshape(-1, 2))


def _building(rng: np.random.Generator, length: float, depth: float) -> Mesh:
    height = float(rng.choice([rng.uniform(4, 9), rng.uniform(9, 25)], p=[0.55, 0.45]))
    wall = Material(FACADES[int(rng.integers(len(FACADES)))], float(rng.uniform(0.2, 0.5)), Surface.FACADE)
    parts = [box((length, depth, height), wall)]
    if rng.random() < 0.4:
        parts.append(box((length + 0.5, depth + 0.5, 0.5), Material((0.35, 0.3, 0.28), 0.25), (0, 0, height)))
    return merge(parts)


def _tree(rng: np.random.Generator) -> Mesh:
    height = float(rng.uniform(4.5, 10.0))
    leaf = Material((float(rng.uniform(0.1, 0.2)), float(rng.uniform(0.24, 0.36)), 0.09), 0.4, Surface.FOLIAGE)
    trunk = column([0.18, 0.12], [0.0, 0.75 * height], BARK, 6)
    crowns = []
    for _ in range(int(rng.integers(2, 5))):
        radius = float(rng.uniform(0.9, 1.7))
        at = (*rng.uniform(-0.9, 0.9, 2), height * float(rng.uniform(0.55, 0.85)))
        crowns.append(ellipsoid((radius, radius, radius * 0.8), at, leaf, 7))
    return merge([trunk, *crowns])


def _furniture(rng: np.random.Generator) -> Mesh:
    """Bins, bollards, boxes, signs, bushes: the size of people, and not people."""
    kind = rng.choice(["bin", "bollard", "cabinet", "sign", "bush", "shelter"], p=[0.2, 0.2, 0.15, 0.25, 0.17, 0.03])
    if kind == "bin":
        return column([0.25, 0.28], [0.0, float(rng.uniform(0.8, 1.1))], Material((0.15, 0.3, 0.18), 0.2))
    if kind == "bollard":
        return column([0.09, 0.08], [0.0, float(rng.uniform(0.7, 1.1))], STEEL, 6)
    if kind == "cabinet":
        return box((0.9, 0.4, float(rng.uniform(1.0, 1.6))), Material((0.5, 0.52, 0.48), 0.4))
    if kind == "sign":
        board = box((0.03, 0.65, 0.65), Material((0.75, 0.15, 0.12), 1.0), (0.06, 0, 2.2))
        return merge([column([0.04, 0.04], [0.0, 2.9], STEEL, 5), board])
    if kind == "bush":
        leaf = Material((0.13, 0.28, 0.10), 0.4, Surface.FOLIAGE)
        return ellipsoid((float(rng.uniform(0.5, 1.0)), 0.6, float(rng.uniform(0.5, 0.9))), (0, 0, 0.45), leaf)
    pane = Material((0.35, 0.42, 0.45), 0.1, Surface.GLASS)
    return merge([box((3.6, 0.05, 2.2), pane, (0, 0.7, 0)), box((3.8, 1.5, 0.1), STEEL, (0, 0, 2.3))])


def _lamp_post() -> Mesh:
    return merge([column([0.1, 0.06], [0.0, 7.5], STEEL, 6), box((0.3, 1.8, 0.12), STEEL, (0, 0.8, 7.4))])


@dataclass(frozen=True, slots=True)
class Lot:
    """Open ground beside the pavement, kept free of buildings.

    Attributes:
        side: +1 left of the road, -1 right.
        start_m: First station.
        end_m: Last station.
    """

    side: int
    start_m: float
    end_m: float


def _hedge(road: Road, rng: np.random.Generator, lot: Lot) -> list[Mesh]:
    """A hedge or a wall between the pavement and a lot, with a gap to drive in."""
    leaf = Material((0.14, 0.27, 0.10), 0.4, Surface.FOLIAGE)
    material = leaf if rng.random() < 0.7 else Material((0.5, 0.47, 0.43), 0.3)
    height, gap = float(rng.uniform(0.9, 1.7)), float(rng.uniform(lot.start_m, lot.end_m))
    parts = []
    for s in np.arange(lot.start_m, lot.end_m, 3.0):
        if abs(s + 1.5 - gap) > 4.0:
            position, heading = road.locate(s + 1.5, lot.side * (road.frontage_m + 0.6))
            parts.append(box((3.1, 0.6, height), material, (0, 0, 0)).moved((*position, KERB_M), float(heading)))
    return parts


def scenery(road: Road, rng: np.random.Generator, open_share: float, lots: Sequence[Lot]) -> Mesh:
    """Everything beside the road.

    Args:
        road: The road.
        rng: Source of everything random.
        open_share: Share of the frontage without a building.
        lots: Ground to keep free.
    """
    parts = [ground(road)]
    for lot in lots:
        if rng.random() < 0.85:
            parts += _hedge(road, rng, lot)
    first, last = float(road.stations_m[0]) + 2, float(road.stations_m[-1]) - 2
    for side in (-1, 1):
        parts += _frontage(road, rng, side, open_share, (first, last), lots)
        for spacing, offset, make in (
            (float(rng.uniform(9, 22)), road.kerb_m + 0.7, _tree),
            (float(rng.uniform(14, 30)), road.frontage_m + 0.6, _furniture),
            (float(rng.uniform(14, 34)), road.kerb_m + 0.5, _furniture),
        ):
            for s in np.arange(first + rng.uniform(0, spacing), last, spacing) + rng.uniform(-2, 2):
                if not road.near_crossing(s, 3.0):
                    position, heading = road.locate(s, side * offset)
                    parts.append(make(rng).moved((*position, KERB_M), float(heading) + rng.integers(4) * np.pi / 2))
        for s in np.arange(first + rng.uniform(0, 30), last, 30.0):
            if not road.near_crossing(s, 1.0):
                position, heading = road.locate(s, side * (road.kerb_m + 0.4))
                parts.append(_lamp_post().moved((*position, KERB_M), float(heading) + (0 if side < 0 else np.pi)))
    return merge(parts)


def _frontage(
    road: Road,
    rng: np.random.Generator,
    side: int,
    open_share: float,
    span_m: tuple[float, float],
    lots: Sequence[Lot],
) -> list[Mesh]:
    """Two rows of buildings with gaps on one side; crossing streets stay free."""
    parts = []
    for row, setback in enumerate((rng.uniform(1.0, 6.0), rng.uniform(30.0, 42.0))):
        s = span_m[0]
        while s < span_m[1]:
            length, depth = float(rng.uniform(9, 28)), float(rng.uniform(8, 16))
            middle = s + length / 2
            s += length + float(rng.uniform(0.5, 7.0))
            taken = any(a.side == side and a.start_m < s and middle - length / 2 < a.end_m for a in lots) and row == 0
            bare = rng.random() < (open_share if row == 0 else 0.7)
            if taken or bare or road.near_crossing(middle, length / 2 + 3.5):
                continue
            inset = float(rng.uniform(0, 2.0))
            position, heading = road.locate(middle, side * (road.frontage_m + setback + inset + depth / 2))
            parts.append(_building(rng, length, depth).moved((*position, 0.0), float(heading)))
    return parts
