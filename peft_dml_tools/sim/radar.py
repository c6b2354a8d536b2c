# SPDX-License-Identifier: Apache-2.0
"""Radars of the ARS408's kind: clusters with range, bearing, Doppler and cross-section; no height."""

from typing import Final
from weakref import WeakKeyDictionary

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import RADAR_DTYPE, RadarSweep, trusted_radar_points
from peft_dml_ros.core.typing import AnyArray, BoolArray, FloatArray, IntArray
from peft_dml_tools.sim import radar_echo
from peft_dml_tools.sim.radar_echo import Echoes, Reflectors
from peft_dml_tools.sim.raycast import Caster, Hits

HALF_FOV_RAD: Final = np.deg2rad(60.0)
MAX_RANGE_M: Final = 250.0
NARROW_RANGE_M: Final = 70.0
NARROW_HALF_RAD: Final = np.deg2rad(9.0)  #: Beyond `NARROW_RANGE_M` only the far lobe sees
RAYS: Final = 320  #: A whole number of the caster's blocks: what is left over would be tried against every mover
MOVER_RANGE_M: Final = 120.0
MAX_POINTS: Final = 125  #: What the device sends at most in a cycle
BACKGROUND_SHARE: Final = 1.0
CLUTTER_MEAN: Final = 6.0
MIRROR_TRIES: Final = 5
MOVING_MPS: Final = 0.6
DOPPLER_SIGMA_MPS: Final = 0.15
WILD_SHARE: Final = 0.05
#: Some compensated velocities are far off; real ones of still things have a median of 0.1 to 0.6 m/s
WILD_MPS: Final = 1.5

CELL_M: Final = 0.2  #: The device reports places in steps of this
_reflectors: WeakKeyDictionary[Caster, Reflectors] = WeakKeyDictionary()


