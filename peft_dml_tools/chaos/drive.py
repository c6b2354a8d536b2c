# SPDX-License-Identifier: Apache-2.0
"""The short drive that goes round in circles, simulated once."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from peft_dml_tools.datasets.bags import write_bag
from peft_dml_tools.sim.drive import Drive, DriveSpec

SEED: Final = 7
IMAGE_WIDTH_PX: Final = 352


def make_drive(path: Path, seconds: float) -> Path:
    """Write the drive as a bag, if it is not there yet.

    Args:
        path: NAME.mcap.
        seconds: Its length.
    """
    if not path.exists():
        drive = Drive(SEED, seconds, DriveSpec(image_width_px=IMAGE_WIDTH_PX), workers=2)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bag(drive, path)
    return path
