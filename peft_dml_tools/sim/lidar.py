# SPDX-License-Identifier: Apache-2.0
"""A spinning LiDAR: a rolling scan by ray casting, intensity by material and incidence.

The conventions are those of nuScenes' files. A turn starts on the left (-x of the sensor frame), goes clockwise and is
stamped at its end, so that cameras fire as the beam passes them. Each column of beams has its own time: the sensor
and everything that moves are where they are then. All firings are kept, in order; those without return are points of
range 0. The files hold points that are compensated for the vehicle's own motion, not for that of objects: in the real
keyframe the firings without return trail behind the sensor by 0.45 m x (1 - share of the turn), which is its 9 m/s
times 50 ms. So it is here, unless raw points are asked for, as a driver gives them.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import LidarSweep
from peft_dml_ros.core.typing import BoolArray, Float32Array, FloatArray, IntArray
from peft_dml_tools.sim.ego_body import ego_body
from peft_dml_tools.sim.mesh import Surface, normals_of
from peft_dml_tools.sim.raycast import RETRO_REFLECTANCE, Caster, Hits, tree_of
from peft_dml_tools.sim.world import World

TURN_S: Final = 0.05  #: Duration of a turn. Slower rates leave turns out: the head does not slow down.
MIN_RANGE_M: Final = 0.5
MAX_RANGE_M: Final = 105.0
RANGE_SIGMA_M: Final = 0.02
FULL_SCALE: Final = 125.0  #: Intensity of a perfect white diffuse surface at normal incidence
SPECKLE: Final = 0.05  #: Standard deviation of the logarithm of the intensity from point to point; faces differ by more
AMBIENT: Final = 0.15  #: Share of a surface's return that does not depend on incidence: it is rough
FAINTEST: Final = 1.5e-5  #: Reflectance / m² at which 63 % of firings return
GLASS_RETURNS: Final = 0.3  #: Share of firings at glass that come back from it, or from behind it

#: Share of firings that come back from a vehicle's lacquer at grazing incidence, a mirror there; all do head on
COATING_RETURNS: Final = 0.25

FOLIAGE_DEPTH_M: Final = 0.2  #: Mean depth at which a beam meets a leaf behind the outline of a crown or a hedge
LOST: Final = 0.005
RETRO_INTENSITY: Final = (100.0, 290.0)  #: What retro-reflectors return from all sides; the scale ends at 255
IDLE_INTENSITY: Final = 9.0  #: Median intensity of firings without return


@dataclass(frozen=True, slots=True)
class LidarModel:
    """Beams of a make of LiDAR."""

    elevations_deg: tuple[float, ...]  #: Of each ring, lowest first
    azimuths: int  #: Columns a turn
    order: tuple[int, ...]  #: Ring numbers in the order in which the beams of a column fire
    firing_s: float  #: Time between two beams of a column

    @property
    def rings(self) -> int:
        """Number of beams."""
        return len(self.elevations_deg)


HDL32E: Final = LidarModel(
    tuple(-30.67 + ring * 4 / 3 for ring in range(32)), 1085, tuple(k // 2 + 16 * (k % 2) for k in range(32)), 1.152e-6
)
#: 40 beams, close together around the horizon; columns are fewer than the real one's so that both cost the same
PANDAR40P: Final = LidarModel(
    (-25.0, -19.0, *range(-14, -6), *(k / 3 for k in range(-18, 6)), 2.0, 3.0, 5.0, 8.0, 11.0, 15.0),
    868,
    tuple(range(40)),
    1.0e-6,
)

MODELS: Final = {"hdl32e": HDL32E, "pandar40p": PANDAR40P}


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One turn, in firing order: column by column; N = azimuths * rings."""

    directions: Float32Array  #: (N, 3) float32 unit, sensor frame
    ring: Float32Array  #: (N,) float32
    column_s: FloatArray  #: (azimuths,) float64 time of each column relative to the turn's end
    offset_s: Float32Array  #: (N,) float32 the same for each firing


@lru_cache(maxsize=2)
def _pattern(model: LidarModel) -> _Pattern:
    ring = np.arange(model.rings)
    column_s = np.arange(model.azimuths) * TURN_S / model.azimuths - TURN_S
    fired_s = column_s[:, None] + model.firing_s * np.argsort(model.order)
    azimuth = np.pi - (fired_s / TURN_S + 1) * 2 * np.pi
    elevation = np.broadcast_to(np.deg2rad(model.elevations_deg), azimuth.shape)
    directions = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=-1
    )
    return _Pattern(
        directions.reshape(-1, 3).astype(np.float32),
        np.tile(ring, model.azimuths).astype(np.float32),
        column_s,
        np.repeat(column_s, model.rings).astype(np.float32),
    )


