# SPDX-License-Identifier: Apache-2.0
"""The tiny recipe, on one thread; what accelerate keeps of a run goes before the next; two scenes."""

import pytest

from peft_dml_tools.commands.simulate import write_one
from peft_dml_tools.datasets.nuscenes_writer_tables import finish
from peft_dml_tools.sim.drive import DriveSpec
from peft_dml_tools.sim.vehicle_rig import make_rig
from tests.train.conftest import config, one_thread, own_accelerator  # noqa: F401

NAMES = ("scene-5000", "scene-5001")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Two scenes of a keyframe each or two; the second serves for all but training."""
    root = tmp_path_factory.mktemp("evidence")
    spec = DriveSpec(image_width_px=192, camera_hz=2, lidar_hz=4, radar_hz=4, imu_hz=50, odometry_hz=20)
    for i, name in enumerate(NAMES):
        write_one((str(root), name, 31 + i, 1.5, spec))
    splits = {"sim_train": [NAMES[0]], "sim_val": [NAMES[1]], "sim_test": [NAMES[1]]}
    finish(root, "v1.0-sim", make_rig(192), splits)
    return root
