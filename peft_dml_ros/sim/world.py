# SPDX-License-Identifier: Apache-2.0
"""One street, everything on it, and where it all is at any time; made from one seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.typing import BoolArray, FloatArray, IntArray
from peft_dml_ros.sim import layout, roadside
from peft_dml_ros.sim.actors import Actor
from peft_dml_ros.sim.mesh import Mesh
from peft_dml_ros.sim.road import CROSSING_HALF_M, Road
from peft_dml_ros.sim.scenery import Lot, scenery
from peft_dml_ros.sim.traffic import STEP_S, Vehicle

MARGIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Ego:
    """The vehicle that carries the sensors, on the world's time grid.

    Attributes:
        pose: (T, 3) x, y (m), yaw (rad, unwrapped) of `base_link`.
        speed_mps: (T,) along x.
        accel_mps2: (T,) along x.
        yaw_rate_radps: (T,).
    """

    pose: FloatArray
    speed_mps: FloatArray
    accel_mps2: FloatArray
    yaw_rate_radps: FloatArray


@dataclass(frozen=True, slots=True)
class World:
    """A street over time. World frame: metres, z up, road surface at z = 0.

    Attributes:
        seed: What it was made from.
        duration_s: Time it covers, from 0; poses are known a little longer.
        road: The road.
        actors: What is annotated.
        background: What is not.
        times_s: (T,) time grid.
        poses: (A, T, 3) x, y, yaw of the actors.
        velocities_mps: (A, T, 2) over ground.
        ego: The vehicle.
        sun: (3,) unit vector towards the sun.
    """

    seed: int
    duration_s: float
    road: Road
    actors: tuple[Actor, ...]
    background: Mesh
    times_s: FloatArray
    poses: FloatArray
    velocities_mps: FloatArray
    ego: Ego
    sun: FloatArray

    @classmethod
    def make(cls, seed: int, duration_s: float) -> World:
        """Builds the street of a seed."""
        rng = np.random.default_rng([seed, 0])
        wish = float(rng.choice([rng.uniform(0, 3), rng.uniform(4, 9), rng.uniform(9, 16)], p=[0.12, 0.48, 0.4]))
        times = np.arange(0.0, duration_s + MARGIN_S, STEP_S)
        road = Road.make(wish * duration_s + 30.0, rng)
        lights = [0.0, rng.uniform(1, duration_s), np.inf]
        red = float(rng.choice(lights, p=[0.5, 0.25, 0.25])) if road.crossings_m else 0.0
        street = layout.Street(
            road,
            rng,
            len(times),
            red,
            traffic=float(rng.uniform(0.1, 1.0)),
            parking=float(rng.uniform(0.25, 0.9)),
            people=float(rng.uniform(2.0, 14.0)),
        )
        lots, sites = _lots(road, rng, street.span_m)
        ego_lane = int(rng.integers(road.lanes))
        motion = layout.drive_traffic(street, ego_lane, _ego_vehicle(road, rng, wish, red))
        layout.drive_crossings(street)
        layout.drive_cycles(street)
        for site in sites:
            roadside.build_site(street, site)
        roadside.park(street, sites)
        for lot in lots:
            roadside.fill_lot(street, lot)
        roadside.walk(street)
        background = scenery(road, rng, float(rng.uniform(0.1, 0.5)), lots)
        poses = np.stack([a.track for a in street.actors])
        velocities = np.gradient(poses[..., :2], STEP_S, axis=1)
        elevation, azimuth = float(rng.uniform(0.45, 1.2)), float(rng.uniform(-np.pi, np.pi))
        sun = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
        ego = _ego(road, rng, motion, ego_lane)
        return cls(seed, duration_s, road, tuple(street.actors), background, times, poses, velocities, ego, sun)

    def _bracket(self, time_s: float) -> tuple[int, float]:
        at = float(np.clip(time_s / STEP_S, 0, len(self.times_s) - 1.001))
        return int(at), at - int(at)

    def states(self, time_s: float) -> tuple[FloatArray, FloatArray]:
        """Poses (A, 3) and ground velocities (A, 2) of all actors, world frame."""
        i, part = self._bracket(time_s)
        poses = self.poses[:, i] * (1 - part) + self.poses[:, i + 1] * part
        velocities = self.velocities_mps[:, i] * (1 - part) + self.velocities_mps[:, i + 1] * part
        return poses, velocities

    def world_SE3_base(self, time_s: float) -> SE3:
        """Pose of the ego vehicle."""
        i, part = self._bracket(time_s)
        x, y, yaw = self.ego.pose[i] * (1 - part) + self.ego.pose[i + 1] * part
        return SE3.from_yaw(float(yaw), (x, y, 0.0))

    def ego_velocity_mps(self, time_s: float) -> FloatArray:
        """(2,) ground velocity of `base_link`, world frame."""
        i, part = self._bracket(time_s)
        speed = self.ego.speed_mps[i] * (1 - part) + self.ego.speed_mps[i + 1] * part
        velocity: FloatArray = speed * self.world_SE3_base(time_s).rotation[:2, 0]
        return velocity

    def boxes(self, time_s: float, keep: BoolArray | IntArray | None = None) -> Boxes3D:
        """Boxes of the actors in `base_link` at a time; velocities over ground, in `base_link` axes."""
        index = np.arange(len(self.actors)) if keep is None else np.arange(len(self.actors))[keep]
        poses, velocities = self.states(time_s)
        actors = [self.actors[i] for i in index]
        sizes = np.array([a.size_m for a in actors]).reshape(-1, 3)
        base_z = np.array([a.base_z_m for a in actors])
        centers = np.concatenate([poses[index, :2], (base_z + sizes[:, 2] / 2)[:, None]], axis=1)
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


def _lots(road: Road, rng: np.random.Generator, span_m: tuple[float, float]) -> tuple[list[Lot], list[Lot]]:
    """Parking lots beside the road, and building sites on the parking strips; both clear of crossings."""
    lots: list[Lot] = []
    sites: list[Lot] = []
    for side in (-1, 1):
        for _ in range(int(rng.choice([0, 1, 2], p=[0.45, 0.4, 0.15]))):
            start = float(rng.uniform(span_m[0] + 60, span_m[1] - 80))
            lot = Lot(side, start, start + float(rng.uniform(18, 42)))
            free = all(other.side != side or other.end_m < start or lot.end_m < other.start_m for other in lots)
            if free and not road.near_crossing(np.arange(lot.start_m, lot.end_m, 2.0), 4.0).any():
                lots.append(lot)
        if rng.random() < 0.65:
            start = float(rng.uniform(span_m[0] + 80, span_m[1] - 90))
            site = Lot(side, start, start + float(rng.uniform(22, 45)))
            if not road.near_crossing(np.arange(site.start_m, site.end_m, 2.0), 5.0).any():
                sites.append(site)
    return lots, sites


def _ego_vehicle(road: Road, rng: np.random.Generator, wish: float, red_until_s: float) -> Vehicle:
    ahead = [c - CROSSING_HALF_M - 4.5 for c in road.crossings_m]
    stop = min((a for a in ahead if a > layout.EGO_LENGTH_M), default=np.inf)
    start = wish * float(rng.uniform(0.3, 1.1))
    return Vehicle("ego", layout.EGO_CENTRE_M, start, max(wish, 0.2), layout.EGO_LENGTH_M, stop, red_until_s)


def _ego(road: Road, rng: np.random.Generator, motion: FloatArray, lane: int) -> Ego:
    """The ego's path: its lane, with a slow wander, heading along its motion."""
    stations, speed = motion[0] - layout.EGO_CENTRE_M, motion[1]
    offset = road.lane_offset_m(lane, 1) + 0.25 * np.sin(2 * np.pi * stations / 65.0 + rng.uniform(0, 2 * np.pi))
    position, heading = road.locate(stations, offset)
    slope = np.gradient(offset, stations + 1e-6 * np.arange(len(stations)))
    yaw = np.unwrap(heading) + np.arctan(np.clip(slope, -0.05, 0.05))
    # The wander lengthens the path by less than 0.1 %, so the speed along it is the speed along the lane.
    yaw_rate = np.gradient(yaw, STEP_S)
    return Ego(np.concatenate([position, yaw[:, None]], axis=1), speed, np.gradient(speed, STEP_S), yaw_rate)
