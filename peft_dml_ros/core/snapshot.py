# SPDX-License-Identifier: Apache-2.0
"""What the detector sees at one instant: the measurements that passed the gate, and how old each modality is."""

from dataclasses import dataclass, field, replace
from typing import Any, Final

from peft_dml_ros.core.classes import MODALITIES, Modality
from peft_dml_ros.core.measurements import CameraImage, GnssFix, ImuSample, LidarSweep, OdometrySample, RadarSweep

_FIELD: Final[dict[Modality, str]] = {
    "lidar": "lidar",
    "camera": "cameras",
    "radar": "radars",
    "imu": "imu",
    "gnss": "gnss",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Measurements for one frame; what is absent or gated is simply not in it."""

    stamp_ns: int  #: Reference time; boxes are given in `base_link` at this time
    reference: str  #: Name of the sensor whose measurement set the time
    lidar: dict[str, tuple[LidarSweep, ...]] = field(default_factory=dict)  #: Sweeps by LiDAR name, newest first
    radars: dict[str, tuple[RadarSweep, ...]] = field(default_factory=dict)  #: Sweeps by radar name, newest first
    cameras: dict[str, CameraImage] = field(default_factory=dict)  #: Newest image by camera name
    imu: tuple[ImuSample, ...] = ()  #: Samples of the last second, oldest first
    gnss: tuple[GnssFix, ...] = ()  #: Fixes of the last seconds, oldest first
    odometry: tuple[OdometrySample, ...] = ()  #: Poses that cover the oldest sweep to the reference time, oldest first
    #: Age of the newest measurement per modality at `stamp_ns`, mean over its sensors; unknown where absent
    age_s: dict[Modality, float] = field(default_factory=dict)
    #: Reason by sensor name for each sensor that is configured but not used in this frame
    gated: dict[str, str] = field(default_factory=dict)

    def has(self, modality: Modality) -> bool:
        """Return True when at least one measurement of that modality is in the snapshot."""
        return bool(getattr(self, _FIELD[modality]))

    def without(self, *modalities: Modality) -> "Snapshot":
        """Return the instant with whole modalities taken away."""
        empty: dict[str, Any] = {_FIELD[m]: () if m in {"imu", "gnss"} else {} for m in modalities}
        return replace(self, **empty)

    @property
    def present(self) -> tuple[Modality, ...]:
        """Modalities with at least one measurement."""
        return tuple(m for m in MODALITIES if self.has(m))
