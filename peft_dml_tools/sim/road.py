# SPDX-License-Identifier: Apache-2.0
"""The road: a curved centre line, and positions along (station) and across (offset, positive left) it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from peft_dml_ros.core.typing import BoolArray, FloatArray
from peft_dml_tools.sim.domain import STREETS, Domain

KERB_M: Final = 0.15
CYCLE_STRIP_M: Final = 1.6
PARKING_ALONG_M: Final = 2.5
#: Depth of a parking strip where vehicles stand along the road, and where some stand across it
PARKING_ACROSS_M: Final = 5.1

PAVEMENT_M: Final = 3.6
CROSSING_HALF_M: Final = 7.5  #: Half width of a street that crosses
CROSSING_LANE_M: Final = 3.5
CROSSING_ENDS_M: Final = 95.0  #: Streets that cross end this far from the road's centre line
LEAD_M: Final = 140  #: The road begins this far before the ego's start and goes on this far after its end


@dataclass(frozen=True, slots=True)
class Crossing:
    """A straight street that crosses the road."""

    station_m: float  #: Station where the centre lines meet
    skew_rad: float  #: Its angle from the perpendicular, 0 for a right angle; positive leans towards growing stations
    origin_m: FloatArray  #: (2,) where the centre lines meet, world frame
    heading_rad: float  #: Direction in which it leaves the road on the left

    @property
    def axes(self) -> FloatArray:
        """(2, 2) unit vectors: along the street, and to its right (which is about the road's direction)."""
        cos, sin = np.cos(self.heading_rad), np.sin(self.heading_rad)
        return np.array([[cos, sin], [sin, -cos]])

    def locate(self, along_m: npt.ArrayLike, right_m: npt.ArrayLike) -> FloatArray:
        """Return world positions (..., 2) of points on the street."""
        along, right = np.broadcast_arrays(np.asarray(along_m, np.float64), np.asarray(right_m, np.float64))
        position: FloatArray = self.origin_m + np.stack([along, right], axis=-1) @ self.axes
        return position

    def reach_m(self, offset_m: float) -> float:
        """Return how far from `station_m` the street still covers the road out to an offset."""
        return float(CROSSING_HALF_M / np.cos(self.skew_rad) + abs(offset_m * np.tan(self.skew_rad)))

    def clear_m(self, offset_m: float) -> float:
        """Return the distance along the street from which its whole width lies beyond an offset of the road."""
        return float((offset_m + CROSSING_HALF_M * abs(np.sin(self.skew_rad))) / np.cos(self.skew_rad))


@dataclass(frozen=True, slots=True)
class Road:
    """A road with the same cross-section everywhere: lanes, cycle strip, parking strip, kerb, pavement."""

    stations_m: FloatArray  #: (N,) float64, even steps
    points_m: FloatArray  #: (N, 2) float64 centre line, world frame
    headings_rad: FloatArray  #: (N,) float64, direction of growing station
    lanes: int  #: Lanes in each direction
    hand: int  #: +1 where traffic keeps right, -1 where it keeps left
    crossings: tuple[Crossing, ...]  #: Streets that cross, by station
    lane_m: float = 3.5  #: Width of a lane
    parking_m: float = PARKING_ALONG_M  #: Depth of the parking strips

    @classmethod
    def make(
        cls, length_m: float, rng: np.random.Generator, domain: Domain, *, fast: bool = False, corner: bool = False
    ) -> "Road":
        """Draw a road with stations from -140 m to `length_m` + 140 m; the ego starts near station 0.

        Args:
            length_m: What the ego drives.
            rng: Source of everything random.
            domain: What streets are like there, and the side of the traffic.
            fast: Two or three lanes, wide curves, no crossings.
            corner: With at least one crossing, the first at a right angle.
        """
        style = STREETS[domain.streets]
        stations = np.arange(-float(LEAD_M), length_m + LEAD_M + 1, 1.0)
        bend = float(rng.choice(style.bends_per_m, p=style.bend_shares))
        wave = float(rng.uniform(90.0, 260.0))
        bend = min(bend, 1 / 350 if fast else 1.0)
        curvature = bend * np.sin(2 * np.pi * stations / wave + rng.uniform(0, 2 * np.pi))
        headings = rng.uniform(-np.pi, np.pi) + np.cumsum(curvature)
        points = np.cumsum(np.stack([np.cos(headings), np.sin(headings)], axis=1), axis=0)
        points -= points[LEAD_M]
        meets: list[float] = []
        if not fast and (corner or rng.random() < 0.75):
            meets.append(float(rng.integers(25, 70)))
            if rng.random() < 0.5:
                meets.append(meets[0] + float(rng.integers(70, 110)))
        skews = rng.uniform(*style.skews_rad, 2) * rng.choice([-1, 0, 1], 2, p=[0.35, 0.3, 0.35])
        skews[0] *= not corner
        crossings = []
        for station, skew in zip(meets, skews, strict=False):
            if station > stations[-1]:  # the second one, on the short road of a slow drive
                continue
            at = int(np.searchsorted(stations, station))
            crossings.append(Crossing(station, float(skew), points[at], float(headings[at] + np.pi / 2 - skew)))
        return cls(
            stations,
            points,
            headings,
            int(rng.integers(*style.lanes)) + fast,
            int(rng.choice([1, -1], p=[domain.right_share, 1 - domain.right_share])),
            tuple(crossings),
            float(rng.uniform(*style.lane_m)),
            PARKING_ACROSS_M if not fast and rng.random() < style.across_share else PARKING_ALONG_M,
        )

    @property
    def carriageway_m(self) -> float:
        """Offset of the outer lane's edge."""
        return self.lanes * self.lane_m

    @property
    def kerb_m(self) -> float:
        """Offset of the kerb."""
        return self.carriageway_m + CYCLE_STRIP_M + self.parking_m

    @property
    def frontage_m(self) -> float:
        """Offset of the pavement's far edge."""
        return self.kerb_m + PAVEMENT_M

    def lane_offset_m(self, lane: int, direction: int) -> float:
        """Return the offset of a lane's centre; lane 0 is next to the centre line, direction -1 against the station."""
        return -self.hand * direction * (lane + 0.5) * self.lane_m

    def locate(self, station_m: npt.ArrayLike, offset_m: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return world positions (..., 2) and headings (...) of points on the road."""
        s = np.asarray(station_m, dtype=np.float64)
        d = np.asarray(offset_m, dtype=np.float64)
        x = np.interp(s, self.stations_m, self.points_m[:, 0])
        y = np.interp(s, self.stations_m, self.points_m[:, 1])
        heading = np.asarray(np.interp(s, self.stations_m, self.headings_rad), dtype=np.float64)
        position = np.stack([x - d * np.sin(heading), y + d * np.cos(heading)], axis=-1)
        return position, heading

    def near_crossing(
        self, station_m: npt.ArrayLike, margin_m: float = 0.0, offset_m: npt.ArrayLike = 0.0
    ) -> BoolArray:
        """Return whether points of the road lie on a street that crosses, grown by a margin."""
        position, _ = self.locate(*np.broadcast_arrays(station_m, offset_m))
        near = np.zeros(position.shape[:-1], dtype=np.bool_)
        for crossing in self.crossings:
            near |= np.abs((position - crossing.origin_m) @ crossing.axes[1]) < CROSSING_HALF_M + margin_m
        return near

    def stop_lines_m(self, direction: int = 1) -> list[float]:
        """Return where traffic halts before each crossing, as stations of its own direction of travel."""
        return [direction * c.station_m - c.reach_m(self.carriageway_m) - 4.5 for c in self.crossings]
