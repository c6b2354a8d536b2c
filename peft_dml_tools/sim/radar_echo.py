# SPDX-License-Identifier: Apache-2.0
"""What comes back to a radar: cross-sections by class and aspect, hidden vehicles, mirror images, clutter."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.typing import BoolArray, FloatArray, IntArray
from peft_dml_tools.sim.actors import CLASS_STATISTICS, Actor

TARGET: Final = 0
MIRROR: Final = 1
CLUTTER: Final = 2

SIDE_GAIN_DB: Final = 7.0
END_GAIN_DB: Final = 4.0
LOBE_RAD: Final = np.deg2rad(14.0)
CORNER_LOSS_DB: Final = 2.5
"""Aspect pattern of a vehicle: flat sides reflect in a lobe about their normal, corners little.

Widths and gains are assumptions in the shape of measured patterns (broadside strongest, then the ends)."""

#: Range at which 0 dBsm is just detected; the floor rises with the fourth power of range (radar equation)
FLOOR_RANGE_M: Final = 70.0

#: By how much cones, barriers, cycles and people differ among themselves: their classes overlap
SMALL_SPREAD_DB: Final = 4.0

_VEHICLES: Final = frozenset({"car", "truck", "bus", "trailer", "construction_vehicle"})
_MICRO_SIGMA: Final = {"pedestrian": 0.3, "bicycle": 0.3}
BACKGROUND_DBSM: Final = 1.5
BACKGROUND_TAIL_DB: Final = 7.5
FADING_DB: Final = 5.0


@dataclass(frozen=True, slots=True)
class Echoes:
    """What a radar could report; sensor axes, row by row."""

    position_m: FloatArray  #: (N, 2) x ahead, y left
    velocity_mps: FloatArray  #: (N, 2) over ground
    rcs_dbsm: FloatArray  #: (N,) cross-section
    owner: IntArray  #: (N,) actor it came from, -1 for none
    kind: IntArray  #: (N,) `TARGET`, `MIRROR` or `CLUTTER`

    def take(self, index: IntArray | BoolArray) -> "Echoes":
        """Return some of them, in the order given."""
        return Echoes(
            self.position_m[index], self.velocity_mps[index], self.rcs_dbsm[index], self.owner[index], self.kind[index]
        )

    @classmethod
    def join(cls, parts: "list[Echoes]") -> "Echoes":
        """Return all echoes of several."""
        return cls(
            np.concatenate([p.position_m for p in parts]),
            np.concatenate([p.velocity_mps for p in parts]),
            np.concatenate([p.rcs_dbsm for p in parts]),
            np.concatenate([p.owner for p in parts]),
            np.concatenate([p.kind for p in parts]),
        )

    @property
    def range_m(self) -> FloatArray:
        """(N,) distance."""
        return np.asarray(np.hypot(self.position_m[:, 0], self.position_m[:, 1]))


@dataclass(frozen=True, slots=True)
class Reflectors:
    """How a world's actors look to a radar; (A,) arrays."""

    rcs_dbsm: FloatArray  #: Median cross-section
    share: FloatArray  #: Chance that a ray that meets it yields a detection
    most: IntArray  #: Most detections in one cycle: the device merges what is close
    vehicle: BoolArray  #: Whether it has flat sides, and room for waves to pass under
    micro_mps: FloatArray  #: Spread of Doppler by limbs

    @classmethod
    def of(cls, actors: tuple[Actor, ...], seed: int) -> "Reflectors":
        """Draw how some actors reflect, the same in all of a drive.

        Small things either return waves for as long as they are in view or hardly ever: wood, plastic and cloth are
        transparent, and what lies about them is as strong.
        """
        names = [CLASSES[a.label] for a in actors]
        kinds = [CLASS_STATISTICS[name] for name in names]
        rng = np.random.default_rng([seed, 13])
        seen = rng.random(len(actors)) < np.array([k.radar_seen for k in kinds])
        small = np.array([name not in _VEHICLES for name in names], dtype=np.bool_)
        level = np.where(small, rng.normal(0.0, SMALL_SPREAD_DB, len(actors)), 0.0)
        return cls(
            np.array([k.rcs_dbsm for k in kinds]) + level,
            np.where(seen, np.array([k.radar_share for k in kinds]), 0.0),
            np.array([1 + int(a.size_m[:2].max() / 1.2) for a in actors], dtype=np.int64) + small,
            np.array([name in _VEHICLES for name in names], dtype=np.bool_),
            np.array([_MICRO_SIGMA.get(name, 0.0) for name in names]),
        )


