# SPDX-License-Identifier: Apache-2.0
"""Light to pixels: exposure by the brightness of the scene, blur of what moves meanwhile, noise, tone curve."""

from dataclasses import dataclass
from typing import Final

import numba
import numpy as np

from peft_dml_ros.core.typing import BoolArray, Float32Array, FloatArray, Int32Array, UInt8Array

NOMINAL_S: Final = 3e-3  #: Exposure at gain 1 of a scene that needs neither more nor less, with the sun at the zenith
SHORTEST_S: Final = 2e-4
LONGEST_S: Final = 5e-3
TARGET: Final = 0.30  #: Mean of the light after exposure
PULL: Final = 0.8  #: How far the exposure follows the scene: what is bright stays a little bright
METER_STEP_PX: Final = 8
METER_LIMIT: Final = 1.5  #: Light that counts for no more: the sun's disc must not turn day into night
READ_NOISE: Final = 7e-4
SHOT_NOISE: Final = 1.6e-4
MOST_TAPS: Final = 9
STILL_PX: Final = 0.5
CURVE_STEPS: Final = 8192
CURVE_END: Final = 4.0
SHOULDER: Final = 0.65  #: Light above this is compressed towards white
_MIX1 = np.uint64(0x9E3779B97F4A7C15)
_MIX2 = np.uint64(0xBF58476D1CE4E5B9)
_MIX3 = np.uint64(0x94D049BB133111EB)
_LOW16 = np.uint64(0xFFFF)
_S16, _S27, _S30, _S31, _S32, _S48 = (np.uint64(n) for n in (16, 27, 30, 31, 32, 48))


@dataclass(frozen=True, slots=True)
class Exposure:
    """How a picture was taken."""

    time_s: float  #: How long the shutter was open
    gain: float  #: Amplification, which noise grows with; 1 is the least
    scale: float  #: What light was multiplied by, all in all


