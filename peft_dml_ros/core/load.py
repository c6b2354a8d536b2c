# SPDX-License-Identifier: Apache-2.0
"""How much work goes into a frame, and the controller that gives some of it up when the machine is too slow."""

from __future__ import annotations

import os
from dataclasses import dataclass

from peft_dml_ros.core.classes import Modality


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Effort:
    """How much work goes into a frame.

    Attributes:
        camera_hz: Most runs of the camera encoder a second; 0 runs it for every frame.
        radar_hz: The same of the radar encoder.
        sweeps: Most sweeps of each LiDAR; 0 takes as many as the model accumulates.
        loaded: Whether something of this was given up because the machine is too slow.
    """

    camera_hz: float = 0.0
    radar_hz: float = 0.0
    sweeps: int = 0
    loaded: bool = False

    def period_ns(self, modality: Modality) -> int:
        """Return the least time between two runs of an encoder; 0 for every frame."""
        pace_hz = {"camera": self.camera_hz, "radar": self.radar_hz}.get(modality, 0.0)
        return round(1e9 / pace_hz) if pace_hz else 0