@dataclass(frozen=True, slots=True)
class _EgoReturns:
    """Where beams meet the vehicle itself, which is always the same."""

    index: IntArray  #: (K,) firings
    range_m: Float32Array  #: (K,) float32
    reflectance: Float32Array  #: (K,) float32
    cosine: Float32Array  #: (K,) float32 of incidence


@lru_cache(maxsize=4)
def _own(model: LidarModel, roof_m: float, pose: tuple[float, ...]) -> _EgoReturns:
    """Return what the LiDAR of a mounting (rotation, translation) sees of the vehicle."""
    rotation, origin = np.reshape(pose[:9], (3, 3)), np.array(pose[9:])
    rays = np.ascontiguousarray(_pattern(model).directions @ rotation.T, dtype=np.float32)
    body = ego_body(roof_m)
    starts = np.ascontiguousarray(np.broadcast_to(origin, rays.shape), dtype=np.float32)
    out = tree_of(body.vertices, body.faces).run(starts, rays, output=True)
    index = np.flatnonzero(out["primID"] >= 0)
    face = out["primID"][index]
    cosine = np.abs(np.einsum("ij,ij->i", normals_of(body)[face], rays[index]))
    return _EgoReturns(index, out["tfar"][index], body.reflectance[face], cosine.astype(np.float32))


def scan(
    caster: Caster,
    base_SE3_lidar: SE3,
    time_s: float,
    stamp_ns: int,
    rng: np.random.Generator,
    *,
    compensated: bool = True,
    model: LidarModel = HDL32E,
    keep_every: int = 1,
    roof_m: float = 0.0,
) -> tuple[LidarSweep, IntArray]:
    """Return one turn, a point for each firing that is kept, and (A,) the number of returns from each actor.

    Args:
        caster: The world.
        base_SE3_lidar: Mounting.
        time_s: When it ends, in the world's time.
        stamp_ns: Stamp to give it.
        rng: Noise.
        compensated: Points in the sensor frame at the stamp, as in nuScenes' files, by the true motion of the vehicle;
            else each in the sensor frame of its firing.
        model: Beams and columns.
        keep_every: Only every second, third, ... ring is kept; ring indices stay.
        roof_m: By how much the vehicle's roof is higher than a nuScenes car's.
    """
    pattern = _pattern(model)
    place, yaw_rad = _motion(caster.world, base_SE3_lidar, time_s, pattern.column_s)
    end = caster.world.world_SE3_base(time_s) @ base_SE3_lidar
    rays = _turned(end.rotate(pattern.directions), yaw_rad)
    origins = np.repeat(end.translation + place, model.rings, axis=0)
    hits = caster.at(time_s, TURN_S).cast_rolling(origins, rays, pattern.offset_s, MAX_RANGE_M)
    own = _own(model, roof_m, (*base_SE3_lidar.rotation.ravel(), *base_SE3_lidar.translation))
    ranges, intensity, from_world = _returns(caster, hits, rays, own, rng)
    points = np.empty((len(ranges), 5), np.float32)
    points[:, :3] = pattern.directions * ranges[:, None]
    if compensated:
        shift = np.repeat((place @ end.rotation).astype(np.float32), model.rings, axis=0)
        points[:, :3] = (rays * ranges[:, None]) @ end.rotation.astype(np.float32) + shift
    points[:, 3] = intensity
    points[:, 4] = pattern.ring
    fired = pattern.ring % keep_every == 0
    from_world = from_world[fired[from_world]]
    owner = caster.owner[hits.face[from_world]]
    counts = np.bincount(owner[owner >= 0], minlength=len(caster.world.actors))
    return LidarSweep(stamp_ns, points if keep_every == 1 else points[fired]), counts


