# SPDX-License-Identifier: Apache-2.0
"""The street while it is being filled, and the traffic on it."""

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from peft_dml_ros.core.typing import FloatArray
from peft_dml_tools.sim.actors import CLASS_STATISTICS, Actor, make_actor
from peft_dml_tools.sim.road import CROSSING_LANE_M, CYCLE_STRIP_M, Crossing, Road
from peft_dml_tools.sim.route import Corner
from peft_dml_tools.sim.traffic import HEADWAY_S, SETTLE_S, STEP_S, Vehicle, drive_lane, queue, settled

EGO_LENGTH_M: Final = 4.1
EGO_CENTRE_M: Final = 1.3  #: The vehicle's middle is this far ahead of `base_link` (the rear axle)


@dataclass(slots=True)
class Street:
    """Everything that is being placed, and the choices that belong together."""

    road: Road  #: The road
    rng: np.random.Generator  #: Source of everything random
    steps: int  #: Instants of the time grid
    red_until_s: float  #: The main road's light at each crossing is red until then; 0 for green
    traffic: float  #: Density of moving traffic, 0 to 1
    parking: float  #: Share of the parking strip that is taken
    people: float  #: Pedestrians per 100 m and side
    pace_mps: tuple[float, float] = (5.0, 14.0)  #: Range of the speed that a lane wants
    corner: Corner | None = None  #: Where the ego turns, if it does
    lead_halt_s: float = np.inf  #: When the one ahead of the ego brakes hard, infinite for never
    actors: list[Actor] = field(default_factory=list)  #: What was placed so far

    @property
    def span_m(self) -> tuple[float, float]:
        """Stations that are populated."""
        return float(self.road.stations_m[0]) + 20.0, float(self.road.stations_m[-1]) - 20.0

    def add(self, cls: str, track: FloatArray, **options: object) -> None:
        """Place an actor."""
        name = f"{cls}_{len(self.actors):04d}"
        self.actors.append(make_actor(name, cls, track, self.rng, **options))  # type: ignore[arg-type]

    def stand(self, cls: str, station_m: float, offset_m: float, turn_rad: float = 0.0, **options: object) -> None:
        """Place an actor that does not move."""
        position, heading = self.road.locate(station_m, offset_m)
        pose = np.array([*position, float(heading) + turn_rad])
        self.add(cls, np.tile(pose, (self.steps, 1)), **options)

    def along(self, stations_m: FloatArray, offset_m: float, direction: int) -> FloatArray:
        """Return the track (T, 3) of something that follows the road."""
        position, heading = self.road.locate(stations_m, np.full(len(stations_m), offset_m))
        yaw = np.unwrap(heading) + (0.0 if direction > 0 else np.pi)
        return np.concatenate([position, yaw[:, None]], axis=1)

    def across(self, station_m: float, offsets_m: FloatArray, sense: int) -> FloatArray:
        """Return the track (T, 3) of something that crosses the road at a right angle; sense +1 grows the offset."""
        position, heading = self.road.locate(np.full(len(offsets_m), station_m), offsets_m)
        return np.concatenate([position, (heading + sense * np.pi / 2)[:, None]], axis=1)

    def on_crossing(self, crossing: Crossing, along_m: FloatArray, right_m: float, turn_rad: float) -> FloatArray:
        """Return the track (T, 3) of something on a street that crosses, turned from that street's direction."""
        position = crossing.locate(along_m, right_m)
        return np.column_stack([position, np.full(len(position), crossing.heading_rad + turn_rad)])


def draw(rng: np.random.Generator, shares: dict[str, float]) -> str:
    """Return one of the keys, as often as its share."""
    share = np.array(list(shares.values()))
    return list(shares)[int(rng.choice(len(shares), p=share / share.sum()))]


TRAFFIC: Final = {
    "car": 0.77,
    "truck": 0.08,
    "bus": 0.05,
    "convoy": 0.035,
    "motorcycle": 0.008,
    "construction_vehicle": 0.015,
}


def drive_traffic(street: Street, ego_lane: int, ego: Vehicle) -> FloatArray:
    """Fill all lanes and drive them; return (2, T) the ego's station (of its middle) and speed."""
    motion = np.zeros((2, street.steps))
    for direction in (1, -1):
        for lane in range(street.road.lanes):
            is_ego = direction == 1 and lane == ego_lane
            vehicles = _lane(street, direction, lane, ego if is_ego else None)
            if not is_ego and street.red_until_s > 0:
                end = max(direction * v for v in street.span_m)
                vehicles = [v for v in settled(vehicles) if v.station_m < end]
            stations, speeds = drive_lane(vehicles, street.steps)
            offset = street.road.lane_offset_m(lane, direction)
            for i, vehicle in enumerate(vehicles):
                if vehicle.cls == "ego":
                    motion = np.stack([stations[i], speeds[i]])
                    continue
                _place(street, vehicle, direction * stations[i], offset, direction)
    return motion


