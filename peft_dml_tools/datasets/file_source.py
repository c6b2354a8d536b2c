# SPDX-License-Identifier: Apache-2.0
"""A source made of files: a list of stamps, sensors and loaders. Readers of folders only have to make that list."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.measurements import CameraImage, Measurement, OdometrySample
from peft_dml_ros.core.rig import Rig, Sensor, modality_of_channel
from peft_dml_ros.core.spec import CameraSpec
from peft_dml_tools.datasets.bag_topics import rig_order
from peft_dml_tools.datasets.nuscenes_images import read_image

#: Directions of the network's camera slots in `base_link`, those of nuScenes
SLOT_YAWS_RAD: Final = dict(zip(CameraSpec().cameras, np.deg2rad([0, -55, -110, 180, 110, 55]), strict=True))


class Entry(NamedTuple):
    """One measurement that is not read yet."""

    stamp_ns: int
    sensor: str
    load: Callable[[], Measurement]


@dataclass
class FileSource:
    """Measurements in files, with everything else already known."""

    name: str  #: What to call it
    rig: Rig  #: Sensors with their mounting
    entries: list[Entry]  #: Measurements; read one by one, in stamp order, motion first
    truth: dict[int, Boxes3D] = field(default_factory=dict)  #: Boxes in `base_link` by stamp
    places: dict[str, str] = field(default_factory=dict)  #: Folder or file of each sensor
    left_out: dict[str, str] = field(default_factory=dict)  #: Why sensors are not in the rig
    assumed: frozenset[str] = frozenset()  #: Sensors in the rig whose mounting nobody gave

    def where(self, sensor: str) -> str:
        """Return the folder or file of a sensor."""
        return self.places.get(sensor, "")

    @property
    def last_stamp_ns(self) -> int:
        """Stamp of the last measurement; 0 when there is none."""
        return max((entry.stamp_ns for entry in self.entries), default=0)

    def measurements(self) -> Iterator[tuple[str, Measurement]]:
        """Yield (sensor, measurement) in stamp order, as asked for. Raises DataError: a file is missing or damaged."""
        for entry in sorted(
            self.entries, key=lambda e: (e.stamp_ns, modality_of_channel(e.sensor) is not None, e.sensor)
        ):
            yield entry.sensor, entry.load()


def image_entry(path: Path, stamp_ns: int, sensor: str) -> Entry:
    """Return the entry of an image file."""
    return Entry(stamp_ns, sensor, lambda: CameraImage(stamp_ns, jpeg=read_image(path)))


def pose_entries(samples: Iterable[OdometrySample]) -> list[Entry]:
    """Return the entries of poses."""
    return [Entry(sample.stamp_ns, "ODOM", lambda sample=sample: sample) for sample in samples]  # type: ignore[misc]


def in_rig_order(sensors: Iterable[Sensor]) -> Rig:
    """Return a rig of these sensors."""
    return Rig({sensor.name: sensor for sensor in sorted(sensors, key=lambda s: rig_order(s.name))})


def camera_slots(cameras: Iterable[Sensor], widest_rad: float = 0.7) -> dict[str, str]:
    """Return the network's slot of each camera of another vehicle, by the direction that it looks in.

    Nearest pairs come first; a camera that is further than `widest_rad` from every free slot has none, and one whose
    name is that of a slot keeps it.
    """
    cameras = list(cameras)
    found = {camera.name: camera.name for camera in cameras if camera.name in SLOT_YAWS_RAD}
    gaps = []
    for camera in cameras:
        axis = camera.base_SE3_sensor.rotation[:, 2]
        yaw = float(np.arctan2(axis[1], axis[0]))
        for slot, wanted in SLOT_YAWS_RAD.items():
            gaps.append((abs(float(np.arctan2(np.sin(yaw - wanted), np.cos(yaw - wanted)))), camera.name, slot))
    for gap, name, slot in sorted(gaps):
        if gap <= widest_rad and name not in found and slot not in found.values():
            found[name] = slot
    return found