def _motion(world: World, base_SE3_lidar: SE3, time_s: float, column_s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return position (C, 3) in m, world axes, and yaw (C,) of the LiDAR at each column, relative to the turn's end.

    Roll and pitch stay those of the end: within a turn they change by less than a tenth of a degree.
    """
    begin = max(time_s - TURN_S, 0.0)
    first, last, end = (world.world_SE3_base(t) for t in (begin, begin + TURN_S, time_s))
    step = first.inverse() @ last
    part = column_s / TURN_S
    yaw = step.yaw_rad * part
    cos, sin = np.cos(yaw) - 1, np.sin(yaw)
    # The vehicle turns about its rear axle, and the LiDAR stands ahead of that.
    lever = end.rotation @ base_SE3_lidar.translation
    swing = np.column_stack([lever[0] * cos - lever[1] * sin, lever[0] * sin + lever[1] * cos, 0 * cos])
    return part[:, None] * (last.translation - first.translation) + swing, yaw


def _turned(rays: Float32Array, yaw_rad: FloatArray) -> Float32Array:
    """Return rays (N, 3), each column of beams turned about +z by its yaw."""
    cos, sin = (v.astype(np.float32)[:, None] for v in (np.cos(yaw_rad), np.sin(yaw_rad)))
    columns = rays.reshape(len(yaw_rad), -1, 3)
    out = np.empty_like(columns)
    out[..., 0] = columns[..., 0] * cos - columns[..., 1] * sin
    out[..., 1] = columns[..., 0] * sin + columns[..., 1] * cos
    out[..., 2] = columns[..., 2]
    return out.reshape(-1, 3)


def _returns(
    caster: Caster, hits: Hits, rays: Float32Array, own: _EgoReturns, rng: np.random.Generator
) -> tuple[Float32Array, Float32Array, IntArray]:
    """Return ranges (N,) in m, 0 for none, intensities (N,), and the firings that the world returned."""
    face = np.maximum(hits.face, 0)
    reflectance = caster.laser_reflectance[face]
    cosine = np.abs(np.einsum("ij,ij->i", hits.normal, rays))
    chance = np.where(caster.mesh.surface[face] == int(Surface.GLASS), np.float32(GLASS_RETURNS), np.float32(1 - LOST))
    coated = np.flatnonzero(caster.clear_coated[face])
    chance[coated] *= np.float32(COATING_RETURNS) + np.float32(1 - COATING_RETURNS) * cosine[coated]
    ranges = hits.range_m.copy()
    ranges[own.index], reflectance[own.index], cosine[own.index] = own.range_m, own.reflectance, own.cosine
    chance[own.index] = 1.0
    seen = _seen(ranges, reflectance * _incidence(cosine), chance, rng)
    noise = rng.standard_normal((2, len(rays)), dtype=np.float32)
    intensity = FULL_SCALE * reflectance * _incidence(cosine) * np.exp(np.float32(SPECKLE) * noise[0])
    bright = np.flatnonzero(reflectance >= RETRO_REFLECTANCE)
    intensity[bright] = rng.uniform(*RETRO_INTENSITY, len(bright))
    idle = np.flatnonzero(~seen)
    intensity[idle] = IDLE_INTENSITY * np.exp(1.2 * noise[0, idle])
    ranges += np.float32(RANGE_SIGMA_M) * noise[1]
    leafy = caster.mesh.surface[face] == int(Surface.FOLIAGE)
    leafy[own.index] = False
    leaves = np.flatnonzero(leafy)
    ranges[leaves] += rng.exponential(FOLIAGE_DEPTH_M, len(leaves)).astype(np.float32)
    ranges[idle] = 0.0
    from_world = seen.copy()
    from_world[own.index] = False
    return ranges, np.floor(np.clip(intensity, 1.0, 255.0)), np.flatnonzero(from_world)


def _incidence(cosine: Float32Array) -> Float32Array:
    """Return the share of a surface's full return, by the cosine of incidence."""
    share: Float32Array = np.float32(AMBIENT) + np.float32(1 - AMBIENT) * cosine
    return share


def _seen(ranges: Float32Array, strength: Float32Array, chance: Float32Array, rng: np.random.Generator) -> BoolArray:
    """Return whether each firing returns: energy falls with the square of range down to the detector's floor."""
    faintness = np.float32(-1 / FAINTEST) * strength / np.maximum(ranges, 1.0) ** 2
    seen: BoolArray = (ranges > MIN_RANGE_M) & (ranges < MAX_RANGE_M)
    seen &= rng.random(len(ranges), dtype=np.float32) < chance * (1.0 - np.exp(faintness))
    return seen
