# SPDX-License-Identifier: Apache-2.0
"""What is not annotated and where it stands: ground, buildings, vegetation, walls, fences, poles, furniture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from peft_dml_tools.sim import obstacles
from peft_dml_tools.sim.ground import ground
from peft_dml_tools.sim.mesh import Mesh, merge
from peft_dml_tools.sim.road import KERB_M, Road
from peft_dml_tools.sim.terrain import Terrain


@dataclass(frozen=True, slots=True)
class OpenGround:
    """Open ground along the pavement, kept free of buildings."""

    side: int  #: +1 left of the road, -1 right
    start_m: float  #: First station
    end_m: float  #: Last station


@dataclass(slots=True)
class _Site:
    """The scenery while it is being placed."""

    road: Road
    terrain: Terrain
    rng: np.random.Generator
    lots: Sequence[OpenGround]
    parts: list[Mesh] = field(default_factory=list)

    def stand(self, mesh: Mesh, station_m: float, offset_m: float, turn_rad: float = 0.0, base_m: float = 0.0) -> None:
        """Place a mesh on the ground, turned from the road's direction."""
        position, heading = self.road.locate(station_m, offset_m)
        z = float(self.terrain.height_m(position)) + base_m
        self.parts.append(mesh.moved((*position, z), float(heading) + turn_rad))

    def in_lot(self, side: int, start_m: float, end_m: float) -> bool:
        """Return whether a stretch of one side overlaps a lot."""
        return any(lot.side == side and lot.start_m < end_m and start_m < lot.end_m for lot in self.lots)

    def row(
        self, side: int, spacing_m: float, offset_m: float, make: Callable[[np.random.Generator], Mesh], base_m: float
    ) -> None:
        """Place things in a row along the road, each turned by any quarter."""
        rng, stations = self.rng, self.road.stations_m
        first, last = float(stations[0]) + 2, float(stations[-1]) - 2
        for s in np.arange(first + rng.uniform(0, spacing_m), last, spacing_m) + rng.uniform(-2, 2):
            offset = side * (offset_m + float(rng.uniform(0, 0.3)))
            if not self.road.near_crossing(s, 3.0, offset):
                self.stand(make(rng), s, offset, float(rng.integers(4)) * np.pi / 2, base_m)


def scenery(
    road: Road,
    rng: np.random.Generator,
    open_share: float,
    setback_m: tuple[float, float],
    lots: Sequence[OpenGround],
    terrain: Terrain,
) -> Mesh:
    """Return everything along the road.

    Args:
        road: The road.
        rng: Source of everything random.
        open_share: Share of the frontage without a building.
        setback_m: Range between pavement and buildings.
        lots: Ground to keep free.
        terrain: Height of the ground.
    """
    site = _Site(road, terrain, rng, lots, [ground(road, terrain)])
    for lot in lots:
        if rng.random() < 0.85:
            _enclose(site, lot)
    for side in (-1, 1):
        _frontage(site, side, open_share, setback_m)
        site.row(side, float(rng.uniform(9, 22)), road.kerb_m + 0.7, obstacles.tree, KERB_M)
        site.row(side, float(rng.uniform(12, 26)), road.frontage_m + 0.6, obstacles.furniture, 0.0)
        site.row(side, float(rng.uniform(12, 30)), road.kerb_m + 0.5, obstacles.furniture, KERB_M)
        _verge(site, side)
        for s in np.arange(road.stations_m[0] + rng.uniform(2, 32), road.stations_m[-1], 30.0):
            offset = side * (road.kerb_m + 0.4)
            if not road.near_crossing(s, 1.0, offset):
                site.stand(obstacles.lamp_post(), s, offset, 0.0 if side < 0 else np.pi, KERB_M)
    return merge(site.parts)


def _enclose(site: _Site, lot: OpenGround) -> None:
    """Place a hedge, a wall or a fence between the pavement and a lot, with a gap to drive in."""
    rng = site.rng
    make = obstacles.hedge if rng.random() < 0.7 else obstacles.fence
    piece, gap = make(rng, 3.1), float(rng.uniform(lot.start_m, lot.end_m))
    for s in np.arange(lot.start_m, lot.end_m, 3.0) + 1.5:
        if abs(s - gap) > 4.0:
            site.stand(piece, s, lot.side * (site.road.frontage_m + 0.6))


def _verge(site: _Site, side: int) -> None:
    """Place shrubs, groves, hedges, garden walls and fences between the pavement and the houses, and behind them."""
    rng, road = site.rng, site.road
    s, last = float(road.stations_m[0]) + 5.0, float(road.stations_m[-1]) - 5.0
    while s < last:
        kind = str(rng.choice(["nothing", "line", "shrubs", "grove"], p=[0.4, 0.25, 0.22, 0.13]))
        length = float(rng.uniform(8, 24))
        if kind == "line" and not site.in_lot(side, s, s + length):
            offset = side * (road.frontage_m + float(rng.uniform(0.5, 2.0)))
            piece = (obstacles.hedge if rng.random() < 0.6 else obstacles.fence)(rng, 4.1)
            for at in np.arange(s, s + length, 4.0):
                if not road.near_crossing(at, 2.5, offset):
                    site.stand(piece, at, offset)
        elif kind in {"shrubs", "grove"} and not site.in_lot(side, s, s + length):
            make, deep = (obstacles.shrub, 5.0) if kind == "shrubs" else (obstacles.tree, 26.0)
            for _ in range(int(rng.integers(3, 8))):
                at, offset = s + float(rng.uniform(0, length)), side * (road.frontage_m + float(rng.uniform(1.0, deep)))
                if not road.near_crossing(at, 2.0, offset):
                    site.stand(make(rng), at, offset, float(rng.uniform(-np.pi, np.pi)))
        s += length


def _frontage(site: _Site, side: int, open_share: float, setback_m: tuple[float, float]) -> None:
    """Place two rows of buildings with gaps on one side; streets that cross stay free."""
    rng, road = site.rng, site.road
    first, last = float(road.stations_m[0]) + 2, float(road.stations_m[-1]) - 2
    for row, setback in enumerate((rng.uniform(*setback_m), rng.uniform(30.0, 42.0))):
        s = first
        while s < last:
            length, depth = float(rng.uniform(9, 28)), float(rng.uniform(8, 16))
            begin, middle = s, s + length / 2
            s += length + float(rng.uniform(0.5, 7.0))
            bare = rng.random() < (open_share if row == 0 else 0.7)
            offset = side * (road.frontage_m + setback + float(rng.uniform(0, 2.0)) + depth / 2)
            taken = row == 0 and site.in_lot(side, begin, s)
            if not (taken or bare or road.near_crossing(middle, np.hypot(length, depth) / 2 + 1.5, offset)):
                site.stand(obstacles.building(rng, length, depth), middle, offset, float(rng.normal(0, 0.03)))