def aspect_gain_db(aspect_rad: FloatArray) -> FloatArray:
    """Return the gain over a vehicle's median cross-section by (N,) aspect; 0 is seen from behind or the front."""
    away_from_end = np.abs(np.arcsin(np.clip(np.sin(aspect_rad), -1, 1)))
    away_from_side = np.pi / 2 - away_from_end
    lobes = SIDE_GAIN_DB * np.exp(-((away_from_side / LOBE_RAD) ** 2))
    lobes = lobes + END_GAIN_DB * np.exp(-((away_from_end / LOBE_RAD) ** 2))
    gain: FloatArray = lobes - CORNER_LOSS_DB
    return gain


def floor_dbsm(range_m: FloatArray) -> FloatArray:
    """Return the weakest cross-section that is detected at a range."""
    floor: FloatArray = 40.0 * np.log10(np.maximum(range_m, 1.0) / FLOOR_RANGE_M)
    return floor


def hidden(
    reflectors: Reflectors,
    centres_m: FloatArray,
    velocities_mps: FloatArray,
    nearest: tuple[FloatArray, FloatArray, IntArray],
    rng: np.random.Generator,
) -> Echoes:
    """Return detections of vehicles behind others, made by the waves that pass under the one in front.

    Args:
        reflectors: The actors.
        centres_m: (A, 2) in sensor axes.
        velocities_mps: (A, 2) over ground, sensor axes.
        nearest: Bearing (rad, ascending), range and owner of what each ray met.
        rng: Chance.
    """
    bearing, range_m, owner = nearest
    distance = np.hypot(centres_m[:, 0], centres_m[:, 1])
    angle = np.arctan2(centres_m[:, 1], centres_m[:, 0])
    ray = np.clip(np.searchsorted(bearing, angle), 0, len(bearing) - 1)
    before = owner[ray]
    under = reflectors.vehicle & (distance < 60.0) & (np.abs(angle - bearing[ray]) < 0.03)
    under &= (before >= 0) & (before != np.arange(len(distance))) & (range_m[ray] < distance - 2.0)
    under &= reflectors.vehicle[np.maximum(before, 0)] & (rng.random(len(distance)) < 0.15)
    index = np.flatnonzero(under)
    rcs = reflectors.rcs_dbsm[index] - 8.0 + rng.normal(0, FADING_DB, len(index))
    scatter = rng.normal(0, 0.4, (len(index), 2))
    return Echoes(centres_m[index] + scatter, velocities_mps[index], rcs, index, np.full(len(index), TARGET))


def mirrored(targets: Echoes, walls_m: FloatArray, normals: FloatArray, count: int, rng: np.random.Generator) -> Echoes:
    """Return mirror images of real targets behind walls; velocities are mirrored too, so that a moving one has Doppler.

    Args:
        targets: What is real.
        walls_m: (W, 2) points on walls, sensor axes.
        normals: (W, 2) their unit normals.
        count: Pairs of target and wall to try.
        rng: Chance.
    """
    sources = np.flatnonzero(targets.owner >= 0)
    if not len(sources) or not len(walls_m):
        return targets.take(np.zeros(0, np.int64))
    one = targets.take(sources[rng.integers(len(sources), size=count)])
    wall = rng.integers(len(walls_m), size=count)
    normal = normals[wall]
    side = np.einsum("ij,ij->i", one.position_m - walls_m[wall], normal)
    own_side = -np.einsum("ij,ij->i", walls_m[wall], normal)
    image = one.position_m - 2 * side[:, None] * normal
    velocity = one.velocity_mps - 2 * np.einsum("ij,ij->i", one.velocity_mps, normal)[:, None] * normal
    rcs = one.rcs_dbsm - rng.uniform(4, 10, count)
    faces = (side * own_side > 0) & (np.abs(side) > 0.5)
    return Echoes(image, velocity, rcs, np.full(count, -1), np.full(count, MIRROR)).take(faces)


def clutter(count: int, half_fov_rad: float, rng: np.random.Generator) -> Echoes:
    """Return false detections, of which a third seem to move."""
    distance, angle = rng.uniform(3, 70, count), rng.uniform(-half_fov_rad, half_fov_rad, count)
    sight = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    doppler = rng.normal(0, 2.0, count) * (rng.random(count) < 0.3)
    rcs = rng.normal(4.0, 3.5, count)
    return Echoes(distance[:, None] * sight, doppler[:, None] * sight, rcs, np.full(count, -1), np.full(count, CLUTTER))