def _lane(street: Street, direction: int, lane: int, ego: Vehicle | None) -> list[Vehicle]:
    """Return vehicles of one lane in their own direction of travel (station times direction)."""
    rng, road = street.rng, street.road
    low, high = sorted(direction * v for v in street.span_m)
    vehicles: list[Vehicle] = [] if ego is None else [ego]
    lane_mps = float(rng.uniform(*street.pace_mps))
    offset, lines = road.lane_offset_m(lane, direction), road.stop_lines_m(direction)
    # The queue before a red light was let settle: those far behind have come nearer by then.
    s = low + float(rng.uniform(0, 30)) - (SETTLE_S * lane_mps if ego is None and street.red_until_s > 0 else 0.0)
    while s < high:
        cls = draw(rng, TRAFFIC)
        length = {"convoy": 20.0}.get(cls) or CLASS_STATISTICS[cls].mean_m[0] + 1.0
        s += length / 2
        clear = ego is None or abs(s - ego.station_m) > (length + ego.length_m) / 2 + 5.0
        if ego is not None and street.corner is not None and street.corner.inwards:
            # Nobody is on the main road between the ego, still around the corner, and the place where it joins.
            clear &= not ego.station_m - 8.0 < s < street.corner.arc_m[1] + 12.0 + length
        on_crossing = bool(road.near_crossing(direction * s, 6.0 + length / 2, offset))
        if clear and not (on_crossing and street.red_until_s > 0):
            desired = max(1.0, lane_mps + float(rng.normal(0, 1.5)))
            stop = min((a for a in lines if a > s + length / 2), default=np.inf)
            # Who is ahead of an ego that turns off drives on: the light went red behind them.
            free = ego is not None and street.corner is not None and s > ego.station_m
            vehicles.append(Vehicle(cls, s, desired, desired, length, stop, 0.0 if free else street.red_until_s))
        room = HEADWAY_S * max(lane_mps - 14.0, 0.0)
        s += length / 2 + 4.0 + room + float(rng.exponential(10 + 60 * (1 - street.traffic)))
    if ego is not None and np.isfinite(street.lead_halt_s):
        leaders = [i for i, v in enumerate(vehicles) if v.station_m > ego.station_m]
        if leaders:
            lead = min(leaders, key=lambda k: vehicles[k].station_m)
            vehicles[lead] = replace(
                vehicles[lead], halt_at_s=street.lead_halt_s, halt_for_s=6.0, halt_mps2=float(rng.uniform(5, 7))
            )
    return queue(vehicles)


def _place(street: Street, vehicle: Vehicle, stations_m: FloatArray, offset_m: float, direction: int) -> None:
    """Return one vehicle of a lane; a convoy is a truck with its trailer."""
    wander = float(street.rng.normal(0, 0.2))
    if vehicle.cls != "convoy":
        ridden = vehicle.cls == "motorcycle"
        street.add(vehicle.cls, street.along(stations_m, offset_m + wander, direction), ridden=ridden)
        return
    street.add("truck", street.along(stations_m + direction * 6.4, offset_m + wander, direction))
    street.add("trailer", street.along(stations_m - direction * 3.6, offset_m + wander, direction))


def drive_crossings(street: Street) -> None:
    """Drive vehicles that wait at, or leave along, the streets that cross."""
    rng, road = street.rng, street.road
    for crossing in road.crossings:
        for side in (-1, 1):
            for leaving in (False, True):
                own = street.corner
                if own is not None and (crossing.station_m, side, leaving) == (
                    own.crossing_m,
                    own.side,
                    not own.inwards,
                ):
                    continue
                inner = crossing.clear_m(road.kerb_m) + (6.0 if leaving else 3.0)
                vehicles: list[Vehicle] = []
                s = inner + float(rng.uniform(5, 25)) if leaving else -inner - 4.0
                while abs(s) < 85 and rng.random() < 0.75:
                    cls = draw(rng, {"car": 0.75, "truck": 0.1, "bus": 0.05, "motorcycle": 0.1})
                    length = CLASS_STATISTICS[cls].mean_m[0] + 1.0
                    s += (1 if leaving else -1) * (length + float(rng.exponential(14.0)) + 3.0)
                    speed = float(rng.uniform(2, 9))
                    stop = np.inf if leaving else -inner
                    vehicles.append(Vehicle(cls, s, speed, speed + 2.0, length, stop, np.inf))
                if not vehicles:
                    continue
                sense = side if leaving else -side
                right = road.hand * sense * CROSSING_LANE_M / 2
                vehicles = queue(vehicles) if leaving else settled(queue(vehicles))
                stations, _ = drive_lane(vehicles, street.steps)
                for vehicle, row in zip(vehicles, stations, strict=True):
                    track = street.on_crossing(crossing, sense * row, right, 0.0 if sense > 0 else np.pi)
                    street.add(vehicle.cls, track, ridden=vehicle.cls == "motorcycle")


def drive_cycles(street: Street) -> None:
    """Drive cyclists and scooters along the strip next to the lanes."""
    rng, road = street.rng, street.road
    for direction in (1, -1):
        offset = -road.hand * direction * (road.carriageway_m + CYCLE_STRIP_M / 2)
        s = street.span_m[0] + float(rng.uniform(0, 40))
        speed = float(rng.uniform(3.0, 6.0))
        while s < street.span_m[1]:
            cls = "bicycle" if rng.random() < 0.98 else "motorcycle"
            stations = s + direction * speed * STEP_S * np.arange(street.steps)
            street.add(cls, street.along(stations, offset + float(rng.normal(0, 0.15)), direction), ridden=True)
            s += float(rng.uniform(70, 260))