def _rays(rng: np.random.Generator) -> FloatArray:
    """Return unit directions (N, 3) in the sensor frame, by bearing: denser ahead, a little up and down."""
    wide = rng.uniform(-HALF_FOV_RAD, HALF_FOV_RAD, RAYS // 2)
    ahead = rng.normal(0, np.deg2rad(13.0), RAYS - len(wide)).clip(-HALF_FOV_RAD, HALF_FOV_RAD)
    azimuth = np.sort(np.concatenate([wide, ahead]))
    elevation = np.deg2rad(rng.uniform(-0.7, 4.0, RAYS))
    cos = np.cos(elevation)
    return np.stack([cos * np.cos(azimuth), cos * np.sin(azimuth), np.sin(elevation)], axis=1)


def measure(
    caster: Caster, base_SE3_radar: SE3, time_s: float, stamp_ns: int, rng: np.random.Generator
) -> tuple[RadarSweep, IntArray]:
    """Return a radar's cycle, by range as devices send it, and (A,) the number of trusted detections of each actor."""
    if caster not in _reflectors:
        _reflectors[caster] = Reflectors.of(caster.world.actors, caster.world.seed)
    world_SE3_radar = caster.world.world_SE3_base(time_s) @ base_SE3_radar
    rays = _rays(rng)
    hits = caster.at(time_s).cast(world_SE3_radar.translation, world_SE3_radar.rotate(rays), MOVER_RANGE_M)
    echoes = _echoes(caster, _reflectors[caster], world_SE3_radar, time_s, rays, hits, rng)
    points = _points(caster, echoes, world_SE3_radar, time_s, rng)
    owner = echoes.owner[trusted_radar_points(points)]
    return RadarSweep(stamp_ns, points), np.bincount(owner[owner >= 0], minlength=len(caster.world.actors))


def bearing_sigma_rad(bearing_rad: FloatArray) -> FloatArray:
    """Return the standard deviation of measured bearings: 0.6 degrees ahead, 3 at the lobe's edge."""
    sigma: FloatArray = np.deg2rad(0.6 + 2.4 * (bearing_rad / HALF_FOV_RAD) ** 2)
    return sigma


def _in_view(position_m: FloatArray) -> BoolArray:
    range_m = np.hypot(position_m[:, 0], position_m[:, 1])
    bearing = np.abs(np.arctan2(position_m[:, 1], position_m[:, 0]))
    seen: BoolArray = (range_m > 0.3) & (range_m < MAX_RANGE_M) & (bearing < HALF_FOV_RAD)
    seen &= (range_m < NARROW_RANGE_M) | (bearing < NARROW_HALF_RAD)
    return seen


def _echoes(
    caster: Caster,
    reflectors: Reflectors,
    world_SE3_radar: SE3,
    time_s: float,
    rays: FloatArray,
    hits: Hits,
    rng: np.random.Generator,
) -> Echoes:
    """Return everything that is detected, by range."""
    turn = world_SE3_radar.rotation[:2, :2]
    poses, speeds = caster.world.states(time_s)
    speeds = speeds @ turn
    met = hits.face >= 0
    owner = np.where(met, caster.owner[np.maximum(hits.face, 0)], -1).astype(np.int64)
    flat = np.where(met, hits.range_m, np.inf) * np.hypot(rays[:, 0], rays[:, 1])
    bearing = np.arctan2(rays[:, 1], rays[:, 0])
    # The road itself sends waves away from the radar.
    wall = met & (owner < 0) & (np.abs(hits.normal[:, 2]) < 0.7) & (flat < MAX_RANGE_M)
    targets = _targets(reflectors, (bearing, flat, owner), poses[:, 2], world_SE3_radar.yaw_rad, wall, rng)
    targets.velocity_mps[:] = np.where(targets.owner[:, None] >= 0, speeds[targets.owner], 0.0)
    centres = (poses[:, :2] - world_SE3_radar.translation[:2]) @ turn
    under = radar_echo.hidden(reflectors, centres, speeds, (bearing, flat, owner), rng)
    standing = np.flatnonzero(wall & (np.abs(hits.normal[:, 2]) < 0.2))
    normals = hits.normal[standing, :2].astype(np.float64) @ turn
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    places = flat[standing, None] * np.stack([np.cos(bearing[standing]), np.sin(bearing[standing])], axis=1)
    images = radar_echo.mirrored(targets, places, normals, MIRROR_TRIES, rng)
    noise = radar_echo.clutter(int(rng.poisson(CLUTTER_MEAN)), HALF_FOV_RAD, rng)
    every = Echoes.join([targets, under, images, noise])
    loud = every.rcs_dbsm > radar_echo.floor_dbsm(every.range_m)
    every = every.take(loud & _in_view(every.position_m))
    # What the device leaves out when there is too much is not the farthest.
    chosen = rng.permutation(len(every.owner))[:MAX_POINTS]
    return every.take(chosen[np.argsort(every.range_m[chosen])])


def _targets(
    reflectors: Reflectors,
    nearest: tuple[FloatArray, FloatArray, IntArray],
    yaws_rad: FloatArray,
    own_yaw_rad: float,
    wall: BoolArray,
    rng: np.random.Generator,
) -> Echoes:
    """Return detections of what the rays met: actors, then background; velocities are filled in later."""
    bearing, flat, owner = nearest
    actor = np.flatnonzero(owner >= 0)
    actor = _thin(actor[rng.random(len(actor)) < reflectors.share[owner[actor]]], owner, reflectors.most, rng)
    # Near walls fill many rays and are one reflector; far ones count as often as they are met.
    behind = np.flatnonzero(wall)
    behind = behind[rng.random(len(behind)) < BACKGROUND_SHARE * np.minimum(flat[behind] / 35.0, 1.0)]
    target = owner[actor]
    aspect = yaws_rad[target] - own_yaw_rad - bearing[actor]
    gain = np.where(reflectors.vehicle[target], radar_echo.aspect_gain_db(aspect), 0.0)
    # Of walls and poles most reflect little and some very much: corners that face the radar.
    still = radar_echo.BACKGROUND_DBSM + rng.exponential(radar_echo.BACKGROUND_TAIL_DB, len(behind))
    median = np.concatenate([reflectors.rcs_dbsm[target] + gain, still])
    index = np.concatenate([actor, behind])
    fading = rng.normal(0, radar_echo.FADING_DB, len(index))
    # Waves come back from wheel arches and the far edge as well as from the nearest surface.
    depth = np.where(owner[index] >= 0, np.abs(rng.normal(0.15, 0.25, len(index))), 0.0)
    distance = flat[index] + depth + rng.normal(0, 0.08, len(index))
    angle = bearing[index] + rng.normal(0, 1, len(index)) * bearing_sigma_rad(bearing[index])
    position = distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    kind = np.full(len(index), radar_echo.TARGET)
    return Echoes(position, np.zeros((len(index), 2)), median + fading, owner[index], kind)


def _thin(index: IntArray, owner: IntArray, most: IntArray, rng: np.random.Generator) -> IntArray:
    """Return a handful of one target's rays: the device merges what is close."""
    index = rng.permutation(index)
    order = np.argsort(owner[index], kind="stable")
    sorted_owner = owner[index][order]
    rank = np.arange(len(index)) - np.searchsorted(sorted_owner, sorted_owner)
    thinned: IntArray = index[order[rank < most[sorted_owner]]]
    return thinned


def _points(caster: Caster, echoes: Echoes, world_SE3_radar: SE3, time_s: float, rng: np.random.Generator) -> AnyArray:
    """Return the echoes (N,) `RADAR_DTYPE` as the device reports them."""
    world, n = caster.world, len(echoes.owner)
    sight = echoes.position_m / np.maximum(echoes.range_m, 1e-6)[:, None]
    spread = np.where(rng.random(n) < WILD_SHARE, WILD_MPS, DOPPLER_SIGMA_MPS)
    doppler = np.einsum("ij,ij->i", echoes.velocity_mps, sight) + spread * rng.normal(size=n)
    speed = np.abs(doppler)
    mine = echoes.owner >= 0
    who = np.maximum(echoes.owner, 0)
    limbs = _reflectors[caster].micro_mps[who] if len(world.actors) else np.zeros(n)
    doppler += np.where(mine & (speed > 0.3), limbs * rng.normal(size=n), 0.0)
    # The device compensates by the velocity at its own mounting, turning included, as well as it knows it.
    turn = world_SE3_radar.rotation[:2, :2]
    arm = world_SE3_radar.translation[:2] - world.world_SE3_base(time_s).translation[:2]
    yaw_rate = float(np.interp(time_s, world.times_s, world.ego.yaw_rate_radps))
    own = (world.ego_velocity_mps(time_s) + yaw_rate * np.array([-arm[1], arm[0]])) @ turn
    doppler += sight @ (own * rng.normal(0, 0.006))
    out = np.zeros(n, RADAR_DTYPE)
    place = np.round(echoes.position_m / CELL_M) * CELL_M
    out["x"], out["y"] = place[:, 0], place[:, 1]
    out["vx_comp"], out["vy_comp"] = np.round(doppler * sight[:, 0], 2), np.round(doppler * sight[:, 1], 2)
    raw = np.round((doppler[:, None] * sight - own) * 4) / 4
    out["vx"], out["vy"] = raw[:, 0], raw[:, 1]
    out["rcs"] = np.round(echoes.rcs_dbsm.clip(-20, 40) * 2) / 2
    out["id"] = np.arange(n)
    out["is_quality_valid"] = 1
    out["dyn_prop"] = _dynamics(doppler, sight, float(np.hypot(*own)), rng)
    _states(out, echoes, rng)
    return out


def _dynamics(doppler: FloatArray, sight: FloatArray, own_mps: float, rng: np.random.Generator) -> IntArray:
    """Return dyn_prop (N,): 0 moving, 1 stationary, 2 oncoming, 3 perhaps stationary, 5, 6 crossing."""
    n, chance = len(doppler), rng.random(len(doppler))
    # Who drives himself cannot tell as surely that a thing stands still.
    candidates = 0.28 if own_mps > 1.0 else 0.08
    still = np.select([chance < candidates, chance > 0.995, chance > 0.96], [3, 5, 0], 1)
    aside = (np.abs(sight[:, 1]) > 0.75) & (rng.random(n) < 0.4)
    moving = np.select([aside, doppler > 0], [6, 0], 2)
    return np.asarray(np.where(np.abs(doppler) > MOVING_MPS, moving, still))


def _states(out: AnyArray, echoes: Echoes, rng: np.random.Generator) -> None:
    """Fill validity, ambiguity, false-alarm class and error classes; the mix is an assumption.

    What the devkit's default filters leave (about 6 of 10) carries the codes of real points.
    """
    n, chance = len(out), rng.random(len(out))
    valid = chance < np.select([echoes.owner >= 0, echoes.kind == radar_echo.TARGET], [0.85, 0.6], 0.35)
    other = rng.choice([11, 17, 9, 16, 12, 10], size=n, p=[0.35, 0.2, 0.15, 0.15, 0.1, 0.05])
    weak = echoes.rcs_dbsm < radar_echo.floor_dbsm(echoes.range_m) + 6.0
    out["invalid_state"] = np.select(
        [valid, echoes.kind == radar_echo.MIRROR, weak], [0, 6, rng.choice([1, 4], size=n)], other
    )
    out["ambig_state"] = np.where(rng.random(n) < np.where(valid, 0.03, 0.15), rng.choice([1, 2, 4], size=n), 3)
    ghost = (echoes.kind != radar_echo.TARGET) & (rng.random(n) < 0.4)
    out["pdh0"] = np.where(ghost | (~valid & (rng.random(n) < 0.3)), rng.integers(2, 5, n), 1)
    spread = echoes.range_m / 150.0
    out["x_rms"] = np.minimum(19 + (rng.exponential(0.55, n) + spread).astype(np.int64), 24)
    out["y_rms"] = np.minimum(19 + (rng.exponential(0.6, n) + 2 * spread).astype(np.int64), 25)
    out["vx_rms"] = np.minimum(16 + rng.exponential(0.75, n).astype(np.int64), 20)
    out["vy_rms"] = 3
