# SPDX-License-Identifier: Apache-2.0
"""A session as scoring, drawing and the report take it, made by any of the drivers."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.measurements import Measurement, OdometrySample
from peft_dml_ros.core.params import ALL_SENSORS
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.typing import FloatArray


@dataclass(frozen=True, slots=True)
class SensorReading:
    """What the health gate said about one sensor in one frame."""

    state: str  #: State name, e.g. ok, stale, silent.
    reason: str  #: Why it is not used; empty while it is
    received: int  #: Messages received so far
    gated: int  #: Frames so far in which it was not used

    @property
    def alive(self) -> bool:
        """True while the detector uses the sensor."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One published frame."""

    stamp_ns: int  #: Stamp of the detection
    reference: str  #: Sensor that gave the stamp
    boxes: Boxes3D  #: Detected boxes, `base_link` at the stamp
    mask: FloatArray  #: (5,) 1 where a modality was present, `MODALITIES` order
    gate: FloatArray  #: (5,) weight of each modality in the fusion, sums to 1
    latency_ms: float  #: From the reference stamp to publication; computing time where nothing was published
    stages_ms: dict[str, float]  #: Computing time by stage
    sensors: dict[str, SensorReading]  #: Reading by sensor name
    #: (5,) mean age of each modality; 0 where absent
    age_s: FloatArray = field(default_factory=lambda: np.zeros(len(MODALITIES)))
    truth: Boxes3D | None = None  #: True boxes, `base_link` at the stamp; None where unknown


@dataclass(frozen=True, slots=True)
class FaultWindow:
    """A scripted fault in recording time; see the replay's fault script."""

    sensor: str
    fault: str
    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class Recording:
    """A session."""

    title: str  #: One sentence on what was driven
    rig: Rig  #: The sensors and where they sit
    frames: tuple[RecordedFrame, ...]  #: Published frames in stamp order
    #: Received measurements by sensor name, in stamp order
    measurements: dict[str, list[Measurement]] = field(default_factory=dict)
    faults: tuple[FaultWindow, ...] = ()  #: Scripted faults
    drops: Counter[str] = field(default_factory=Counter)  #: Dropped messages and frames by reason
    frames_expected: int = 0  #: Frames that a perfect run publishes
    from_ns: int = 0  #: Beginning of the session; 0 stands for the first frame's stamp

    @property
    def live(self) -> bool:
        """True for a session over ROS, false for a run at full speed."""
        return bool(self.from_ns)

    @property
    def start_ns(self) -> int:
        """Time zero of everything that is shown."""
        return self.from_ns or self.frames[0].stamp_ns

    @property
    def odometry(self) -> tuple[OdometrySample, ...]:
        """All poses, oldest first."""
        every = (m for found in self.measurements.values() for m in found)
        return tuple(sorted((m for m in every if isinstance(m, OdometrySample)), key=lambda m: m.stamp_ns))

    def nearest(self, sensor: str, stamp_ns: int, within_ns: int) -> Measurement | None:
        """Return the sensor's measurement nearest to a time, or None when none is within `within_ns`."""
        found = self.measurements.get(sensor)
        if not found:
            return None
        stamps = np.fromiter((m.stamp_ns for m in found), dtype=np.int64, count=len(found))
        best = int(np.abs(stamps - stamp_ns).argmin())
        return found[best] if abs(int(stamps[best]) - stamp_ns) <= within_ns else None


def shown_sensors(rig: Rig) -> list[str]:
    """Return the sensors that the network sees, by modality; well-known ones in their usual order within each."""
    place = {name: i for i, name in enumerate(ALL_SENSORS)}
    return [s.name for m in MODALITIES for s in sorted(rig.of(m), key=lambda s: place.get(s.name, len(place)))]
