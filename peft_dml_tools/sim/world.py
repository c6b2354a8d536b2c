# SPDX-License-Identifier: Apache-2.0
"""One street, everything on it, and where it all is at any time; made from one seed."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.typing import BoolArray, FloatArray, IntArray
from peft_dml_tools.sim import layout, roadside
from peft_dml_tools.sim.actors import Actor
from peft_dml_tools.sim.domain import MIXED, STREETS, Domain
from peft_dml_tools.sim.mesh import Mesh
from peft_dml_tools.sim.road import Road
from peft_dml_tools.sim.route import STREET_LEFT_M, Corner, DrivePlan, ego_route
from peft_dml_tools.sim.scenery import OpenGround, scenery
from peft_dml_tools.sim.suspension import attitude, body_motion
from peft_dml_tools.sim.terrain import Terrain
from peft_dml_tools.sim.traffic import STEP_S, Vehicle

MARGIN_S: Final = 1.0
EGO_WIDTH_M: Final = 1.75


@dataclass(frozen=True, slots=True)
class Ego:
    """The vehicle that carries the sensors, on the world's time grid."""

    pose: FloatArray  #: (T, 3) x, y (m), yaw (rad, unwrapped) of `base_link`
    speed_mps: FloatArray  #: (T,) along x
    accel_mps2: FloatArray  #: (T,) along x
    yaw_rate_radps: FloatArray  #: (T,)
    #: (T, 3) height of `base_link` (m), roll and pitch (rad, positive lifts the left side, lowers the front)
    body: FloatArray


@dataclass(frozen=True, slots=True)
class World:
    """A street over time. World frame: metres, z up, the road's surface at z = 0 where the ego starts."""

    seed: int  #: What it was made from
    duration_s: float  #: Time it covers, from 0; poses are known a little longer
    road: Road  #: The road
    actors: tuple[Actor, ...]  #: What is annotated
    background: Mesh  #: What is not
    times_s: FloatArray  #: (T,) time grid
    poses: FloatArray  #: (A, T, 4) x, y, yaw of the actors, and z of their bottoms
    velocities_mps: FloatArray  #: (A, T, 2) over ground
    ego: Ego  #: The vehicle
    sun: FloatArray  #: (3,) unit vector towards the sun
    terrain: Terrain  #: Height of the ground

    @classmethod
    def make(cls, seed: int, duration_s: float, domain: Domain = MIXED) -> "World":
        """Build the street of a seed in a domain."""
        rng = np.random.default_rng([seed, 0])
        plan = DrivePlan.draw(rng, duration_s)
        times = np.arange(0.0, duration_s + MARGIN_S, STEP_S)
        road = Road.make(plan.desired_mps * duration_s + 30.0, rng, domain, fast=plan.fast, corner=plan.turn != 0)
        corner = Corner.draw(road, rng, inwards=plan.turn > 0) if plan.turn else None
        street = _street(road, rng, len(times), duration_s, plan, corner)
        lots, sites = _lots(road, rng, street.span_m, busy=not plan.fast)
        ego_lane = int(rng.integers(road.lanes)) if corner is None else corner.lane
        motion = layout.drive_traffic(street, ego_lane, _ego_vehicle(street, plan, duration_s))
        layout.drive_crossings(street)
        if not plan.fast:
            layout.drive_cycles(street)
        for site in sites:
            roadside.build_site(street, site)
        roadside.park(street, sites)
        roadside.park_crossings(street)
        for lot in lots:
            roadside.fill_lot(street, lot)
        roadside.walk(street)
        terrain = Terrain.make(np.random.default_rng([seed, 12]), domain.relief)
        bare = float(rng.uniform(0.5, 0.9) if plan.fast else rng.uniform(0.1, 0.45))
        background = scenery(road, rng, bare, STREETS[domain.streets].setback_m, lots, terrain)
        elevation, azimuth = float(rng.uniform(0.45, 1.2)), float(rng.uniform(-np.pi, np.pi))
        sun = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
        ego = _ego(road, rng, motion, ego_lane, corner, terrain)
        actors = tuple(a for a in street.actors if not _in_the_way(a, ego))
        tracks = np.stack([a.track for a in actors])
        base_z = np.array([a.base_z_m for a in actors])[:, None] + terrain.height_m(tracks[..., :2])
        poses = np.concatenate([tracks, base_z[..., None]], axis=2)
        velocities = np.gradient(poses[..., :2], STEP_S, axis=1)
        return cls(seed, duration_s, road, actors, background, times, poses, velocities, ego, sun, terrain)

    def _bracket(self, time_s: float) -> tuple[int, float]:
        at = float(np.clip(time_s / STEP_S, 0, len(self.times_s) - 1.001))
        return int(at), at - int(at)

    def states(self, time_s: float) -> tuple[FloatArray, FloatArray]:
        """Return poses (A, 4) and ground velocities (A, 2) of all actors, world frame."""
        i, part = self._bracket(time_s)
        poses = self.poses[:, i] * (1 - part) + self.poses[:, i + 1] * part
        velocities = self.velocities_mps[:, i] * (1 - part) + self.velocities_mps[:, i + 1] * part
        return poses, velocities

    def world_SE3_base(self, time_s: float) -> SE3:
        """Return the pose of the ego vehicle, which follows the ground and leans as it brakes and turns."""
        i, part = self._bracket(time_s)
        x, y, yaw = self.ego.pose[i] * (1 - part) + self.ego.pose[i + 1] * part
        z, roll, pitch = self.ego.body[i] * (1 - part) + self.ego.body[i + 1] * part
        return attitude(float(yaw), float(roll), float(pitch), (x, y, z))

    def ego_velocity_mps(self, time_s: float) -> FloatArray:
        """Return the ground velocity (2,) of `base_link`, world frame."""
        i, part = self._bracket(time_s)
        speed = self.ego.speed_mps[i] * (1 - part) + self.ego.speed_mps[i + 1] * part
        velocity: FloatArray = speed * self.world_SE3_base(time_s).rotation[:2, 0]
        return velocity

    def boxes(self, time_s: float, keep: BoolArray | IntArray | None = None) -> Boxes3D:
        """Return boxes of the actors in `base_link` at a time; velocities over ground, in `base_link` axes."""
        index = np.arange(len(self.actors)) if keep is None else np.arange(len(self.actors))[keep]
        poses, velocities = self.states(time_s)
        actors = [self.actors[i] for i in index]
        sizes = np.array([a.size_m for a in actors]).reshape(-1, 3)
        centers = np.concatenate([poses[index, :2], (poses[index, 3] + sizes[:, 2] / 2)[:, None]], axis=1)
        speeds = np.linalg.norm(velocities[index], axis=1)
        boxes = Boxes3D.make(
            centers,
            sizes,
            poses[index, 2],
            np.array([a.label for a in actors], dtype=np.int64),
            velocities_mps=velocities[index],
            attributes=np.array([a.attribute(float(v)) for a, v in zip(actors, speeds, strict=True)], dtype=np.int64),
            ids=tuple(a.name for a in actors),
        )
        return boxes.transform(self.world_SE3_base(time_s).inverse())


