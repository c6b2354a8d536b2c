# SPDX-License-Identifier: Apache-2.0
"""Simulates the demo's drive straight into a bag, so that memory does not grow with its length."""

import os
from collections.abc import Iterator
from pathlib import Path

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.measurements import Measurement
from peft_dml_tools.datasets.bags import write_bag
from peft_dml_tools.demo.progress import StepProgress
from peft_dml_tools.sim.drive import Drive


class WatchedDrive:
    """A simulated drive that shows how far it is while its measurements are taken; none of them is kept."""

    def __init__(self, drive: Drive, steps: StepProgress) -> None:
        self._drive, self._steps = drive, steps
        self.name, self.rig = drive.name, drive.rig

    @property
    def truth(self) -> dict[int, Boxes3D]:
        """Boxes by stamp; known once the measurements were taken."""
        return self._drive.truth

    def measurements(self) -> Iterator[tuple[str, Measurement]]:
        """Yield measurements in stamp order, rendered as they are asked for."""
        total = len(self._drive.events)
        for count, entry in enumerate(self._drive.measurements(), start=1):
            if count % 20 == 0:
                self._steps.step(count, f"{count} of {total} measurements")
            yield entry


def simulate(seed: int, seconds: float, scratch: Path, steps: StepProgress) -> tuple[Path, WatchedDrive]:
    """Render a drive into a bag below `scratch`; return that and the drive, whose truth is known now."""
    workers = min(4, os.cpu_count() or 1)
    drive = Drive(seed, seconds, workers=workers)
    steps.begin("simulate", len(drive.events), "building a street")
    source = WatchedDrive(drive, steps)
    path = write_bag(source, scratch / "drive.mcap")
    steps.finish(f"{len(drive.events)} measurements of {len(drive.rig.sensors)} sensors")
    return path, source
