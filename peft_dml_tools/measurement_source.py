# SPDX-License-Identifier: Apache-2.0
"""The one face of everything that yields measurements: nuScenes scenes, ROS 2 bags, simulated drives."""

from collections.abc import Iterator
from typing import Protocol

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.measurements import Measurement
from peft_dml_ros.core.rig import Rig


class Source(Protocol):
    """A stretch of driving."""

    @property
    def name(self) -> str:
        """What to call it in reports."""

    @property
    def rig(self) -> Rig:
        """The vehicle's sensors."""

    @property
    def truth(self) -> dict[int, Boxes3D]:
        """Stamp in ns -> boxes in `base_link` at that stamp that some LiDAR or radar point hit; may be empty."""

    def measurements(self) -> Iterator[tuple[str, Measurement]]:
        """Yield (sensor name, measurement) in stamp order, made as they are asked for; can be started again."""


class WrappedSource:
    """A source that has name, rig and truth of another one; what it yields is for the subclass to say."""

    def __init__(self, source: Source) -> None:
        self._source, self.name = source, source.name

    @property
    def rig(self) -> Rig:
        """The vehicle's sensors."""
        return self._source.rig

    @property
    def truth(self) -> dict[int, Boxes3D]:
        """Stamp in ns -> boxes in `base_link` at that stamp."""
        return self._source.truth
