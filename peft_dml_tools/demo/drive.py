# SPDX-License-Identifier: Apache-2.0
"""The demo's drive: simulated straight into a bag, so that memory does not grow with its length."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.measurements import Measurement
from peft_dml_tools.datasets.bags import write_bag
from peft_dml_tools.sim.drive import Drive


class Steps(Protocol):
    """Where progress is shown."""

    def begin(self, name: str, total: float | None = None, words: str = "") -> None:
        """Start a step."""

    def update(self, completed: float, words: str = "") -> None:
        """How far it is."""

    def finish(self, words: str | None = None) -> None:
        """It is done."""


class Watched:
    """A simulated drive that shows how far it is while its measurements are taken; none of them is kept.

    Args:
        drive: What is rendered.
        steps: Where progress is shown.
    """

    def __init__(self, drive: Drive, steps: Steps) -> None:
        self._drive, self._steps = drive, steps
        self.name, self.rig = drive.name, drive.rig

    @property
    def truth(self) -> dict[int, Boxes3D]:
        """Boxes by stamp; known once the measurements were taken."""
        return self._drive.truth

    def measurements(self) -> Iterator[tuple[str, Measurement]]:
        """In stamp order, rendered as they are asked for."""
        total = len(self._drive.events)
        for count, entry in enumerate(self._drive.measurements(), start=1):
            if count % 20 == 0:
                self._steps.update(count, f"{count} of {total} measurements")
            yield entry


def simulate(seed: int, seconds: float, scratch: Path, steps: Steps) -> tuple[Path, Watched]:
    """Render a drive into a bag below `scratch`; returns that and the drive, whose truth is known now."""
    workers = min(4, os.cpu_count() or 1)
    drive = Drive(seed, seconds, workers=workers)
    steps.begin("simulate", len(drive.events), "building a street")
    source = Watched(drive, steps)
    path = write_bag(source, scratch / "drive.mcap")
    steps.finish(f"{len(drive.events)} measurements of {len(drive.rig.sensors)} sensors")
    return path, source
