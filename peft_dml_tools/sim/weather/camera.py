# SPDX-License-Identifier: Apache-2.0
"""Fog, rain and snow on pictures: Koschmieder's law with depth, streaks of drops, flakes."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from peft_dml_ros.core.typing import AnyArray, Float32Array, UInt8Array
from peft_dml_tools.sim.weather.precipitation import Particles

EXPOSURE_S: Final = 8e-3
NEAREST_M: Final = 0.7
FARTHEST_M: Final = 5.0
MOST_STREAKS: Final = 2500
LEAST_DROP_MM: Final = 0.8
FLAKE_GROWTH: Final = 2.15  #: Diameter of a flake of a tenth of water's density over that of the drop it melts to

#: Drops gather light of the whole sky, and are brighter than their share of the exposure (tuned by eye)
GLINT: Final = 4.0

_THICKEST: Final = 1 << 12


@dataclass(frozen=True, slots=True)
class ParticleAppearance:
    """How particles show in pictures."""

    growth: float  #: Diameter seen over melted diameter
    slant: float  #: Sideways over downward speed, by wind
    tone: float  #: Brightness over that of the air light
    glint: float  #: Factor on the opacity


RAIN: Final = ParticleAppearance(1.0, 0.12, 0.98, GLINT)
SNOW: Final = ParticleAppearance(FLAKE_GROWTH, 0.5, 1.08, 2.0)


def air_light(pixels: UInt8Array) -> Float32Array:
    """Return the colour (3,) of light that the air scatters: what is bright in the upper half, mostly without its hue.

    So fog is grey by day and dark by night.
    """
    upper = pixels[: max(pixels.shape[0] // 2, 1) : 4, ::4].reshape(-1, 3).astype(np.float32)
    bright = np.percentile(upper, 85, axis=0)
    light: Float32Array = np.clip(0.75 * bright.mean() + 0.25 * bright, 5, 240).astype(np.float32)
    return light


def koschmieder(pixels: UInt8Array, depth_m: Float32Array, alpha_per_m: float, light: Float32Array) -> UInt8Array:
    """Return I t + A (1 - t) with t = exp(-α d).

    Args:
        pixels: (H, W, 3) uint8.
        depth_m: (h, w) float32 range of the same field of view, of any resolution.
        alpha_per_m: Extinction.
        light: (3,) air light A, 0-255.
    """
    import cv2  # noqa: PLC0415

    height, width = pixels.shape[:2]
    clear = np.exp(-np.float32(alpha_per_m) * depth_m)
    if clear.shape != (height, width):
        clear = cv2.resize(clear, (width, height), interpolation=cv2.INTER_LINEAR)
    return blend(pixels, 1.0 - clear, light)


def blend(pixels: UInt8Array, opacity: AnyArray, colour: Float32Array) -> UInt8Array:
    """Return pixels (H, W, 3) behind a veil of a colour (3,) with an opacity (H, W) in 0-1."""
    import cv2  # noqa: PLC0415

    veil = opacity.astype(np.float32)
    tint = np.clip(colour + 0.5, 0, 255).astype(np.uint8).reshape(1, 1, 3)
    plain = cv2.resize(tint, (pixels.shape[1], pixels.shape[0]), interpolation=cv2.INTER_NEAREST)
    # Five times as fast as the sum in floats: this runs in real time.
    mixed: UInt8Array = cv2.blendLinear(np.ascontiguousarray(pixels), plain, 1 - veil, veil)
    return mixed


def falling(
    shape: tuple[int, int], focal_px: float, particles: Particles, fall: ParticleAppearance, rng: np.random.Generator
) -> Float32Array:
    """Return the opacity (H, W), float32 in 0-1, of drops or flakes near the camera, smeared over their fall.

    Drops fill the field of view between `NEAREST_M` and `FARTHEST_M` evenly; those too small to be seen, and all
    beyond, are part of the extinction.
    """
    import cv2  # noqa: PLC0415

    height, width = shape
    volume_m3 = width * height / focal_px**2 * (FARTHEST_M**3 - NEAREST_M**3) / 3
    large = particles.intercept_per_m3_mm / particles.slope_per_mm * np.exp(-particles.slope_per_mm * LEAST_DROP_MM)
    count = min(int(rng.poisson(large * volume_m3)), MOST_STREAKS)
    depth_m = np.cbrt(NEAREST_M**3 + (FARTHEST_M**3 - NEAREST_M**3) * rng.random(count))
    melted_mm = LEAST_DROP_MM + rng.exponential(1 / particles.slope_per_mm, count)
    # Atlas' fit for drops; flakes sink at about 1.2 m/s whatever their size.
    speed_mps = 9.65 - 10.3 * np.exp(-0.6 * melted_mm) if fall.growth == 1.0 else np.full(count, 1.2)
    size_px = fall.growth * melted_mm * 1e-3 * focal_px / depth_m
    length_px = np.hypot(1.0, fall.slant) * speed_mps * EXPOSURE_S * focal_px / depth_m
    opacity = np.minimum(fall.glint * np.minimum(size_px, 1.0) * size_px / (size_px + length_px), 0.9)
    centre = rng.random((count, 2)) * (width, height)
    direction = np.array([fall.slant, 1.0]) / np.hypot(1.0, fall.slant)
    ends = np.stack([centre - direction * length_px[:, None] / 2, centre + direction * length_px[:, None] / 2], axis=1)
    canvas = np.zeros(shape, np.uint8)
    fixed = np.round(ends * 16).astype(np.int32)
    looks = (255 * opacity).astype(np.int64) * _THICKEST + np.clip(np.rint(size_px), 1, _THICKEST - 1).astype(np.int64)
    order = np.argsort(looks, kind="stable")
    alike, begin = np.unique(looks[order], return_index=True)
    # All of one look at once; faint ones first.
    for look, lines in zip(alike.tolist(), np.split(fixed[order], begin[1:]), strict=bool(count)):
        tone, thickness = divmod(look, _THICKEST)
        cv2.polylines(
            canvas, list(lines), isClosed=False, color=tone, thickness=thickness, lineType=cv2.LINE_AA, shift=4
        )
    veil: Float32Array = cv2.GaussianBlur(canvas, (3, 3), 0.6).astype(np.float32) / np.float32(255)
    return veil