def _street(
    road: Road, rng: np.random.Generator, steps: int, duration_s: float, plan: DrivePlan, corner: Corner | None
) -> layout.Street:
    """Return the empty street with its densities; a fast road has little along it."""
    lights = [0.0, rng.uniform(min(1.0, duration_s), duration_s), np.inf]
    red = float(rng.choice(lights, p=[0.4, 0.25, 0.35])) if road.crossings else 0.0
    # Kerbs are mostly free or mostly taken; full rows hide what is behind them, as real ones do.
    parking = float(
        rng.uniform(0.0, 0.03) if plan.fast else rng.choice([0.2, 0.92], p=[0.4, 0.6]) * rng.uniform(0.6, 1.07)
    )
    # People are out where shops and crossings are, and there nobody may park.
    bustle = 1.6 if parking < 0.4 else 0.5
    return layout.Street(
        road,
        rng,
        steps,
        np.inf if corner is not None else red,
        traffic=float(rng.uniform(0.1, 1.0)),
        parking=parking,
        people=float(rng.uniform(0.5, 2.0) if plan.fast else bustle * rng.uniform(4.0, 25.0)),
        pace_mps=(0.7 * plan.desired_mps, 1.1 * plan.desired_mps) if plan.fast else (5.0, 14.0),
        corner=corner,
        lead_halt_s=plan.lead_halt_s,
    )


def _lots(
    road: Road, rng: np.random.Generator, span_m: tuple[float, float], *, busy: bool
) -> tuple[list[OpenGround], list[OpenGround]]:
    """Return parking lots along the road, and building sites on its parking strips; both clear of crossings."""
    lots: list[OpenGround] = []
    sites: list[OpenGround] = []
    for side in (-1, 1):
        for _ in range(int(rng.choice([0, 1, 2], p=[0.3, 0.45, 0.25]))):
            start = float(rng.uniform(span_m[0] + 60, span_m[1] - 80))
            lot = OpenGround(side, start, start + float(rng.uniform(18, 42)))
            free = all(other.side != side or other.end_m < start or lot.end_m < other.start_m for other in lots)
            if free and not _meets_crossing(road, lot):
                lots.append(lot)
        if rng.random() < (0.65 if busy else 0.25):
            start = float(rng.uniform(span_m[0] + 80, span_m[1] - 90))
            site = OpenGround(side, start, start + float(rng.uniform(22, 45)))
            if not _meets_crossing(road, site):
                sites.append(site)
    return lots, sites


