# SPDX-License-Identifier: Apache-2.0
"""When each sensor measures: own rates and phases, so that no two sensors share a stamp, as on a real car."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from pydantic import Field

from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.spec import Frozen
from peft_dml_ros.core.typing import FloatArray
from peft_dml_tools.sim.domain import MIXED, Domain
from peft_dml_tools.sim.weather import Weather

EPOCH_NS: Final = 1_735_700_000_000_000_000  #: Start of drive 0; drives of other seeds start an hour apart

_PHASE_S: Final = {
    # Cameras fire when the LiDAR's beam passes their field of view, just before its turn ends.
    "CAM_FRONT": -0.0355,
    "CAM_FRONT_RIGHT": -0.0276,
    "CAM_BACK_RIGHT": -0.0200,
    "CAM_BACK": -0.0104,
    "CAM_BACK_LEFT": -0.0006,
    "CAM_FRONT_LEFT": -0.0431,
    "LIDAR_TOP": 0.0,
    "RADAR_FRONT": 0.0041,
    "RADAR_FRONT_LEFT": 0.0193,
    "RADAR_FRONT_RIGHT": 0.0337,
    "RADAR_BACK_LEFT": 0.0482,
    "RADAR_BACK_RIGHT": 0.0629,
    "IMU": 0.0013,
    "GNSS": 0.0637,
    "ODOM": 0.0029,
}


class DriveSpec(Frozen):
    """Rates and sizes of a drive's sensors."""

    image_width_px: int = Field(352, ge=64, le=1600, description="Width of the pictures; height follows at 16:9")
    jpeg_quality: int = Field(85, ge=10, le=100, description="JPEG quality of the pictures")
    camera_hz: float = Field(12.0, ge=0, le=30, description="Pictures a second of each camera; 0 for none")
    lidar_hz: float = Field(10.0, ge=2, le=20, description="Turns a second")
    lidar_compensated: bool = Field(
        default=True, description="LiDAR points freed of the vehicle's motion, as nuScenes' files are; else raw ones"
    )
    lidar_height_m: float | None = Field(
        None, gt=1.5, le=3.0, description="Height of the LiDAR; the vehicle's own by default"
    )
    lidar_keep_every: Literal[1, 2, 4] = Field(1, description="1 keeps all beams of the LiDAR, 2 every second one")
    focal_scale: float = Field(1.0, ge=0.5, le=2.0, description="Factor on the vehicle's focal lengths")
    radar_hz: float = Field(13.0, ge=0, le=20, description="Cycles a second of each radar; 0 for none")
    imu_hz: float = Field(100.0, ge=0, le=200, description="Inertial samples a second")
    gnss_hz: float = Field(10.0, ge=0, le=20, description="Satellite fixes a second")
    odometry_hz: float = Field(50.0, gt=0, le=100, description="Poses a second")
    weather: Weather = Field(Weather(), description="Fog, rain or snow; clear air by default")
    domain: Domain = Field(MIXED, description="Streets, traffic side, vehicle and LiDAR")
    depth_stride_px: int = Field(0, ge=0, le=64, description="Keep the depth of every so many pixels; 0 for none")

    def rate_hz(self, sensor: str) -> float:
        """Return the rate of a sensor by its name."""
        prefix = sensor.split("_", maxsplit=1)[0]
        return {
            "CAM": self.camera_hz,
            "LIDAR": self.lidar_hz,
            "RADAR": self.radar_hz,
            "IMU": self.imu_hz,
            "GNSS": self.gnss_hz,
            "ODOM": self.odometry_hz,
        }[prefix]


@dataclass(frozen=True, slots=True)
class Event:
    """One measurement to be made."""

    stamp_ns: int  #: When; whole microseconds, since nuScenes counts in these
    sensor: str  #: Name
    number: int  #: Count of this sensor's measurements before it


def start_ns(seed: int) -> int:
    """Return the stamp of a drive's time 0."""
    return EPOCH_NS + (seed % 100_000) * 3_600_000_000_000


def _late(times_s: FloatArray, rate_hz: float, rng: np.random.Generator) -> FloatArray:
    """Return stamps of a serial bus: mostly on time, now and then late; a real 100 Hz unit has gaps of 3 to 22 ms."""
    period = 1 / rate_hz
    n = len(times_s)
    late = np.where(rng.random(n) < 0.06, rng.uniform(0.2, 1.2, n), rng.uniform(0, 0.08, n)) * period
    stamps = times_s + late
    for k in range(1, len(stamps)):
        stamps[k] = max(stamps[k], stamps[k - 1] + 0.3 * period)
    return np.asarray(stamps)


def schedule(rig: Rig, spec: DriveSpec, seed: int, duration_s: float) -> tuple[Event, ...]:
    """Return all measurements of a drive in stamp order."""
    begin = start_ns(seed)
    taken: set[int] = set()
    events = []
    for name in sorted(rig.sensors):
        rate = spec.rate_hz(name)
        if rate <= 0:
            continue
        times = np.arange(round(duration_s * rate) + 1) / rate + _PHASE_S[name]
        if name == "IMU":
            times = _late(times, rate, np.random.default_rng([seed, 8]))
        times = times[(times >= 0) & (times <= duration_s)]
        for number, time_s in enumerate(times):
            stamp = begin + round(time_s * 1e6) * 1000
            while stamp in taken:
                stamp += 1000
            taken.add(stamp)
            events.append(Event(stamp, name, number))
    return tuple(sorted(events, key=lambda e: e.stamp_ns))
