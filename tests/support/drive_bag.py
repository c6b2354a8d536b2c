# SPDX-License-Identifier: Apache-2.0
"""A short bag of made-up measurements with every kind of sensor: made in a second, played in real time."""

from dataclasses import dataclass
from pathlib import Path

from peft_dml_ros.core.rig import Rig
from peft_dml_tools.datasets.bags import write_bag
from tests.support import scenes
from tests.support.scenes import MS, START_NS

PERIOD_AND_PHASE_MS = {
    "LIDAR_TOP": (100, 0),
    "CAM_FRONT": (83, 7),
    "CAM_BACK": (83, 31),
    "RADAR_FRONT": (77, 13),
    "IMU": (10, 1),
    "GNSS": (100, 3),
    "ODOM": (20, 0),
}


@dataclass
class MadeUpDrive:
    """A `Source` that stands still."""

    duration_ms: int
    lidar_points: int = 2000
    name: str = "made-up"

    @property
    def rig(self) -> Rig:
        """A LiDAR, two cameras, one radar, IMU, GNSS and odometry."""
        return scenes.rig()

    @property
    def truth(self):
        """No boxes."""
        return {}

    def measurements(self):
        """(sensor, measurement) in stamp order; motion before the sweep of the same stamp."""
        makers = {
            "ODOM": scenes.odometry,
            "IMU": scenes.imu,
            "GNSS": scenes.gnss,
            "LIDAR_TOP": lambda stamp: scenes.lidar(stamp, self.lidar_points),
            "CAM_FRONT": scenes.image,
            "CAM_BACK": scenes.image,
            "RADAR_FRONT": scenes.radar,
        }
        order = list(makers)
        events = [
            (time_ms, order.index(name), name)
            for name, (period, phase) in PERIOD_AND_PHASE_MS.items()
            for time_ms in range(phase, self.duration_ms, period)
        ]
        for time_ms, _, name in sorted(events):
            yield name, makers[name](START_NS + time_ms * MS)


def make_drive_bag(path: Path, duration_ms: int, lidar_points: int = 2000) -> Path:
    """Write the bag; returns its path."""
    return write_bag(MadeUpDrive(duration_ms, lidar_points), path)
