# SPDX-License-Identifier: Apache-2.0
"""A short simulated folder, read back."""

from pathlib import Path

import pytest

from peft_dml_ros.cli.simulate import simulate
from peft_dml_ros.datasets.nuscenes import NuScenesReader


@pytest.fixture(scope="session")
def simulated(tmp_path_factory) -> NuScenesReader:
    folder: Path = tmp_path_factory.mktemp("bench") / "simulated"
    simulate(folder, 1, 1.5, 4, 1, 96, 0.0, 4.0, "clear", "1,0,0")
    return NuScenesReader(folder)
