# SPDX-License-Identifier: Apache-2.0
"""Lens distortion, and look-up tables that undistort an image to the pinhole that the network and the boxes need."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np

from peft_dml_ros.core.errors import DataError, nearest
from peft_dml_ros.core.typing import AnyArray, FloatArray, UInt8Array

#: Names of sensor_msgs/distortion_models (`fisheye` is another name of `equidistant`) and numbers of coefficients
MODELS: Final = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,), "fisheye": (4,)}
_FISHEYE: Final = frozenset({"equidistant", "fisheye"})
_STEPS: Final = 512
_COUNTS: Final = ", ".join(f"{name}: {'/'.join(map(str, sizes))}" for name, sizes in MODELS.items())


@dataclass(frozen=True, slots=True, eq=False)
class Lens:
    """Distortion of a raw image."""

    model: str  #: One of `MODELS`
    intrinsics: FloatArray  #: (3, 3) float64 of the raw image, pixels
    coefficients: FloatArray  #: (n,) float64 in OpenCV's order
    _tables: dict[tuple[bytes, tuple[int, int], tuple[int, int]], tuple[AnyArray, AnyArray]] = field(
        default_factory=dict, repr=False
    )

    @classmethod
    def make(cls, model: str, intrinsics: FloatArray, coefficients: Sequence[float], where: str) -> "Lens":
        """Build a lens. Raises DataError: unknown model, coefficients not finite or of another number, K no matrix."""
        values = np.array(list(coefficients), dtype=np.float64)
        if model not in MODELS:
            msg = f"{where}: lens model '{model}' is unknown; {nearest(model, MODELS)}, or send rectified images"
            raise DataError(msg)
        sizes = MODELS[model]
        # ROS pads the coefficients with zeros.
        size = next((n for n in sizes if n >= len(values) or not values[n:].any()), 0)
        sound = (
            np.isfinite(values).all() and np.isfinite(intrinsics).all() and min(intrinsics[0, 0], intrinsics[1, 1]) > 0
        )
        if not size or not sound:
            raise DataError(
                f"{where}: lens '{model}' has coefficients {values.tolist()} and focal lengths {intrinsics[0, 0]:g}, "
                f"{intrinsics[1, 1]:g}; expected {' or '.join(map(str, sizes))} finite ones, and lengths above 0; "
                f"fix: name the model that they belong to ({_COUNTS}), or send rectified images"
            )
        return cls(model, intrinsics, np.pad(values, (0, max(size - len(values), 0)))[:size])

    def undistort(
        self, pixels: UInt8Array, size_px: tuple[int, int], pinhole: FloatArray, target: tuple[int, int]
    ) -> UInt8Array:
        """Return the view of a pinhole camera in the same place; what the lens does not show is black.

        Args:
            pixels: (h, w, 3) raw image at any scale.
            size_px: (width, height) of the raw image that `intrinsics` belong to.
            pinhole: (3, 3) intrinsics of the view.
            target: (width, height) of the view.
        """
        height, width = pixels.shape[:2]
        key = (pinhole.tobytes(), target, (width, height))
        if key not in self._tables:
            self._tables[key] = self._table(size_px, pinhole, target, (width, height))
        return np.asarray(cv2.remap(pixels, *self._tables[key], cv2.INTER_LINEAR), dtype=np.uint8)

    def _table(
        self, size_px: tuple[int, int], pinhole: FloatArray, target: tuple[int, int], source: tuple[int, int]
    ) -> tuple[AnyArray, AnyArray]:
        """Return where each pixel of the view lies in the image, as fixed-point maps of OpenCV."""
        if self.model in _FISHEYE:
            make = cv2.fisheye.initUndistortRectifyMap
            maps = make(self.intrinsics, self.coefficients, np.eye(3), pinhole, target, cv2.CV_32FC1)
        else:
            maps = cv2.initUndistortRectifyMap(
                self.intrinsics, self.coefficients, np.eye(3), pinhole, target, cv2.CV_32FC1
            )
            beyond = self._folded(pinhole, target)
            maps[0][beyond] = maps[1][beyond] = -1e4
        # Pixel centres sit at whole numbers, in the raw image and in a smaller copy of it.
        x, y = ((m + 0.5) * (now / full) - 0.5 for m, now, full in zip(maps, source, size_px, strict=True))
        return tuple(cv2.convertMaps(x.astype(np.float32), y.astype(np.float32), cv2.CV_16SC2))

    def _folded(self, pinhole: FloatArray, target: tuple[int, int]) -> AnyArray:
        """Return which pixels lie where the polynomial turns back, and would show a mirror image."""
        u, v = np.meshgrid(np.arange(target[0]), np.arange(target[1]))
        radius = np.hypot((u - pinhole[0, 2]) / pinhole[0, 0], (v - pinhole[1, 2]) / pinhole[1, 1])
        steps = np.linspace(0.0, float(radius.max()), _STEPS)
        k1, k2, _, _, k3, k4, k5, k6 = np.pad(self.coefficients, (0, 8))[:8]
        square = steps**2
        scaled = steps * (1 + square * (k1 + square * (k2 + square * k3)))
        scaled /= 1 + square * (k4 + square * (k5 + square * k6))
        back = np.flatnonzero(np.diff(scaled) <= 0)
        folded: AnyArray = radius > (steps[back[0]] if len(back) else np.inf)
        return folded
