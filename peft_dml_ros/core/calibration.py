# SPDX-License-Identifier: Apache-2.0
"""A rig from a calibration file, for vehicles that publish no static transforms or no CameraInfo.

    sensors:
      LIDAR_TOP: {xyz: [0.94, 0.0, 1.84], rpy: [0.0, 0.0, -1.571]}
      CAM_FRONT:
        xyz: [1.70, 0.016, 1.51]
        quaternion_xyzw: [-0.5, 0.5, -0.5, 0.5]
        camera: {width: 1600, height: 900, fx: 1266.4, fy: 1266.4, cx: 816.3, cy: 491.5}

`xyz` (m) and `rpy` (rad, fixed axes, as in URDF) or `quaternion_xyzw` give the sensor's frame in `base_link`; that of a
camera is its optical frame, and its projection belongs to the rectified image.
"""

from pathlib import Path

import numpy as np
import yaml
from pydantic import Field, ValidationError, model_validator

from peft_dml_ros.core.errors import ConfigError, DataError, one_line
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import CameraModel, Rig, Sensor, modality_of_channel
from peft_dml_ros.core.spec import Frozen
from peft_dml_ros.core.typing import FloatArray


class _CameraEntry(Frozen):
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    fx: float = Field(gt=0)
    fy: float = Field(gt=0)
    cx: float
    cy: float

    def model(self) -> CameraModel:
        """Return the pinhole model."""
        matrix = np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])
        return CameraModel(matrix, self.width, self.height)


class _Mounting(Frozen):
    xyz: tuple[float, float, float]
    rpy: tuple[float, float, float] | None = None
    quaternion_xyzw: tuple[float, float, float, float] | None = None
    camera: _CameraEntry | None = None

    @model_validator(mode="after")
    def _one_rotation(self) -> "_Mounting":
        if (self.rpy is None) == (self.quaternion_xyzw is None):
            raise ValueError("give either 'rpy' (rad) or 'quaternion_xyzw'")
        return self

    def transform(self) -> SE3:
        """Return `base_SE3_sensor`."""
        if self.quaternion_xyzw is not None:
            x, y, z, w = self.quaternion_xyzw
            return SE3.from_quaternion_wxyz((w, x, y, z), self.xyz)
        return SE3(_rotation(*(self.rpy or (0.0, 0.0, 0.0))), np.array(self.xyz, dtype=np.float64))


class _File(Frozen):
    sensors: dict[str, _Mounting] = Field(min_length=1)


def load_calibration(path: Path) -> Rig:
    """Return the sensors that a file describes. Raises ConfigError: it cannot be read, or all its mistakes at once."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read calibration {path}: {error}; fix: name another file") from error
    try:
        file = _File.model_validate(tree)
        return Rig({name: _sensor(name, mounting) for name, mounting in file.sensors.items()})
    except ValidationError as error:
        wrong = one_line(error)
    except (ConfigError, DataError) as error:
        wrong = str(error)
    raise ConfigError(f"calibration {path}: {wrong}; fix: see docs/cookbook.md")


def _sensor(name: str, mounting: _Mounting) -> Sensor:
    camera = None if mounting.camera is None else mounting.camera.model()
    return Sensor(name, modality_of_channel(name), mounting.transform(), camera)


def _rotation(roll: float, pitch: float, yaw: float) -> FloatArray:
    """Return the rotation of roll about x, then pitch about y, then yaw about z, all fixed axes."""
    (cr, cp, cy), (sr, sp, sy) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )
