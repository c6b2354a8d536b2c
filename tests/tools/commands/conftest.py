# SPDX-License-Identifier: Apache-2.0
"""A bundle without training and a short drive, made once."""

from pathlib import Path

import pytest

from peft_dml_tools.datasets.bags import write_bag
from peft_dml_tools.evaluation.recording import Recording
from peft_dml_tools.sim.drive import Drive, DriveSpec
from tests.support.random_bundle import make_random_bundle
from tests.tools.commands.fabricated import session

DRIVE_S = 2.2


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    return make_random_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def bag(tmp_path_factory) -> Path:
    spec = DriveSpec(camera_hz=6.0, image_width_px=176)
    return write_bag(Drive(5, DRIVE_S, spec), tmp_path_factory.mktemp("drive") / "drive.mcap")


@pytest.fixture(scope="session")
def recording() -> Recording:
    return session()
