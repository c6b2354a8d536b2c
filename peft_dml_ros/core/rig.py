# SPDX-License-Identifier: Apache-2.0
"""The sensor rig: which sensors a vehicle carries, where they sit, and how its cameras project."""

from dataclasses import dataclass, field
from itertools import count
from typing import Final

from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.errors import ConfigError, DataError, nearest
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.lenses import Lens
from peft_dml_ros.core.typing import FloatArray

_VERSIONS: Final = count(1)


@dataclass(frozen=True, slots=True)
class CameraModel:
    """Pinhole projection of a rectified image, and the lens of a raw one that has to be undistorted to it."""

    intrinsics: FloatArray  #: (3, 3) float64, pixels; optical frame: z forward, x right, y down
    width_px: int  #: Width of the image that `intrinsics` belong to
    height_px: int  #: Its height
    lens: Lens | None = None  #: Distortion of the images as they come; None where they are rectified

    def __post_init__(self) -> None:
        if self.intrinsics.shape != (3, 3) or self.intrinsics[0, 0] <= 0 or self.intrinsics[1, 1] <= 0:
            raise DataError(f"camera intrinsics {self.intrinsics.tolist()}; fix: (3, 3) with positive focal lengths")
        if self.width_px <= 0 or self.height_px <= 0:
            raise DataError(f"camera image size {self.width_px} x {self.height_px}; fix: give positive ones")


@dataclass(frozen=True, slots=True)
class Sensor:
    """One sensor of the rig."""

    name: str  #: Channel name as in nuScenes, e.g. LIDAR_TOP, CAM_FRONT, RADAR_FRONT, IMU, GNSS, ODOM.
    modality: Modality | None  #: One of `MODALITIES`; odometry is `None`, since the network never sees it
    base_SE3_sensor: SE3  #: Maps the sensor frame to `base_link`
    camera: CameraModel | None = None  #: Projection, for cameras that are calibrated


@dataclass(frozen=True, slots=True)
class Rig:
    """All sensors of a vehicle by name."""

    #: name -> Sensor, in the order of the network's camera slots for cameras
    sensors: dict[str, Sensor] = field(default_factory=dict)
    #: Another one for every rig of this process: the same number means the same sensors
    version: int = field(default_factory=_VERSIONS.__next__, compare=False)

    def __getitem__(self, name: str) -> Sensor:
        """Return the sensor of that name. Raises ConfigError: no such sensor."""
        try:
            return self.sensors[name]
        except KeyError:
            raise ConfigError(f"no sensor '{name}' in the rig; {nearest(name, self.sensors)}") from None

    def of(self, modality: Modality) -> tuple[Sensor, ...]:
        """Return sensors of one modality."""
        return tuple(sensor for sensor in self.sensors.values() if sensor.modality == modality)


def modality_of_channel(name: str) -> Modality | None:
    """Return a channel's modality; None for odometry. Raises ConfigError: the name starts with no known prefix."""
    prefixes: dict[str, Modality | None] = {
        "LIDAR": "lidar",
        "CAM": "camera",
        "RADAR": "radar",
        "IMU": "imu",
        "GNSS": "gnss",
        "ODOM": None,
    }
    for prefix, modality in prefixes.items():
        if name.startswith(prefix):
            return modality
    raise ConfigError(f"sensor name '{name}' fits no kind of sensor; fix: begin it with {', '.join(prefixes)}")
