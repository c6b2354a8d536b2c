# SPDX-License-Identifier: Apache-2.0
"""nuScenes-R's stuck frames (arXiv 2205.14951): a share of a sensor's frames repeats an earlier one's content."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, TypeAlias, TypeVar

import numpy as np

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.measurements import CameraImage, LidarSweep, RadarSweep
from peft_dml_ros.core.typing import BoolArray

Pattern: TypeAlias = Literal["discrete", "consecutive"]
RUN_FRAMES: Final = 4
"""Length of a run of stuck frames in the consecutive pattern."""

_Sensed = TypeVar("_Sensed", LidarSweep, RadarSweep, CameraImage)


def stuck_frames(count: int, share: float, pattern: Pattern, rng: np.random.Generator) -> BoolArray:
    """Which frames of a sequence are stuck; never the first, since there is nothing before it.

    Args:
        count: Frames of the sequence.
        share: Of stuck ones, 0 to 1 (nuScenes-R: .1 to .9); met as nearly as whole frames and runs allow.
        pattern: Single frames, or runs of `RUN_FRAMES`.
        rng: Which.

    Returns:
        (count,) bool.

    Raises:
        ConfigError: the share is outside 0 to 1.
    """
    if not 0.0 <= share <= 1.0:
        msg = f"share of stuck frames must be from 0 to 1, got {share}"
        raise ConfigError(msg)
    stuck = np.zeros(count, dtype=np.bool_)
    run = 1 if pattern == "discrete" else RUN_FRAMES
    starts = np.arange(1, count, run)
    for start in rng.permutation(starts)[: round(share * len(starts))]:
        stuck[start : start + run] = True
    return stuck


class Freezer:
    """Repeats the last good content of a sensor under new stamps while it is stuck."""

    def __init__(self) -> None:
        self._good: dict[str, LidarSweep | RadarSweep | CameraImage] = {}

    def __call__(self, sensor: str, measurement: _Sensed, *, stuck: bool) -> _Sensed:
        """The measurement, or the content of the last one that was not stuck.

        Args:
            sensor: Whose.
            measurement: What it truly measured.
            stuck: Whether it repeats itself now.
        """
        good = self._good.get(sensor)
        if stuck and isinstance(good, type(measurement)):
            return replace(good, stamp_ns=measurement.stamp_ns)
        self._good[sensor] = measurement
        return measurement
