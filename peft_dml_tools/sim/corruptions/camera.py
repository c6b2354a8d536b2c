# SPDX-License-Identifier: Apache-2.0
"""MultiCorrupt's picture corruptions (arXiv 2402.11677); severities are 1 to 3.

Each takes and returns (H, W, 3) uint8 RGB and never writes into its argument. Lengths in pixels hold for nuScenes' 1600
columns and scale with the width.
"""

from typing import Final

import numpy as np

from peft_dml_ros.core.typing import AnyArray, Float32Array, UInt8Array

NUSCENES_WIDTH_PX: Final = 1600
BRIGHTER: Final = (0.5, 0.6, 0.7)
DARK_SCALE: Final = (0.6, 0.4, 0.3)
DARK_PHOTONS: Final = (250, 120, 50)
DARK_SIGMA: Final = (0.008, 0.018, 0.026)
BLUR_RADIUS_PX: Final = 15
BLUR_SIGMA_PX: Final = (6.0, 10.0, 13.0)
FOG_PLASMA: Final = (2.0, 3.0, 4.0)
FOG_BETA: Final = (0.0005, 0.001, 0.002)
#: Mean and zoom of the noise, threshold, blur radius and sigma, share of the picture
SNOW: Final = ((0.3, 5.0, 0.9, 7, 7.0, 0.9), (0.4, 4.0, 0.85, 8, 8.0, 0.85), (0.5, 3.0, 0.8, 10, 10.0, 0.8))

SNOW_BRIGHTNESS: Final = 0.9
WIBBLE_DECAY: Final = 1.7


def brightness(pixels: UInt8Array, severity: int) -> UInt8Array:
    """Return a picture with the V of HSV raised by .5, .6, .7."""
    value = pixels.max(axis=2, keepdims=True).astype(np.float32) / 255
    target = np.minimum(value + BRIGHTER[severity - 1], 1.0)
    ratio = target / np.maximum(value, 1e-6)
    # Hue and saturation stay, so all channels grow alike; black has no hue and turns grey.
    raised: AnyArray = np.where(value > 0, pixels * ratio, 255 * target)
    return _to_pixels(raised)


def dark(pixels: UInt8Array, severity: int, rng: np.random.Generator) -> UInt8Array:
    """Return a picture with gamma 2 at .6, .4, .3 of full scale, with photon and read-out noise."""
    values = pixels.astype(np.float32) / 255
    low, high = float(values.min()), float(values.max())
    dimmed = ((values - low) / max(high - low, 1e-6)) ** 2 * DARK_SCALE[severity - 1]
    photons = DARK_PHOTONS[severity - 1]
    noisy = np.clip(rng.poisson(dimmed * photons).astype(np.float32) / photons, 0, 1)
    noisy += rng.normal(0, 1, noisy.shape).astype(np.float32) * DARK_SIGMA[severity - 1]
    return _to_pixels(noisy * 255)


def motion_blur(pixels: UInt8Array, severity: int, rng: np.random.Generator) -> UInt8Array:
    """Return a picture smeared along one direction within 45 degrees of level."""
    return _to_pixels(
        _smear(pixels, BLUR_RADIUS_PX, BLUR_SIGMA_PX[severity - 1], rng.uniform(-45, 45), pixels.shape[1])
    )


def fog(pixels: UInt8Array, severity: int, rng: np.random.Generator) -> UInt8Array:
    """Return a picture in clouds of plasma and haze, whose depth is the distance from the picture's lower middle."""
    height, width = pixels.shape[:2]
    values = pixels.astype(np.float32) / 255
    strength, brightest = FOG_PLASMA[severity - 1], float(values.max())
    cloud = plasma(height, width, rng) * (1 - 0.8 * plasma(height, width, rng))
    cloud *= 1 + 0.5 * plasma(height, width, rng)
    clouded = np.clip((values + strength * cloud[..., None]) * brightest / (brightest + strength), 0, 1)
    rows, columns = np.arange(height)[:, None], np.arange(width)
    outside_y = np.maximum(np.maximum(rows - int(0.99 * height), int(0.65 * height) - rows), 0)
    outside_x = np.maximum(np.maximum(columns - int(0.85 * width), int(0.1 * width) - columns), 0)
    away = np.hypot(outside_y, outside_x) * (NUSCENES_WIDTH_PX / width)
    distance = 2 * away * (1 + rng.random((height, width)) / 4) + np.sqrt(NUSCENES_WIDTH_PX)
    clear = np.exp(-FOG_BETA[severity - 1] * distance)[..., None].astype(np.float32)
    return _to_pixels(255 * (clouded * clear + 0.5 * (1 - clear)))


def snow(pixels: UInt8Array, severity: int, rng: np.random.Generator) -> UInt8Array:
    """Return a paler picture under blurred flakes of thresholded noise."""
    mean, zoom, threshold, radius, sigma, share = SNOW[severity - 1]
    height, width = pixels.shape[:2]
    values = pixels.astype(np.float32) / 255
    coarse = rng.normal(mean, 0.3, (int(np.ceil(height / zoom)), int(np.ceil(width / zoom)))).astype(np.float32)
    layer = _resized(coarse, height, width)
    layer = np.clip(np.where(layer < threshold, 0, layer), 0, 1)
    layer = _smear(layer, radius, sigma, rng.uniform(-135, -45), width)
    layer = layer + layer[::-1, ::-1]
    grey = (values @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    pale = share * values + (1 - share) * np.maximum(values, 1.5 * grey + 0.5)
    return _to_pixels(255 * (pale * SNOW_BRIGHTNESS + layer[..., None]))


def black(pixels: UInt8Array) -> UInt8Array:
    """Return the picture of a missing camera."""
    return np.zeros_like(pixels)


def plasma(height: int, width: int, rng: np.random.Generator) -> Float32Array:
    """Return fractal clouds (H, W) float32 in 0-1: noise of halving size, amplitude falling by `WIBBLE_DECAY`²."""
    side, cells, total = max(height, width), 2, np.zeros((height, width), np.float32)
    amplitude = 1.0
    while cells < side:
        grid = rng.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32)
        total += np.float32(amplitude) * _resized(grid, side, side)[:height, :width]
        cells, amplitude = 2 * cells, amplitude / WIBBLE_DECAY**2
    total -= total.min()
    clouds: Float32Array = total / max(float(total.max()), 1e-6)
    return clouds


def _smear(values: AnyArray, radius_px: int, sigma_px: float, angle_deg: float, width_px: int) -> Float32Array:
    """Return a picture averaged along a ray with half a Gaussian's weights."""
    import cv2  # noqa: PLC0415

    scale = width_px / NUSCENES_WIDTH_PX
    radius = max(round(radius_px * scale), 1)
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-0.5 * (steps / (sigma_px * scale)) ** 2)
    kernel = np.zeros((4 * radius + 1, 4 * radius + 1), np.float32)
    angle = np.deg2rad(angle_deg)
    rows = 2 * radius + np.rint(steps * np.sin(angle)).astype(np.int64)
    columns = 2 * radius + np.rint(steps * np.cos(angle)).astype(np.int64)
    np.add.at(kernel, (rows, columns), weights / weights.sum())
    smeared: Float32Array = cv2.filter2D(values.astype(np.float32), -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return smeared


def _resized(values: Float32Array, height: int, width: int) -> Float32Array:
    import cv2  # noqa: PLC0415

    resized: Float32Array = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized


def _to_pixels(values: AnyArray) -> UInt8Array:
    pixels: UInt8Array = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return pixels
