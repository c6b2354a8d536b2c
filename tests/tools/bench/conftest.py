# SPDX-License-Identifier: Apache-2.0
"""A short simulated folder, read back."""

from pathlib import Path

import pytest

from peft_dml_tools.commands.simulate import simulate
from peft_dml_tools.datasets.nuscenes import NuScenesReader


@pytest.fixture(scope="session")
def simulated(tmp_path_factory) -> NuScenesReader:
    folder: Path = tmp_path_factory.mktemp("bench") / "simulated"
    simulate(folder, scenes=1, seconds=1.5, seed=4, image_width=96, camera_hz=0.0, lidar_hz=4.0, splits="1,0,0")
    return NuScenesReader(folder)
