# SPDX-License-Identifier: Apache-2.0
"""Radars of the ARS408's kind: clusters with range, bearing, Doppler and cross-section; no height."""

from __future__ import annotations

from typing import Final

import numpy as np

from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import RADAR_DTYPE, RadarSweep
from peft_dml_ros.core.typing import AnyArray, FloatArray, IntArray
from peft_dml_ros.sim.actors import KINDS
from peft_dml_ros.sim.raycast import Caster

HALF_FOV_RAD: Final = np.deg2rad(60.0)
MAX_RANGE_M: Final = 100.0
NARROW_RANGE_M: Final = 70.0
NARROW_HALF_RAD: Final = np.deg2rad(9.0)
"""Beyond `NARROW_RANGE_M` only the far lobe sees."""

RAYS: Final = 340
MAX_POINTS: Final = 125
BACKGROUND_SHARE: Final = 0.16
GHOSTS_MEAN: Final = 2.0
MOVING_MPS: Final = 0.6


def _rays(rng: np.random.Generator) -> FloatArray:
    """(N, 3) unit directions in the sensor frame: denser ahead, a little up and down."""
    wide = rng.uniform(-HALF_FOV_RAD, HALF_FOV_RAD, RAYS * 3 // 4)
    narrow = rng.uniform(-NARROW_HALF_RAD, NARROW_HALF_RAD, RAYS - len(wide))
    azimuth = np.sort(np.concatenate([wide, narrow]))
    elevation = np.deg2rad(rng.uniform(-1.5, 5.0, RAYS))
    cos = np.cos(elevation)
    return np.stack([cos * np.cos(azimuth), cos * np.sin(azimuth), np.sin(elevation)], axis=1)


def measure(
    caster: Caster, base_SE3_radar: SE3, time_s: float, stamp_ns: int, rng: np.random.Generator
) -> tuple[RadarSweep, IntArray]:
    """One cycle of one radar.

    Args:
        caster: The world.
        base_SE3_radar: Mounting; x looks ahead.
        time_s: When, in the world's time.
        stamp_ns: Stamp to give it.
        rng: Noise.

    Returns:
        The sweep, and (A,) the number of detections of each actor.
    """
    world = caster.world
    world_SE3_radar = world.world_SE3_base(time_s) @ base_SE3_radar
    rays = _rays(rng)
    hits = caster.at(time_s).cast(world_SE3_radar.translation, world_SE3_radar.rotate(rays), MAX_RANGE_M)
    owner = np.where(hits.face >= 0, caster.owner[np.maximum(hits.face, 0)], -1)
    # The road itself sends waves away from the radar.
    ground = (hits.face >= 0) & (np.abs(hits.normal[:, 2]) > 0.9) & (owner < 0)
    flat = hits.range_m * np.hypot(rays[:, 0], rays[:, 1])
    bearing = np.arctan2(rays[:, 1], rays[:, 0])
    seen = (hits.face >= 0) & ~ground & (flat < MAX_RANGE_M) & (flat > 0.3)
    seen &= (flat < NARROW_RANGE_M) | (np.abs(bearing) < NARROW_HALF_RAD)
    share, rcs = _reflection(caster, owner)
    index = np.flatnonzero(seen & (rng.random(RAYS) < share))
    index = _thin(index, owner, rng)
    points = _points(caster, world_SE3_radar, time_s, index, flat, bearing, owner, rcs, rng)
    target = owner[index]
    return RadarSweep(stamp_ns, points), np.bincount(target[target >= 0], minlength=len(world.actors))


def _reflection(caster: Caster, owner: IntArray) -> tuple[FloatArray, FloatArray]:
    """Chance of detection and median cross-section (dBsm) of each ray's target."""
    kinds = [KINDS[CLASSES[a.label]] for a in caster.world.actors]
    share = np.array([*[k.radar_share for k in kinds], BACKGROUND_SHARE])
    rcs = np.array([*[k.rcs_dbsm for k in kinds], 5.0])
    return share[owner], rcs[owner]


def _thin(index: IntArray, owner: IntArray, rng: np.random.Generator) -> IntArray:
    """At most a handful of clusters of one target, and of all: the device merges what is close."""
    order = rng.permutation(index)
    kept, used = [], dict[int, int]()
    for i in order:
        target = int(owner[i])
        used[target] = used.get(target, 0) + 1
        if target < 0 or used[target] <= 6:
            kept.append(int(i))
    return np.array(kept[:MAX_POINTS], dtype=np.int64)


def _points(
    caster: Caster,
    world_SE3_radar: SE3,
    time_s: float,
    index: IntArray,
    flat_m: FloatArray,
    bearing_rad: FloatArray,
    owner: IntArray,
    rcs_dbsm: FloatArray,
    rng: np.random.Generator,
) -> AnyArray:
    """(N,) `RADAR_DTYPE`: measured targets, then ghosts."""
    n, ghosts = len(index), int(rng.poisson(GHOSTS_MEAN))
    target = owner[index]
    # Waves come back from wheel arches and the far edge as well as from the nearest surface.
    depth = np.where(target >= 0, np.abs(rng.normal(0.15, 0.25, n)), 0.0)
    distance = np.concatenate([flat_m[index] + depth + rng.normal(0, 0.08, n), rng.uniform(3, 70, ghosts)])
    angle = np.concatenate(
        [bearing_rad[index] + rng.normal(0, np.deg2rad(0.6), n), rng.uniform(-HALF_FOV_RAD, HALF_FOV_RAD, ghosts)]
    )
    sight = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    _, velocities = caster.world.states(time_s)
    over_ground = np.concatenate([np.where(target[:, None] >= 0, velocities[target], 0.0), np.zeros((ghosts, 2))])
    turn = world_SE3_radar.rotation[:2, :2]
    doppler = np.einsum("ij,ij->i", over_ground @ turn, sight) + rng.normal(0, 0.1, n + ghosts)
    doppler[n:] += rng.normal(0, 2.0, ghosts) * (rng.random(ghosts) < 0.3)
    # The device compensates by the velocity at its own mounting, turning included.
    arm = world_SE3_radar.translation[:2] - caster.world.world_SE3_base(time_s).translation[:2]
    yaw_rate = float(np.interp(time_s, caster.world.times_s, caster.world.ego.yaw_rate_radps))
    own = (caster.world.ego_velocity_mps(time_s) + yaw_rate * np.array([-arm[1], arm[0]])) @ turn
    raw = doppler - sight @ own
    out = np.zeros(n + ghosts, RADAR_DTYPE)
    out["x"], out["y"] = distance * sight[:, 0], distance * sight[:, 1]
    out["vx_comp"], out["vy_comp"] = doppler * sight[:, 0], doppler * sight[:, 1]
    out["vx"], out["vy"] = raw * sight[:, 0], raw * sight[:, 1]
    median = np.concatenate([rcs_dbsm[index], np.full(ghosts, -1.0)])
    out["rcs"] = np.round((median + rng.normal(0, 5.0, n + ghosts)).clip(-20, 40) * 2) / 2
    moving = np.abs(doppler) > MOVING_MPS
    out["dyn_prop"] = np.where(moving, np.where(doppler > 0, 0, 2), np.where(rng.random(n + ghosts) < 0.25, 3, 1))
    out["id"] = np.arange(n + ghosts)
    out["is_quality_valid"], out["ambig_state"] = 1, 3
    out["x_rms"], out["y_rms"], out["vx_rms"], out["vy_rms"] = 19, 19, 16, 3
    out["pdh0"] = np.where(np.arange(n + ghosts) < n, 1, 3)
    return out
