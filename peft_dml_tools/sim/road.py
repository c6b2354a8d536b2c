# SPDX-License-Identifier: Apache-2.0
"""The road: a curved centre line, and positions along (station) and across (offset, positive left) it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from peft_dml_ros.core.typing import BoolArray, FloatArray

KERB_M = 0.15
LANE_M = 3.5
CYCLE_STRIP_M = 1.6
PARKING_M = 2.5
PAVEMENT_M = 3.6
CROSSING_HALF_M = 7.5
"""Half width of a street that crosses."""


@dataclass(frozen=True, slots=True)
class Road:
    """A road with the same cross-section everywhere: lanes, cycle strip, parking strip, kerb, pavement.

    Attributes:
        stations_m: (N,) float64, even steps.
        points_m: (N, 2) float64 centre line, world frame.
        headings_rad: (N,) float64, direction of growing station.
        lanes: Lanes in each direction.
        hand: +1 where traffic keeps right, -1 where it keeps left.
        crossings_m: Stations of streets that cross at a right angle.
    """

    stations_m: FloatArray
    points_m: FloatArray
    headings_rad: FloatArray
    lanes: int
    hand: int
    crossings_m: tuple[float, ...]

    @classmethod
    def make(cls, length_m: float, rng: np.random.Generator, *, fast: bool = False, corner: bool = False) -> Road:
        """A random road with stations from -140 m to `length_m` + 140 m; the ego starts near station 0.

        Args:
            length_m: What the ego drives.
            rng: Source of everything random.
            fast: Two or three lanes, wide curves, no crossings.
            corner: With at least one crossing.
        """
        stations = np.arange(-140.0, length_m + 141.0, 1.0)
        amplitude = float(rng.choice([0.0, 1 / 400, 1 / 180, 1 / 110], p=[0.2, 0.3, 0.3, 0.2]))
        if fast:
            amplitude = min(amplitude, 1 / 350)
        wave = float(rng.uniform(90.0, 260.0))
        curvature = amplitude * np.sin(2 * np.pi * stations / wave + rng.uniform(0, 2 * np.pi))
        headings = rng.uniform(-np.pi, np.pi) + np.cumsum(curvature)
        steps = np.stack([np.cos(headings), np.sin(headings)], axis=1)
        points = np.cumsum(steps, axis=0)
        points -= points[140]
        crossings: list[float] = []
        if not fast and (corner or rng.random() < 0.75):
            crossings.append(float(rng.uniform(25.0, 70.0)))
            if rng.random() < 0.5:
                crossings.append(crossings[0] + float(rng.uniform(70.0, 110.0)))
        lanes, hand = int(rng.integers(1, 3)) + fast, int(rng.choice([1, -1], p=[0.65, 0.35]))
        return cls(stations, points, headings, lanes, hand, tuple(crossings))

    @property
    def carriageway_m(self) -> float:
        """Offset of the outer lane's edge."""
        return self.lanes * LANE_M

    @property
    def kerb_m(self) -> float:
        """Offset of the kerb."""
        return self.carriageway_m + CYCLE_STRIP_M + PARKING_M

    @property
    def frontage_m(self) -> float:
        """Offset of the pavement's far edge."""
        return self.kerb_m + PAVEMENT_M

    def lane_offset_m(self, lane: int, direction: int) -> float:
        """Offset of a lane's centre; lane 0 is next to the centre line, direction +1 goes with the station."""
        return -self.hand * direction * (lane + 0.5) * LANE_M

    def locate(self, station_m: npt.ArrayLike, offset_m: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """World positions (..., 2) and headings (...) of points on the road."""
        s = np.asarray(station_m, dtype=np.float64)
        d = np.asarray(offset_m, dtype=np.float64)
        x = np.interp(s, self.stations_m, self.points_m[:, 0])
        y = np.interp(s, self.stations_m, self.points_m[:, 1])
        heading = np.asarray(np.interp(s, self.stations_m, self.headings_rad), dtype=np.float64)
        position = np.stack([x - d * np.sin(heading), y + d * np.cos(heading)], axis=-1)
        return position, heading

    def near_crossing(self, station_m: npt.ArrayLike, margin_m: float = 0.0) -> BoolArray:
        """Whether stations lie on a street that crosses, grown by a margin."""
        s = np.asarray(station_m, dtype=np.float64)
        near = np.zeros(s.shape, dtype=np.bool_)
        for crossing in self.crossings_m:
            near |= np.abs(s - crossing) < CROSSING_HALF_M + margin_m
        return near
