# SPDX-License-Identifier: Apache-2.0
"""What kind of drive a seed makes, and the ego's way through it: along its lane, or around a corner."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from peft_dml_ros.core.typing import FloatArray
from peft_dml_tools.sim.road import CROSSING_LANE_M, Road

STREET_LEFT_M: Final = 80.0  #: A street that crosses is driven no further from the main road than this
_STEP_M: Final = 0.25
_SMOOTH_M: Final = 3.0


@dataclass(frozen=True, slots=True)
class DrivePlan:
    """The kind of drive."""

    desired_mps: float  #: Speed the ego wants
    fast: bool  #: A road without crossings, kerbside parking or many people
    turn: int  #: +1 turns from a crossing street into the main road, -1 out of it, 0 stays
    halt_s: float  #: When the ego brakes hard for something in the road, infinite for never
    lead_halt_s: float  #: When the one ahead does

    @classmethod
    def draw(cls, rng: np.random.Generator, duration_s: float) -> "DrivePlan":
        """Return a plan: crawling 1 in 10, street 4 to 16 m/s, corners 1 in 4, fast roads up to 30 m/s 1 in 6."""
        kind = str(rng.choice(["crawl", "street", "turn", "fast"], p=[0.1, 0.49, 0.24, 0.17]))
        low, high = {"crawl": (0.0, 3.0), "street": (4.0, 15.0), "turn": (5.0, 10.0), "fast": (17.0, 30.0)}[kind]
        desired = float(rng.uniform(low, high))
        when = float(rng.uniform(0.25, 0.75)) * duration_s
        brakes = str(rng.choice(["no", "own", "lead"], p=[0.66, 0.17, 0.17])) if kind in {"street", "fast"} else "no"
        return cls(
            desired,
            kind == "fast",
            int(rng.choice([-1, 1])) if kind == "turn" else 0,
            when if brakes == "own" else np.inf,
            when if brakes == "lead" else np.inf,
        )


@dataclass(frozen=True, slots=True)
class Corner:
    """A turn at a crossing."""

    crossing_m: float  #: Station of the crossing's middle
    side: int  #: Side of the main road that the ego comes from or goes to; +1 left
    inwards: bool  #: From the street that crosses into the main road, or out of it
    radius_m: float  #: Of the arc
    lane: int  #: The ego's lane on the main road
    arc_m: tuple[float, float]  #: First and last station of the arc, counted along the route

    @classmethod
    def draw(cls, road: Road, rng: np.random.Generator, *, inwards: bool) -> "Corner":
        """Return a corner at the first crossing: around the near side, or over the opposite lane."""
        side, radius = int(rng.choice([-1, 1])), float(rng.uniform(9.0, 13.0))
        lane = road.lanes - 1 if side == -road.hand else 0
        middle = road.crossings[0].station_m
        edge = middle + road.hand * (-side if inwards else side) * CROSSING_LANE_M / 2
        length = radius * np.pi / 2
        arc = (edge + radius - length, edge + radius) if inwards else (edge - radius, edge - radius + length)
        return cls(middle, side, inwards, radius, lane, (float(arc[0]), float(arc[1])))

    def line(self, road: Road) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the station along the route, and station and offset on the road, of points on the way."""
        low, high = self.arc_m
        along = np.arange(low - 110.0, high + 110.0, _STEP_M)
        offset = road.lane_offset_m(self.lane, 1)
        angle = np.clip((along - low) / (high - low), 0, 1) * np.pi / 2
        past = np.maximum(along - high, 0.0) if not self.inwards else np.maximum(low - along, 0.0)
        if self.inwards:
            station = np.where(along > high, along, high - self.radius_m * np.cos(angle))
            aside = self.side * (self.radius_m * (1 - np.sin(angle)) + past)
        else:
            station = np.where(along < low, along, low + self.radius_m * np.sin(angle))
            aside = self.side * (self.radius_m * (1 - np.cos(angle)) + past)
        return along, station, offset + aside


def ego_route(
    road: Road, lane: int, corner: Corner | None, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the ego's way.

    Returns:
        Stations along the route (K,), which are the road's own on the main road, world positions (K, 2), and the
        headings (K,) of the way (rad, unwrapped).
    """
    if corner is None:
        along = np.arange(road.stations_m[0], road.stations_m[-1], _STEP_M)
        station, offset = along, np.full(len(along), road.lane_offset_m(lane, 1))
    else:
        along, station, offset = corner.line(road)
    wander = 0.25 * np.sin(2 * np.pi * along / 65.0 + rng.uniform(0, 2 * np.pi))
    if corner is not None:
        away = np.minimum(np.abs(along - corner.arc_m[0]), np.abs(along - corner.arc_m[1]))
        inside = (along > corner.arc_m[0]) & (along < corner.arc_m[1])
        on_main = along > corner.arc_m[1] if corner.inwards else along < corner.arc_m[0]
        wander = np.where(on_main & ~inside, wander * np.clip(away / 20.0, 0, 1), 0.0)
    position, _ = road.locate(station, offset + wander)
    taps = round(_SMOOTH_M / _STEP_M)
    weights = np.hanning(taps + 2)[1:-1]
    ends = (taps // 2, taps - 1 - taps // 2)
    padded = [np.pad(position[:, k], ends, mode="reflect", reflect_type="odd") for k in (0, 1)]
    smooth = np.stack([np.convolve(p, weights / weights.sum(), mode="valid") for p in padded], axis=1)
    slope = np.gradient(smooth, along, axis=0)
    return along, smooth, np.unwrap(np.arctan2(slope[:, 1], slope[:, 0]))
