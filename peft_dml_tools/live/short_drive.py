# SPDX-License-Identifier: Apache-2.0
"""Short simulated drives that measurements repeat without a seam."""

import os
from pathlib import Path
from typing import Any

from peft_dml_tools.datasets.bags import write_bag
from peft_dml_tools.sim.drive import Drive, DriveSpec


def simulate_short_drive(path: Path, seconds: float, seed: int, **settings: Any) -> Path:
    """Write a drive as a bag, if it is not there yet."""
    if not path.exists():
        drive = Drive(seed, seconds, DriveSpec.model_validate(settings), workers=min(4, os.cpu_count() or 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bag(drive, path)
    return path
