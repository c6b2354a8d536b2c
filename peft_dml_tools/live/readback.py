# SPDX-License-Identifier: Apache-2.0
"""Reads a recorded session back: what the sensors sent, what the node published, and what the node said of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from peft_dml_ros.conversions import boxes_from_msg, with_velocities
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import Measurement, OdometrySample
from peft_dml_tools.datasets.bag_recording import compressed
from peft_dml_tools.datasets.bag_storage import BagStorage
from peft_dml_tools.datasets.bag_types import typestore
from peft_dml_tools.datasets.bags import BagSource
from peft_dml_tools.evaluation.alignment import Alignment
from peft_dml_tools.evaluation.recording import FaultWindow, Frame, Recording, SensorReading

NODE: Final = "/perception"
BOXES: Final = f"{NODE}/detections"
VELOCITIES: Final = f"{NODE}/velocities"
STATUS: Final = f"{NODE}/status"
FRAME_STATUS: Final = "perception: frame"
SENSOR_STATUS: Final = "perception: sensor "
SLACK_NS: Final = 1_000_000
"""A frame may be stamped this much after the end of the drive: stamps in seconds are rounded."""


@dataclass(frozen=True, slots=True)
class Played:
    """What was played, in live time.

    Attributes:
        title: One sentence on it.
        from_ns: Live stamp of its beginning.
        to_ns: Live stamp of its end.
        frames_expected: Frames that a perfect run publishes.
        truth: True boxes by live stamp.
        faults: Scripted faults in live time.
    """

    title: str
    from_ns: int
    to_ns: int
    frames_expected: int
    truth: dict[int, Boxes3D] = field(default_factory=dict)
    faults: tuple[FaultWindow, ...] = ()


def read_session(bag: Path, played: Played) -> Recording:
    """Read a session from its bag.

    Args:
        bag: Written by the recorder.
        played: What was played into the node.

    Raises:
        DataError: the bag holds no detection.
    """
    source = BagSource(bag)
    measurements: dict[str, list[Measurement]] = {}
    for name, measurement in source.measurements():
        measurements.setdefault(name, []).append(compressed(measurement))
    outputs = _Outputs.read(bag)
    stamps = [stamp for stamp in outputs.boxes if played.from_ns <= stamp <= played.to_ns + SLACK_NS]
    if not stamps:
        raise DataError(f"{bag} holds no message on {BOXES} for the time of the drive; see the node's log")
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
    """Messages of the node by their stamp."""

    boxes: dict[int, Boxes3D]
    status: dict[int, dict[str, dict[str, str]]]

    @classmethod
    def read(cls, bag: Path) -> _Outputs:
        boxes: dict[int, Boxes3D] = {}
        velocities: dict[int, Any] = {}
        status: dict[int, dict[str, dict[str, str]]] = {}
        for _, message in BagStorage(bag).recorded({BOXES, VELOCITIES, STATUS}):
            decoded = typestore().deserialize_cdr(message.cdr, message.msgtype)
            if message.topic == BOXES:
                boxes[message.stamp_ns] = boxes_from_msg(decoded)
            elif message.topic == VELOCITIES:
                velocities[message.stamp_ns] = decoded
            else:
                status[message.stamp_ns] = _values(decoded)
        for stamp, cloud in velocities.items():
            if stamp in boxes:
                boxes[stamp] = with_velocities(boxes[stamp], cloud)
        return cls(boxes, status)

    def frame(self, stamp_ns: int, truth: Boxes3D | None) -> Frame:
        statuses = self.status.get(stamp_ns, {})
        whole = statuses.get(FRAME_STATUS, {})
        prefix = "stage_ms."
        return Frame(
            stamp_ns=stamp_ns,
            reference=whole.get("reference", ""),
            boxes=self.boxes[stamp_ns],
            mask=_vector(whole, "mask"),
            gate=_vector(whole, "gate"),
            latency_ms=float(whole.get("latency_ms", "nan")),
            stages_ms={k.removeprefix(prefix): float(v) for k, v in whole.items() if k.startswith(prefix)},
            sensors={
                name.removeprefix(SENSOR_STATUS): _reading(values)
                for name, values in statuses.items()
                if name.startswith(SENSOR_STATUS)
            },
            age_s=_vector(whole, "age_s"),
            truth=truth,
        )

    def drops(self) -> Counter[str]:
        """The node counts from its start: the newest numbers hold them all."""
        if not self.status:
            return Counter()
        newest = self.status[max(self.status)].get(FRAME_STATUS, {})
        counts = {k.removeprefix("drops."): int(v) for k, v in newest.items() if k.startswith("drops.")}
        return Counter(counts)


def _values(message: Any) -> dict[str, dict[str, str]]:
    """Key-value pairs of a DiagnosticArray by status name."""
    statuses: Sequence[Any] = message.status
    return {str(s.name): {str(pair.key): str(pair.value) for pair in s.values} for s in statuses}


def _vector(values: Mapping[str, str], kind: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([float(values.get(f"{kind}.{modality}", "0")) for modality in MODALITIES])


def _reading(values: Mapping[str, str]) -> SensorReading:
    state, reason = values.get("state", ""), values.get("reason", "")
    if not reason and state not in {"", "OK"}:
        reason = state.lower()
    return SensorReading(state, reason, int(values.get("received", "0")), int(values.get("gated", "0")))
