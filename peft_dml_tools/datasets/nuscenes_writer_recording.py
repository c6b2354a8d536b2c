# SPDX-License-Identifier: Apache-2.0
"""What the nuScenes writer needs to know of a recording, and a scene while it is written."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import Measurement
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.typing import IntArray, UInt8Array
from peft_dml_tools.datasets.nuscenes_writer_tables import Tables


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a recording is from, as the tables tell it."""

    prefix: str = "sim"  #: Log names and file names begin with it
    vehicle: str = "sim"  #: Name of the vehicle
    date_captured: str = "2025-01-01"  #: YYYY-MM-DD
    description: str = "Simulated street"  #: Of the scene
    #: The truth was annotated by somebody: objects far away and without a single point are kept, too
    annotated: bool = False


SIMULATED: Final = Origin()


@runtime_checkable
class DepthRecording(Protocol):
    """A recording that also knows how far each part of a picture is."""

    def depth_png(self, sensor: str, stamp_ns: int) -> bytes | None:
        """Return the 16-bit PNG (256 steps a metre, 0 for none) of the picture that was given last; `None` without."""


class WritableDrive(Protocol):
    """What the writer needs to know of a drive; `sim.drive.Drive` is one."""

    rig: Rig

    @property
    def location(self) -> str:
        """Name of the map."""

    @property
    def keyframes_ns(self) -> tuple[int, ...]:
        """Stamps of LiDAR sweeps that become samples."""

    @property
    def map_mask(self) -> UInt8Array:
        """(H, W) uint8, 0.1 m a pixel, 255 where drivable."""

    def measurements(self) -> Iterator[tuple[str, Measurement]]:
        """Yield (sensor name, measurement) in stamp order."""

    def global_SE3_base(self, stamp_ns: int) -> SE3:
        """Return the pose of `base_link` in the map frame."""

    def truth_at(self, stamp_ns: int) -> Boxes3D:
        """Return all objects in `base_link`."""

    def category_of(self, object_id: str) -> str:
        """Return the nuScenes category of an object."""


@dataclass(slots=True)
class SceneWork:
    """A scene under way."""

    root: Path  #: The data set's folder
    name: str  #: Name of the scene
    recording: WritableDrive  #: What is written
    stamps: dict[str, list[int]]  #: All stamps by sensor
    tables: Tables  #: Its part of the tables, as far as it is written
    origin: Origin  #: Where the recording is from
    #: CAN bus messages by kind
    can: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"ms_imu": [], "pose": [], "gnss": []})
    #: Returns inside each box, by keyframe and modality
    points: dict[int, dict[str, IntArray]] = field(default_factory=dict)

    @property
    def log_name(self) -> str:
        """Name of the log, with which file names begin."""
        return f"{self.origin.prefix}-{self.name}"
