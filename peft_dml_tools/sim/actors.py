# SPDX-License-Identifier: Apache-2.0
"""Things that are annotated: what they are, how big, how they look to a radar, and where they are over time."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from peft_dml_ros.core.classes import ATTRIBUTES, CLASSES
from peft_dml_ros.core.typing import FloatArray
from peft_dml_tools.sim import models, people
from peft_dml_tools.sim.mesh import Mesh

MOVING_MPS: Final = 0.2


@dataclass(frozen=True, slots=True)
class ClassStatistics:
    """Statistics of one detection class."""

    category: str  #: nuScenes category name
    mean_m: tuple[float, float, float]  #: Length, width, height
    std_m: tuple[float, float, float]  #: Their standard deviations
    rcs_dbsm: float  #: Median radar cross-section
    radar_seen: float  #: Share of such objects that a radar detects at all; the others never reflect enough
    radar_share: float  #: Chance that a radar ray that meets one of those yields a detection


CLASS_STATISTICS: Final[dict[str, ClassStatistics]] = {
    "car": ClassStatistics("vehicle.car", (4.53, 1.85, 1.67), (0.36, 0.13, 0.18), 8.0, 0.85, 0.19),
    "truck": ClassStatistics("vehicle.truck", (6.1, 2.28, 2.75), (0.7, 0.22, 0.4), 14.0, 1.0, 0.6),
    "bus": ClassStatistics("vehicle.bus.rigid", (11.6, 2.9, 3.45), (0.8, 0.08, 0.15), 18.0, 1.0, 0.9),
    "trailer": ClassStatistics("vehicle.trailer", (11.5, 2.7, 3.7), (1.8, 0.2, 0.3), 18.0, 1.0, 0.4),
    "construction_vehicle": ClassStatistics("vehicle.construction", (6.5, 2.75, 3.1), (1.0, 0.3, 0.35), 14.0, 0.9, 0.4),
    "pedestrian": ClassStatistics("human.pedestrian.adult", (0.68, 0.63, 1.74), (0.16, 0.08, 0.13), -2.0, 0.35, 0.6),
    "motorcycle": ClassStatistics("vehicle.motorcycle", (2.07, 0.63, 1.34), (0.25, 0.07, 0.1), 2.0, 0.35, 0.25),
    "bicycle": ClassStatistics("vehicle.bicycle", (1.75, 0.6, 1.3), (0.12, 0.07, 0.14), 1.0, 0.45, 0.6),
    "traffic_cone": ClassStatistics(
        "movable_object.trafficcone", (0.35, 0.33, 0.91), (0.05, 0.05, 0.17), -2.0, 0.45, 0.9
    ),
    "barrier": ClassStatistics("movable_object.barrier", (0.52, 2.3, 1.0), (0.06, 0.3, 0.1), 2.0, 0.25, 0.12),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """One annotated thing."""

    name: str  #: Unique in its world
    label: int  #: Index into `CLASSES`
    category: str  #: nuScenes category name
    size_m: FloatArray  #: (3,) float64 length, width, height of its box
    mesh: Mesh  #: In its own frame: x forward, origin at the bottom centre of the box
    track: FloatArray  #: (T, 3) float64 world x, y (m), yaw (rad, unwrapped) on the world's time grid
    base_z_m: float  #: Height of the ground it stands on
    rest_attribute: str  #: Attribute while it stands still, '' for none
    moving_attribute: str  #: Attribute while it moves

    @property
    def moves(self) -> bool:
        """Whether its pose changes at all."""
        return bool(np.ptp(self.track, axis=0).max() > 1e-6)

    def attribute(self, speed_mps: float) -> int:
        """Return the index into `ATTRIBUTES` at a speed, -1 for none."""
        name = self.moving_attribute if speed_mps > MOVING_MPS else self.rest_attribute
        return ATTRIBUTES.index(name) if name else -1


def draw_size(cls: str, rng: np.random.Generator, *, ridden: bool = False) -> FloatArray:
    """Return length, width and height (3,) drawn from the class's statistics, cut at 2 standard deviations."""
    kind = CLASS_STATISTICS[cls]
    # Proportions go together: a long car is a wide one.
    common = float(np.clip(rng.normal(), -2, 2))
    own = np.clip(rng.normal(size=3), -2, 2)
    size = np.array(kind.mean_m) + np.array(kind.std_m) * (0.6 * common + 0.8 * own).clip(-2, 2)
    if ridden:
        size[2] = float(rng.uniform(1.6, 1.82))
    rounded: FloatArray = np.round(size, 3)
    return rounded


def _shape(cls: str, size_m: FloatArray, rng: np.random.Generator, *, ridden: bool, moving: bool, posture: str) -> Mesh:
    length, width, height = (float(v) for v in size_m)
    if cls == "pedestrian":
        if posture == "sitting":
            return people.seated(rng)
        return people.person(rng, moving=moving, worker=posture == "worker")
    if cls == "bicycle":
        return people.bicycle(rng, ridden=ridden)
    if cls == "motorcycle":
        return people.motorcycle(rng, ridden=ridden)
    builders = {
        "car": models.car,
        "truck": models.truck,
        "bus": models.bus,
        "trailer": models.trailer,
        "construction_vehicle": models.construction_vehicle,
        "traffic_cone": models.traffic_cone,
        "barrier": models.barrier,
    }
    return builders[cls]((length, width, height), rng)


def make_actor(
    name: str,
    cls: str,
    track: FloatArray,
    rng: np.random.Generator,
    *,
    base_z_m: float = 0.0,
    parked: bool = False,
    ridden: bool = False,
    posture: str = "",
) -> Actor:
    """Return an actor with drawn size and shape.

    Args:
        name: Unique in its world.
        cls: Detection class.
        track: (T, 3) poses on the world's time grid.
        rng: Source of size, shape and colour.
        base_z_m: Height of the ground under it.
        parked: For vehicles: no driver, so that standing means parked and not stopped.
        ridden: For cycles.
        posture: For pedestrians: '' (standing or walking), 'sitting' or 'worker'.
    """
    moving = bool(np.ptp(track[:, :2], axis=0).max() > 0.5)
    size = draw_size(cls, rng, ridden=ridden)
    if posture == "sitting":
        size = np.array([rng.uniform(0.75, 0.95), rng.uniform(0.55, 0.7), rng.uniform(1.2, 1.38)]).round(3)
    rest, active = "", ""
    if cls in {"car", "truck", "bus", "trailer", "construction_vehicle"}:
        rest, active = "vehicle.parked" if parked else "vehicle.stopped", "vehicle.moving"
    elif cls == "pedestrian":
        rest = "pedestrian.sitting_lying_down" if posture == "sitting" else "pedestrian.standing"
        active = "pedestrian.moving"
    elif cls in {"bicycle", "motorcycle"}:
        rest = active = "cycle.with_rider" if ridden else "cycle.without_rider"
    category = "human.pedestrian.construction_worker" if posture == "worker" else CLASS_STATISTICS[cls].category
    mesh = _shape(cls, size, rng, ridden=ridden, moving=moving, posture=posture).fitted(size)
    return Actor(name, CLASSES.index(cls), category, size, mesh, track, base_z_m, rest, active)