def expose(light: Float32Array, daylight: float) -> Exposure:
    """Return the exposure that a camera's automatic control chooses.

    Args:
        light: (H, W, 3) float32 linear, 1 for white in full sun.
        daylight: Strength of the light on the street against that of a sun at the zenith, (0, 1].
    """
    grid = light[METER_STEP_PX // 2 :: METER_STEP_PX, METER_STEP_PX // 2 :: METER_STEP_PX]
    mean = float(np.minimum(grid, METER_LIMIT).mean())
    scale = (TARGET / max(mean, 1e-3)) ** PULL
    wanted_s = NOMINAL_S * scale / daylight
    time_s = min(max(wanted_s, SHORTEST_S), LONGEST_S)
    return Exposure(time_s, max(wanted_s / time_s, 1.0), scale)


def tone_curve() -> UInt8Array:
    """Return a table (CURVE_STEPS,) uint8 of light from 0 to `CURVE_END` as gamma-coded values."""
    x = np.linspace(0.0, CURVE_END, CURVE_STEPS)
    room = 1.0 - SHOULDER
    y = np.where(x < SHOULDER, x, SHOULDER + room * -np.expm1(-np.maximum(x - SHOULDER, 0) / room))
    curve: UInt8Array = np.round(255.0 * y ** (1 / 2.2)).astype(np.uint8)
    return curve


def moving(motion: FloatArray, intrinsics: FloatArray) -> BoolArray:
    """Return which of some motions (M, 3, 4) to homogeneous pixels shift anything two metres away by half a pixel."""
    change = np.abs(motion - np.concatenate([intrinsics, np.zeros((3, 1))], axis=1))
    shift = change[:, :2, :3].sum(axis=2).max(axis=1) + change[:, :2, 3].max(axis=1) / 2.0
    shift += (change[:, 2, :3].sum(axis=1) + change[:, 2, 3] / 2.0) * intrinsics[:2, 2].max()
    found: BoolArray = shift > STILL_PX
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _random(seed, index):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return 64 random bits of a place (splitmix64)."""
    z = seed + (np.uint64(index) + np.uint64(1)) * _MIX1
    z = (z ^ (z >> _S30)) * _MIX2
    z = (z ^ (z >> _S27)) * _MIX3
    return z ^ (z >> _S31)


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _flow(m, which, x, y, inverse_z):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return the pixel that a point moves to during the exposure; x, y are its normalised coordinates."""
    a = m[which, 0, 0] * x + m[which, 0, 1] * y + m[which, 0, 2] + m[which, 0, 3] * inverse_z
    b = m[which, 1, 0] * x + m[which, 1, 1] * y + m[which, 1, 2] + m[which, 1, 3] * inverse_z
    c = m[which, 2, 0] * x + m[which, 2, 1] * y + m[which, 2, 2] + m[which, 2, 3] * inverse_z
    c = max(c, 0.1)
    return a / c, b / c


@numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _smear(light, row, column, du, dv, jitter):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return the mean light along the path that a pixel's content takes."""
    height, width = light.shape[:2]
    taps = min(int(max(abs(du), abs(dv))) + 2, MOST_TAPS)
    red, green, blue = 0.0, 0.0, 0.0
    for k in range(taps):
        part = (k + jitter) / taps - 0.5
        i = min(max(int(row + 0.5 + part * dv), 0), height - 1)
        j = min(max(int(column + 0.5 + part * du), 0), width - 1)
        red += light[i, j, 0]
        green += light[i, j, 1]
        blue += light[i, j, 2]
    return red / taps, green / taps, blue / taps


@numba.njit(cache=True, nogil=True, error_model="numpy")
def develop(
    light: Float32Array,
    inverse_z: Float32Array,
    group: Int32Array,
    face: Int32Array,
    motion: FloatArray,
    moves: BoolArray,
    lens: tuple[float, float, float, float],
    exposed: tuple[float, float, float],
    curve: UInt8Array,
    seed: int,
    pixels: UInt8Array,
) -> None:
    """Fill the picture.

    Args:
        light: (H, W, 3) float32 linear.
        inverse_z: (H, W) float32 in 1/m, 0 for the sky.
        group: (F,) int32 mover of each face, -1 for what stands still.
        face: (H, W) int32 face of each pixel, -1 for the sky.
        motion: (M + 1, 3, 4) from the optical frame at the exposure's start to homogeneous pixels at its end: first
            of what stands still, then of each mover.
        moves: (M + 1,) which of them matter.
        lens: fx, fy, cx, cy in px.
        exposed: Scale, gain, and light that the lens scatters over the whole picture.
        curve: (CURVE_STEPS,) uint8, `tone_curve`.
        seed: Of the noise, uint64.
        pixels: (H, W, 3) uint8, written.
    """
    fx, fy, cx, cy = lens
    scale, gain, flare = exposed
    steps = (CURVE_STEPS - 1) / CURVE_END
    read, shot = (READ_NOISE * gain) ** 2, SHOT_NOISE * gain
    for row in range(light.shape[0]):
        for column in range(light.shape[1]):
            bits = _random(seed, row * light.shape[1] + column)
            red, green, blue = float(light[row, column, 0]), float(light[row, column, 1]), float(light[row, column, 2])
            number = face[row, column]
            which = group[number] + 1 if number >= 0 else 0
            if moves[which]:
                u, v = column + 0.5, row + 0.5
                end = _flow(motion, which, (u - cx) / fx, (v - cy) / fy, inverse_z[row, column])
                du, dv = end[0] - u, end[1] - v
                if abs(du) > 1.0 or abs(dv) > 1.0:
                    red, green, blue = _smear(light, row, column, du, dv, float(bits & _LOW16) / 65536.0)
            red, green, blue = scale * (red + flare), scale * (green + flare), scale * (blue + flare)
            parts = (bits & _LOW16) + (bits >> _S16 & _LOW16) + (bits >> _S32 & _LOW16) + (bits >> _S48)
            # The sum of four even ones is nearly normal.
            noise = (float(parts) / 65536.0 - 2.0) * 1.732 * np.sqrt(read + shot * green)
            pixels[row, column, 0] = curve[int(min(max((red + noise) * steps, 0.0), CURVE_STEPS - 1.0))]
            pixels[row, column, 1] = curve[int(min(max((green + noise) * steps, 0.0), CURVE_STEPS - 1.0))]
            pixels[row, column, 2] = curve[int(min(max((blue + noise) * steps, 0.0), CURVE_STEPS - 1.0))]