def _ego_vehicle(street: layout.Street, plan: DrivePlan, duration_s: float) -> Vehicle:
    """Return the ego in the queue of its lane: where it starts, what it wants, where it slows down or halts."""
    road, rng, corner = street.road, street.rng, street.corner
    stop = min((line for line in road.stop_lines_m() if line > layout.EGO_LENGTH_M), default=np.inf)
    start = plan.desired_mps * float(rng.uniform(0.6 if plan.fast else 0.3, 1.1))
    ego = Vehicle(
        "ego",
        layout.EGO_CENTRE_M,
        start,
        max(plan.desired_mps, 0.2),
        layout.EGO_LENGTH_M,
        stop,
        street.red_until_s,
        halt_at_s=plan.halt_s,
        halt_for_s=float(rng.uniform(0.8, 5.0)),
        halt_mps2=float(rng.uniform(5.0, 7.0)),
        headway_s=float(rng.uniform(0.7, 1.5)),
    )
    if corner is None:
        return ego
    # It meets the corner early enough to be seen turning; a street that crosses ends, and so does the drive on it.
    away = float(np.clip(rng.uniform(0.1, 0.55) * plan.desired_mps * duration_s, 3.0, 55.0))
    speed = float(np.sqrt(rng.uniform(1.7, 2.9) * corner.radius_m))
    end = np.inf if corner.inwards else corner.arc_m[1] + STREET_LEFT_M
    return replace(
        ego,
        station_m=corner.arc_m[0] - away,
        slow_m=(corner.arc_m[0], corner.arc_m[1] + layout.EGO_CENTRE_M),
        slow_mps=speed,
        stop_at_m=end,
        go_at_s=np.inf,
    )


def _meets_crossing(road: Road, lot: OpenGround) -> bool:
    """Return whether a street that crosses comes near to a lot."""
    stations = np.arange(lot.start_m, lot.end_m, 2.0)
    return any(road.near_crossing(stations, 5.0, lot.side * d).any() for d in (road.kerb_m, road.frontage_m + 28.0))


def _ego(
    road: Road, rng: np.random.Generator, motion: FloatArray, lane: int, corner: Corner | None, terrain: Terrain
) -> Ego:
    """Return the ego's path over time: its rear axle follows its way, heading along it."""
    along, position, heading = ego_route(road, lane, corner, rng)
    stations = motion[0] - layout.EGO_CENTRE_M
    x, y, yaw = (np.interp(stations, along, v) for v in (position[:, 0], position[:, 1], heading))
    # The way is a little longer or shorter than the lane's station: the speed is that of the path.
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(position[:, 0]), np.diff(position[:, 1])))])
    speed = motion[1] * np.interp(stations, along, np.gradient(travelled, along))
    pose, accel, rate = np.stack([x, y, yaw], axis=1), np.gradient(speed, STEP_S), np.gradient(yaw, STEP_S)
    return Ego(pose, speed, accel, rate, body_motion(pose, speed, accel, speed * rate, terrain, rng))


def _in_the_way(actor: Actor, ego: Ego) -> bool:
    """Return whether an actor would be run into, or runs into the ego: such a one is left out of the world."""
    cos, sin = np.cos(ego.pose[:, 2]), np.sin(ego.pose[:, 2])
    length, width, _ = actor.size_m
    shift = actor.track[:, :2] - ego.pose[:, :2]
    if np.abs(shift).sum(axis=1).min() > length + layout.EGO_LENGTH_M + 2.0:
        return False
    radius = width / 2 + 0.2
    for part in np.linspace(-0.5, 0.5, 2 + int(length / width)) * max(length - width, 0.0):
        heading = np.stack([np.cos(actor.track[:, 2]), np.sin(actor.track[:, 2])], axis=1)
        dx, dy = (shift + part * heading).T
        ahead = np.abs(dx * cos + dy * sin - layout.EGO_CENTRE_M) - layout.EGO_LENGTH_M / 2
        aside = np.abs(dy * cos - dx * sin) - EGO_WIDTH_M / 2
        if (np.hypot(np.maximum(ahead, 0), np.maximum(aside, 0)) < radius).any():
            return True
    return False
