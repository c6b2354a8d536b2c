# SPDX-License-Identifier: Apache-2.0
"""Reads a recorded session back: what the sensors sent, what the node published, and its status of each frame."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import Measurement, OdometrySample
from peft_dml_tools.datasets.bag_recording import compressed
from peft_dml_tools.datasets.bag_storage import BagStorage
from peft_dml_tools.datasets.bag_types import typestore
from peft_dml_tools.datasets.bags import BagSource
from peft_dml_tools.datasets.boxes_from_msg import boxes_from_msg, with_velocities
from peft_dml_tools.evaluation.alignment import Alignment
from peft_dml_tools.evaluation.recording import FaultWindow, RecordedFrame, Recording, SensorReading
from peft_dml_tools.live.frame_status import FrameStatus, SensorStatus
from peft_dml_tools.live.session import BOXES, STATUS, VELOCITIES

#: A frame may be stamped this much after the end of the drive: stamps in seconds are rounded
SLACK_NS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class PlayedDrive:
    """What was played, in live time."""

    title: str  #: One sentence on it
    from_ns: int  #: Live stamp of its beginning
    to_ns: int  #: Live stamp of its end
    frames_expected: int  #: Frames that a perfect run publishes
    truth: dict[int, Boxes3D] = field(default_factory=dict)  #: True boxes by live stamp
    faults: tuple[FaultWindow, ...] = ()  #: Scripted faults in live time


def read_session(bag: Path, played: PlayedDrive) -> Recording:
    """Read a session from its bag. Raises DataError: the bag holds no detection."""
    source = BagSource(bag)
    measurements: dict[str, list[Measurement]] = {}
    for name, measurement in source.measurements():
        measurements.setdefault(name, []).append(compressed(measurement))
    outputs = _Outputs.read(bag)
    stamps = [stamp for stamp in outputs.boxes if played.from_ns <= stamp <= played.to_ns + SLACK_NS]
    if not stamps:
        raise DataError(f"{bag} holds no message on {BOXES} for the time of the drive; fix: see the node's log")
    alignment = Alignment([m for m in measurements.get("ODOM", []) if isinstance(m, OdometrySample)])
    frames = (outputs.frame(stamp, alignment.truth_at(played.truth, stamp)) for stamp in sorted(stamps))
    return Recording(
        title=played.title,
        rig=source.rig,
        frames=tuple(frames),
        measurements=measurements,
        faults=played.faults,
        drops=outputs.drops(),
        frames_expected=played.frames_expected,
        from_ns=played.from_ns,
    )


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Boxes and statuses of the node by their stamp."""

    boxes: dict[int, Boxes3D]
    status: dict[int, FrameStatus]
    seen_ns: dict[int, int]

    @classmethod
    def read(cls, bag: Path) -> "_Outputs":
        """Decode what the node published."""
        boxes: dict[int, Boxes3D] = {}
        velocities: dict[int, Any] = {}
        status: dict[int, FrameStatus] = {}
        boxes_ns: dict[int, int] = {}
        for seen_ns, message in BagStorage(bag).recorded({BOXES, VELOCITIES, STATUS}):
            decoded = typestore().deserialize_cdr(message.cdr, message.msgtype)
            if message.topic == BOXES:
                boxes[message.stamp_ns], boxes_ns[message.stamp_ns] = boxes_from_msg(decoded), seen_ns
            elif message.topic == VELOCITIES:
                velocities[message.stamp_ns] = decoded
            else:
                status[message.stamp_ns] = FrameStatus.of(decoded, message.stamp_ns, seen_ns)
        for stamp, cloud in velocities.items():
            if stamp in boxes:
                boxes[stamp] = with_velocities(boxes[stamp], cloud)
        return cls(boxes, status, boxes_ns)

    def frame(self, stamp_ns: int, truth: Boxes3D | None) -> RecordedFrame:
        """Return the frame of a stamp; of one whose status was lost, only its boxes and their arrival are known."""
        late_ms = {"latency_ms": str((self.seen_ns[stamp_ns] - stamp_ns) / 1e6)}
        unknown = FrameStatus(stamp_ns, stamp_ns, says_blind=False, values=late_ms, sensors={})
        status = self.status.get(stamp_ns, unknown)
        return RecordedFrame(
            stamp_ns=stamp_ns,
            reference=status.reference,
            boxes=self.boxes[stamp_ns],
            mask=np.array(status.vector("mask")),
            gate=np.array(status.vector("gate")),
            latency_ms=status.latency_ms,
            stages_ms=status.stages_ms,
            sensors={name: _reading(sensor) for name, sensor in status.sensors.items()},
            age_s=np.array(status.vector("age_s")),
            truth=truth,
        )

    def drops(self) -> Counter[str]:
        """Return the drops; the node counts from its start, so that the newest numbers hold them all."""
        return Counter(self.status[max(self.status)].drops) if self.status else Counter()


def _reading(sensor: SensorStatus) -> SensorReading:
    reason = sensor.reason
    if not reason and sensor.state not in {"", "OK"}:
        reason = sensor.state.lower()
    return SensorReading(sensor.state, reason, sensor.received, sensor.gated)
