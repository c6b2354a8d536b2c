# SPDX-License-Identifier: Apache-2.0
"""Cameras by ray casting: sun, shadows, sky, haze, and textures that follow from position."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import CameraModel
from peft_dml_ros.core.typing import AnyArray, Float32Array, UInt8Array
from peft_dml_ros.sim.mesh import Surface
from peft_dml_ros.sim.raycast import Caster, Hits, Instant
from peft_dml_ros.sim.road import CROSSING_HALF_M, CYCLE_STRIP_M, LANE_M, Road

ZENITH = np.array([0.30, 0.48, 0.78], np.float32)
HORIZON = np.array([0.74, 0.80, 0.86], np.float32)
HAZE_M = 260.0
SHADED_BELOW_M = 4.0
SHADED_WITHIN_M = 90.0
GRAIN_WITHIN_M = 45.0
GAMMA_LEVELS = 4096


@lru_cache(maxsize=16)
def _rays(fx: float, fy: float, cx: float, cy: float, width: int, height: int) -> Float32Array:
    """(H * W, 3) float32 unit directions of pixel centres in the optical frame."""
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([(u - cx) / fx, (v - cy) / fy, np.ones_like(u)], axis=-1).reshape(-1, 3)
    unit: Float32Array = (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)
    return unit


def render(
    caster: Caster, base_SE3_camera: SE3, camera: CameraModel, time_s: float, rng: np.random.Generator
) -> UInt8Array:
    """(H, W, 3) uint8 RGB picture at one instant."""
    world_SE3_camera = caster.world.world_SE3_base(time_s) @ base_SE3_camera
    k = camera.intrinsics
    optical = _rays(k[0, 0], k[1, 1], k[0, 2], k[1, 2], camera.width_px, camera.height_px)
    rays = world_SE3_camera.rotate(optical)
    instant = caster.at(time_s)
    origin = world_SE3_camera.translation.astype(np.float32)
    hits = instant.cast(origin, rays)
    linear = _shade(caster, instant, hits, origin, rays)
    gain = float(rng.uniform(0.95, 1.05))
    coded = _gamma()[np.clip(linear * np.float32(gain * (GAMMA_LEVELS - 1)), 0, GAMMA_LEVELS - 1).astype(np.int32)]
    noisy = coded + rng.normal(0, 2.0, coded.shape[0]).astype(np.float32)[:, None]
    return np.clip(noisy, 0, 255).astype(np.uint8).reshape(camera.height_px, camera.width_px, 3)


def encode_jpeg(pixels: UInt8Array, quality: int = 85) -> bytes:
    """JPEG bytes of an RGB picture."""
    import cv2  # noqa: PLC0415 - keeps the rest of the simulator free of it

    ok, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        msg = f"OpenCV could not encode a picture of shape {pixels.shape}"
        raise RuntimeError(msg)
    return bytes(data)


@lru_cache(maxsize=1)
def _gamma() -> Float32Array:
    return (255.0 * (np.arange(GAMMA_LEVELS) / (GAMMA_LEVELS - 1)) ** (1 / 2.2)).astype(np.float32)


def _shade(caster: Caster, instant: Instant, hits: Hits, origin: Float32Array, rays: Float32Array) -> Float32Array:
    """(N, 3) float32 linear light."""
    colour = np.empty_like(rays)
    sky, solid = np.flatnonzero(hits.face < 0), np.flatnonzero(hits.face >= 0)
    colour[sky] = HORIZON + (ZENITH - HORIZON) * np.clip(rays[sky, 2:3] * np.float32(2.2), 0, 1)
    face, ranges, normal = hits.face[solid], hits.range_m[solid], hits.normal[solid]
    points = origin + rays[solid] * ranges[:, None]
    sun = caster.world.sun.astype(np.float32)
    facing = np.clip(normal @ sun, 0, None)
    # What is high is nearly always in the sun, and tells a detector nothing.
    lit = np.flatnonzero((facing > 0) & (points[:, 2] < SHADED_BELOW_M) & (ranges < SHADED_WITHIN_M))
    start = points[lit] + normal[lit] * np.float32(0.02)
    facing[lit] *= 1.0 - instant.blocked(start, sun, origin)
    light = np.float32(0.95) * facing + np.float32(0.38) + np.float32(0.10) * normal[:, 2]
    surface = caster.mesh.surface[face]
    road = np.flatnonzero((surface == int(Surface.ROAD)) | (surface == int(Surface.PAVEMENT)))
    uv = np.zeros((len(solid), 2), np.float32)
    uv[road] = hits.uv(caster, solid[road])
    albedo = caster.light_albedo[face]
    _grain(albedo, np.where(ranges < GRAIN_WITHIN_M, surface, np.uint8(Surface.PLAIN)), points)
    _paint(albedo, surface, points, normal, uv, caster.world.road)
    shaded = albedo * light[:, None]
    glass = surface == int(Surface.GLASS)
    shaded[glass] += np.float32(0.12) * HORIZON
    haze = np.exp(-ranges / np.float32(HAZE_M))[:, None]
    colour[solid] = shaded * haze + HORIZON * (1 - haze)
    return colour


def _noise(cells: npt.NDArray[np.int64]) -> Float32Array:
    """(N,) float32 in [0, 1), the same for the same (N, 2) cell: an integer hash."""
    mixed = (cells[:, 0] * 73856093) ^ (cells[:, 1] * 19349663)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return ((mixed & 0xFFFF) / np.float32(65536.0)).astype(np.float32)


def _grain(albedo: Float32Array, surface: UInt8Array, points: Float32Array) -> None:
    """Makes asphalt, grass and leaves uneven, in place."""
    for kind, cell_m, depth in ((Surface.ROAD, 0.35, 0.12), (Surface.GRASS, 0.5, 0.3), (Surface.FOLIAGE, 0.3, 0.5)):
        at = np.flatnonzero(surface == int(kind))
        grain = _noise(np.floor(points[at, :2] / cell_m + points[at, 2:] * (kind == Surface.FOLIAGE)).astype(np.int64))
        albedo[at] *= (1 - depth / 2 + depth * grain)[:, None]


def _paint(
    albedo: Float32Array, surface: UInt8Array, points: Float32Array, normal: Float32Array, uv: Float32Array, road: Road
) -> None:
    """Road markings, paving joints and windows, in place."""
    paving = np.flatnonzero(surface == int(Surface.PAVEMENT))
    joints = (np.mod(uv[paving], 1.5) < 0.06).any(axis=1)
    albedo[paving] *= np.where(joints, 0.75, 1.0).astype(np.float32)[:, None]
    at = np.flatnonzero(surface == int(Surface.ROAD))
    white, yellow = _markings(uv[at], road)
    albedo[at[white]] = np.float32(0.72)
    albedo[at[yellow]] = np.array([0.70, 0.50, 0.10], np.float32)
    walls = np.flatnonzero(surface == int(Surface.FACADE))
    along = points[walls, 0] * normal[walls, 1] - points[walls, 1] * normal[walls, 0]
    level = np.mod(points[walls, 2], 3.2)
    window = (np.mod(along, 2.6) > 0.9) & (level > 1.0) & (level < 2.5) & (np.abs(normal[walls, 2]) < 0.5)
    albedo[walls[window]] = np.array([0.06, 0.08, 0.10], np.float32)


def _markings(uv: Float32Array, road: Road) -> tuple[AnyArray, AnyArray]:
    """Masks of white and yellow paint on the road."""
    s, d = uv[:, 0], np.abs(uv[:, 1])
    dash = np.mod(s, 9.0) < 3.0
    white = np.zeros(len(s), np.bool_)
    for lane in range(1, road.lanes):
        white |= (np.abs(d - lane * LANE_M) < 0.08) & dash
    white |= np.abs(d - road.carriageway_m) < 0.08
    strip = road.carriageway_m + CYCLE_STRIP_M
    white |= (np.abs(d - strip) < 0.06) | ((d > strip) & (np.mod(s, 6.5) < 0.12))
    for crossing in road.crossings_m:
        away = np.abs(s - crossing) - CROSSING_HALF_M
        white |= (away > 1.0) & (away < 3.6) & (np.mod(d, 1.2) < 0.6)
        white |= (away > 4.4) & (away < 4.8) & (d < road.carriageway_m)
    yellow = (np.abs(d - 0.15) < 0.07) & ~white
    return white, yellow
