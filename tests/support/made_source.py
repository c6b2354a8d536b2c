# SPDX-License-Identifier: Apache-2.0
"""Sources for tests of bags and scenes: from rows, and from the miniature nuScenes folder."""

from pathlib import Path

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import LidarSweep, OdometrySample
from peft_dml_ros.core.rig import CameraModel, Rig, Sensor, modality_of_channel
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.source import NuScenesSource

SCENE = "scene-0002"


def scene_of(root: Path, scene: str = SCENE) -> NuScenesSource:
    """A scene of the miniature folder, with all radar points."""
    return NuScenesSource(NuScenesReader(root, filter_radar=False), scene)


class MadeSource:
    """A source from (sensor name, measurement) rows, all sensors in the place of `base_link`."""

    truth = {}  # noqa: RUF012
    name = "made"

    def __init__(self, rows, *, camera=True):
        intrinsics = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])
        names = sorted({name for name, _ in rows})
        models = {n: CameraModel(intrinsics, 64, 48) if n.startswith("CAM") and camera else None for n in names}
        self.rig = Rig({n: Sensor(n, modality_of_channel(n), SE3.identity(), models[n]) for n in names})
        self._rows = sorted(rows, key=lambda row: row[1].stamp_ns)

    def measurements(self):
        """In stamp order."""
        return iter(self._rows)


def sweep(stamp_ns: int, value: float = 1.0) -> tuple[str, LidarSweep]:
    """A row of four points."""
    return "LIDAR_TOP", LidarSweep(stamp_ns, np.full((4, 5), value, np.float32))


def pose(stamp_ns: int, x: float) -> tuple[str, OdometrySample]:
    """A row of a vehicle that turns as it drives."""
    return "ODOM", OdometrySample(stamp_ns, SE3.from_yaw(0.1 * x, (x, 0.0, 0.0)))
