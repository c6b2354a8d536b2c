# SPDX-License-Identifier: Apache-2.0
"""Light of each pixel: sun and shadow, sky, haze, glass, over textures that follow from position.

The kernels hand each other numbers rather than arrays: numba counts references to an array at every call, which
would take most of the time.
"""

from typing import Final, NamedTuple, TypeAlias

import numba
import numpy as np

from peft_dml_ros.core.typing import Float32Array, FloatArray, Int32Array
from peft_dml_tools.sim.camera.scene_mesh import FaceAppearance
from peft_dml_tools.sim.camera.textures import (
    FACADE,
    FOLIAGE,
    GLASS,
    GRASS,
    PAVEMENT,
    ROAD,
    RoadPaint,
    clouds,
    grain,
    is_window,
    joint,
    marking,
)

HAZE_M: Final = 260.0
GRAIN_WITHIN_M: Final = 45.0
SUNLIGHT: Final = (0.99, 0.95, 0.87)
SKYLIGHT: Final = (0.36, 0.38, 0.41)
HORIZON: Final = (0.74, 0.80, 0.86)
CLOUD_RGB: Final = (0.93, 0.93, 0.94)
ZENITH: Final = (0.26, 0.45, 0.78)
GLASS_RGB: Final = (0.03, 0.035, 0.04)
WHITE_RGB: Final = (0.72, 0.72, 0.72)
YELLOW_RGB: Final = (0.70, 0.50, 0.10)
SUN_DISC_COS: Final = 0.99996
SUN_DISC: Final = 40.0


Vector: TypeAlias = tuple[float, ...]


class View(NamedTuple):
    """Where a picture is taken from."""

    right: Vector  #: Optical x in the world
    down: Vector  #: Optical y in the world
    ahead: Vector  #: Optical z in the world
    origin_m: Vector  #: World
    lens: Vector  #: fx, fy, cx, cy in px


class Sunshine(NamedTuple):
    """The sun and how its shadow maps, the sharpest first, lie in the world."""

    direction: Vector  #: Unit, towards the sun
    column: tuple[Vector, Vector]  #: World (x, y, z, 1) to column of each map
    row: tuple[Vector, Vector]  #: The same to row
    height_m: Vector  #: World to height towards the sun, of any map
    texel_m: Vector  #: Size of a pixel of each map
    cover: float  #: Share of the sky under clouds, 0-1


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _affine(m, p):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return m[0] * p[0] + m[1] * p[1] + m[2] * p[2] + m[3]


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _dot(a, b):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _mix(a, b, share):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _lit(maps, sun: Sunshine, p, n, facing):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return the share of the sun that reaches a point, by the sharpest map that holds it; 1 beyond all."""
    last = maps.shape[1] - 2
    level = 0
    u, v = _affine(sun.column[0], p) - 0.5, _affine(sun.row[0], p) - 0.5
    if not (1 <= u < last and 1 <= v < last):
        level = 1
        u, v = _affine(sun.column[1], p) - 0.5, _affine(sun.row[1], p) - 0.5
        if not (1 <= u < last and 1 <= v < last):
            return 1.0
    # A slanted face climbs from texel to texel, by so much towards each side: it must not shade itself.
    texel_m = sun.texel_m[level]
    scale, steepest = -texel_m * texel_m / facing, 30.0 * texel_m
    up_u = min(max(scale * _dot(sun.column[level], n), -steepest), steepest)
    up_v = min(max(scale * _dot(sun.row[level], n), -steepest), steepest)
    i, j = int(v), int(u)
    a, b = v - i, u - j
    height = _affine(sun.height_m, p) + 0.02 + 0.2 * texel_m - a * up_v - b * up_u
    lit = 0.0
    lit += (1 - a) * (1 - b) if maps[level, i, j] <= height else 0.0
    lit += (1 - a) * b if maps[level, i, j + 1] <= height + up_u else 0.0
    lit += a * (1 - b) if maps[level, i + 1, j] <= height + up_v else 0.0
    lit += a * b if maps[level, i + 1, j + 1] <= height + up_v + up_u else 0.0
    return lit


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _sky(d, sun: Sunshine):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return the light of the sky in a direction: brighter towards the horizon and around the sun."""
    s = max(_dot(d, sun.direction), 0.0)
    s4 = s * s * s * s
    s16 = s4 * s4 * s4 * s4
    s64 = s16 * s16 * s16 * s16
    veil = clouds(d[0], d[1], d[2], sun.cover)
    glow = 0.10 * s4 + 0.25 * s16 + 0.6 * s64 * s64
    if s > SUN_DISC_COS:
        glow += SUN_DISC * (1.0 - 0.9 * veil)
    colour = _mix(_mix(HORIZON, ZENITH, min(max(d[2] * 2.2, 0.0), 1.0)), CLOUD_RGB, veil)
    return colour[0] + glow, colour[1] + 0.95 * glow, colour[2] + 0.85 * glow


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _painted(surface, own, s, d, p, n, away, paint: RoadPaint):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return the colour of a point, and whether it is glass; s and d are its place on the road."""
    factor = 1.0
    if surface == ROAD:
        kind = marking(s, abs(d), paint)
        if kind > 0:
            return (WHITE_RGB if kind == 1 else YELLOW_RGB), False
    elif surface == PAVEMENT:
        factor = joint(s, d)
    elif surface == FACADE and is_window(p, n):
        return GLASS_RGB, True
    if away < GRAIN_WITHIN_M and surface in (ROAD, GRASS, FOLIAGE):
        factor = grain(surface, p)
    return (factor * own[0], factor * own[1], factor * own[2]), surface == GLASS


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _mirrored(colour, d, n, lit, sun: Sunshine):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return what glass shows: more of the sky the flatter one looks at it, and the sun's glint."""
    along = _dot(d, n)
    r = (d[0] - 2 * along * n[0], d[1] - 2 * along * n[1], d[2] - 2 * along * n[2])
    rest = 1.0 + along
    share = 0.08 + 0.92 * rest * rest * rest * rest * rest
    # Low down, a street mirrors its other side rather than the sky.
    open_sky = min(max(0.35 + 3.0 * r[2], 0.2), 1.0)
    s = max(_dot(r, sun.direction), 0.0)
    s = s * s * s * s
    s = s * s * s * s
    glint = 6.0 * lit * s * s * s * s * s * s * s * s
    sky = _mix(HORIZON, ZENITH, min(max(r[2] * 2.2, 0.0), 1.0))
    mirror = (sky[0] * open_sky + glint, sky[1] * open_sky + glint, sky[2] * open_sky + glint)
    return _mix(colour, mirror, share)


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _reflected(albedo, glass, d, n, facing, lit, away, sun: Sunshine):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return the light of a point as it reaches the camera."""
    direct, sky = max(facing, 0.0) * lit, 1.0 + 0.26 * n[2]
    colour = (
        albedo[0] * (SUNLIGHT[0] * direct + SKYLIGHT[0] * sky),
        albedo[1] * (SUNLIGHT[1] * direct + SKYLIGHT[1] * sky),
        albedo[2] * (SUNLIGHT[2] * direct + SKYLIGHT[2] * sky),
    )
    if glass:
        colour = _mirrored(colour, d, n, lit, sun)
    return _mix(HORIZON, colour, np.exp(-away / HAZE_M))


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _turned(normal, cos, sin, d):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return a mover's normal in the world, towards the viewer."""
    n = (cos * normal[0] - sin * normal[1], sin * normal[0] + cos * normal[1], normal[2])
    sign = -1.0 if _dot(n, d) > 0 else 1.0
    return sign * n[0], sign * n[1], sign * n[2]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def shade_pixels(
    view: View,
    sun: Sunshine,
    maps: Float32Array,
    looks: FaceAppearance,
    paint: RoadPaint,
    turns: FloatArray,
    inverse_z: Float32Array,
    face: Int32Array,
    light: Float32Array,
    range_m: Float32Array,
) -> None:
    """Fill the light and the range of every pixel.

    Args:
        view: Camera.
        sun: Sun.
        maps: (2, S, S) float32 height towards the sun of what it meets first, m.
        looks: Faces.
        paint: Road markings.
        turns: (M + 1, 2) cosine and sine of each mover's yaw, the first of what stands still.
        inverse_z: (H, W) float32 in 1/m, as `draw` leaves it.
        face: (H, W) int32, -1 for the sky.
        light: (H, W, 3) float32, written: linear, 1 is white in full sun.
        range_m: (H, W) float32, written: along the ray, infinite for the sky.
    """
    fx, fy, cx, cy = view.lens
    normals, albedos, charts = looks.normal, looks.albedo, looks.charts
    for row in range(face.shape[0]):
        y = (row + 0.5 - cy) / fy
        for column in range(face.shape[1]):
            x = (column + 0.5 - cx) / fx
            stretch = np.sqrt(x * x + y * y + 1.0)
            d = (
                (view.right[0] * x + view.down[0] * y + view.ahead[0]) / stretch,
                (view.right[1] * x + view.down[1] * y + view.ahead[1]) / stretch,
                (view.right[2] * x + view.down[2] * y + view.ahead[2]) / stretch,
            )
            f = np.int64(face[row, column])
            if f < 0:
                range_m[row, column] = np.inf
                colour = _sky(d, sun)
            else:
                away = stretch / inverse_z[row, column]
                range_m[row, column] = away
                p = (view.origin_m[0] + d[0] * away, view.origin_m[1] + d[1] * away, view.origin_m[2] + d[2] * away)
                m, k = looks.mover[f] + 1, looks.chart[f]
                n = _turned((normals[f, 0], normals[f, 1], normals[f, 2]), turns[m, 0], turns[m, 1], d)
                s = _affine((charts[k, 0, 0], charts[k, 0, 1], charts[k, 0, 2], charts[k, 0, 3]), p)
                t = _affine((charts[k, 1, 0], charts[k, 1, 1], charts[k, 1, 2], charts[k, 1, 3]), p)
                own = (albedos[f, 0], albedos[f, 1], albedos[f, 2])
                albedo, glass = _painted(looks.surface[f], own, s, t, p, n, away, paint)
                facing = _dot(n, sun.direction)
                lit = _lit(maps, sun, p, n, facing) if facing > 0 else 0.0
                colour = _reflected(albedo, glass, d, n, facing, lit, away, sun)
            light[row, column, 0] = colour[0]
            light[row, column, 1] = colour[1]
            light[row, column, 2] = colour[2]
