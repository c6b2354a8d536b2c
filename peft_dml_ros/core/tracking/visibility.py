# SPDX-License-Identifier: Apache-2.0
"""How likely the sensors that are there find an object: what a missing detection means for its track."""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from peft_dml_ros.core.classes import CLASSES, DETECTING, MODALITIES
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.typing import Float32Array, FloatArray, IntArray

#: Distance at which a sensor finds half as many objects as nearby
REACH_M: Final = {"lidar": 45.0, "camera": 30.0, "radar": 50.0}
_SMALL = ("pedestrian", "traffic_cone", "bicycle", "motorcycle", "barrier")
#: (classes, LiDAR camera radar) share of nearby objects that each finds alone, of the demo's model, rounded
RECALL: Final = np.array(
    [
        [0.85 if m == "lidar" else 0.45 if m == "camera" else 0.1 if c in _SMALL else 0.4 for m in DETECTING]
        for c in CLASSES
    ]
)


class Coverage:
    """What the sensors of one frame reach.

    Args:
        mask: (5,) 1 for each modality that was used.
        sectors: Directions and half openings (rad) of the cameras that delivered; everything around when empty.
    """

    def __init__(self, mask: FloatArray | Float32Array, sectors: Sequence[tuple[float, float]] = ()) -> None:
        self._mask = [bool(mask[MODALITIES.index(m)]) for m in DETECTING]
        self._sectors = np.array(sectors).reshape(-1, 2)

    def found(self, xy_m: FloatArray, labels: IntArray) -> FloatArray:
        """Return the probability that each object at (N, 2) is detected in this frame."""
        distance = np.hypot(xy_m[:, 0], xy_m[:, 1])
        missed = np.ones(len(xy_m))
        for i, modality in enumerate(DETECTING):
            if self._mask[i]:
                near = 1.0 / (1.0 + (distance / REACH_M[modality]) ** 4)
                seen = self._in_sight(xy_m) if modality == "camera" else 1.0
                missed *= 1.0 - RECALL[labels, i] * near * seen
        found: FloatArray = 1.0 - missed
        return found

    def _in_sight(self, xy_m: FloatArray) -> FloatArray:
        if not len(self._sectors):
            return np.ones(len(xy_m))
        azimuth = np.arctan2(xy_m[:, 1], xy_m[:, 0])
        off = np.abs((azimuth[:, None] - self._sectors[None, :, 0] + np.pi) % (2 * np.pi) - np.pi)
        seen: FloatArray = (off <= self._sectors[None, :, 1]).any(axis=1).astype(np.float64)
        return seen


def camera_sectors(rig: Rig, cameras: Iterable[str]) -> list[tuple[float, float]]:
    """Return direction and half opening (rad) of cameras by name; optical axes point along z."""
    found = []
    for name in cameras:
        sensor = rig.sensors.get(name)
        if sensor is not None and sensor.camera is not None:
            axis = sensor.base_SE3_sensor.rotation[:, 2]
            half = np.arctan2(sensor.camera.width_px / 2, sensor.camera.intrinsics[0, 0])
            found.append((float(np.arctan2(axis[1], axis[0])), float(half)))
    return found
