# SPDX-License-Identifier: Apache-2.0
"""Whether a LiDAR's intensity has the scale that a network knows, and the factor that brings another scale to it."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from peft_dml_ros.core.typing import Float32Array

Ranges = Mapping[str, tuple[float, float]]
MEDIAN, MAXIMUM = "lidar_intensity_median", "lidar_intensity_maximum"
#: Least and greatest median and maximum of a sweep, for bundles that do not state theirs: nuScenes' with room
TRAINED: Final = {MEDIAN: (2.0, 60.0), MAXIMUM: (100.0, 255.0)}
TYPICAL_MEDIAN: Final = 12.0  #: nuScenes'; other scales are brought to it
FEWEST_POINTS: Final = 100  #: Fewer say nothing
#: A mean above this is not on the scale 0 to 255 (nuScenes 20, KITTI 70): no intensity is better then
MOST_MEAN: Final = 128.0
_EVERY: Final = 7  #: Point that is looked at; no divisor of usual numbers of beams


class Levels(NamedTuple):
    """Intensity of a sweep's returns."""

    median: float
    bright: float  #: What one in a hundred exceeds: a few retroreflectors beyond the scale say nothing
    maximum: float
    mean: float

    @classmethod
    def of(cls, points: Float32Array) -> "Levels":
        """Return the levels of (N, 5) points; organised clouds have (0, 0, 0) where nothing returned."""
        few = points[::_EVERY] if len(points) > _EVERY * FEWEST_POINTS else points
        seen = few[few[:, 0] != 0, 3]
        if not len(seen):
            return cls(0.0, 0.0, 0.0, 0.0)
        places = len(seen) // 2, len(seen) * 99 // 100
        median, bright = np.partition(seen, places)[list(places)]
        return cls(float(median), float(bright), float(points[:, 3].max()), float(seen.mean()))

    def factor(self, trained: Ranges) -> float:
        """Return the factor that brings another scale to the one that was trained on; 1 where it is that.

        The maximum tells scale from content: in fog or on wet asphalt the median is low, and signs still shine.
        """
        high = self.median > trained[MEDIAN][1] or self.bright > trained[MAXIMUM][1]
        low = self.maximum < trained[MAXIMUM][0] and self.median < TYPICAL_MEDIAN / 2
        return TYPICAL_MEDIAN / self.median if self.median > 0 and (high or low) else 1.0


def intensity_factor(points: Float32Array, trained: Ranges | None) -> float:
    """Return the factor on a sweep's intensities; 0 where even so they count something else, photons for example.

    Args:
        points: (N, 5) float32 of one sweep, intensity in column 3.
        trained: Ranges by `MEDIAN` and `MAXIMUM`; None leaves the scale as it is.
    """
    if len(points) < FEWEST_POINTS:
        return 1.0
    levels = Levels.of(points)
    factor = levels.factor(trained) if trained else 1.0
    # Counts that fall with distance keep a long tail: their mean stays high where the median is right.
    return factor if factor * levels.mean <= MOST_MEAN else 0.0
