# SPDX-License-Identifier: Apache-2.0
"""A drive in circles past a perception node: the vehicle is replayed, and what the node says of it is recorded."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from peft_dml_ros.conversions.topics import topic_of
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.params import ALL_SENSORS
from peft_dml_tools.datasets.bag_storage import BagStorage
from peft_dml_tools.datasets.bag_topics import bag_topic
from peft_dml_tools.datasets.bag_types import typestore
from peft_dml_tools.datasets.bags import BagSource
from peft_dml_tools.live.accounting import SensorAccount, message_account
from peft_dml_tools.live.children import Child
from peft_dml_tools.live.frame_status import FrameStatus
from peft_dml_tools.live.session import BOXES, START_S, STATUS, Session, follow
from peft_dml_tools.sim.faults import Fault

QUIET_S: Final = 2.0  #: Silence at the end, after which all that was sent is accounted for


@dataclass(frozen=True, slots=True)
class Circuit:
    """What is driven."""

    drive: Path  #: Bag of a short drive, repeated without a seam
    seconds: float  #: Length of the whole
    faults: tuple[Fault, ...] = ()  #: Times count from the start
    sensors: tuple[str, ...] = ()  #: Sensors that the vehicle has; those of the drive when none is named


@dataclass(frozen=True, slots=True)
class Observation:
    """What was sent and what the node said, times by this host's clock."""

    start_ns: int  #: Begin of the drive
    silent_ns: int  #: Its end
    frames: tuple[FrameStatus, ...]  #: In order of arrival
    boxes_ns: Mapping[int, int] = field(default_factory=dict)  #: When the boxes of a stamp arrived
    sent: Mapping[str, int] = field(default_factory=dict)  #: Messages by sensor
    #: When the measurement of (sensor, stamp) was published, of sensors that can set the time of a frame
    sent_ns: Mapping[tuple[str, int], int] = field(default_factory=dict)
    late_max_ms: float = 0.0  #: The largest lateness of the replay

    @property
    def messages(self) -> dict[str, SensorAccount]:
        """Account of the messages by sensor."""
        return message_account(self.frames, self.sent)

    @property
    def drops(self) -> dict[str, int]:
        """Drops of the node since its start, by reason."""
        return self.frames[-1].drops if self.frames else {}

    def during(self, from_s: float, to_s: float) -> list[FrameStatus]:
        """Return the frames made between two times, in s since the start."""
        low, high = (self.start_ns + int(s * 1e9) for s in (from_s, to_s))
        return [frame for frame in self.frames if low <= frame.at_ns < high]


class ObservedDrive:
    """Drives a circuit past a node that runs, as a context: processes are ended on the way out.

    Args:
        session: Starts the processes.
        circuit: What is driven.
        name: Of the files; one for each drive of a session.
        namespace: Of the vehicle.
        everything: Record all topics, as the demo does, not the node's answers alone.
    """

    def __init__(
        self, session: Session, circuit: Circuit, name: str, *, namespace: str = "", everything: bool = False
    ) -> None:
        self._session, self._circuit, self._namespace = session, circuit, namespace
        self._prefix = f"/{namespace}" if namespace else ""
        self.bag, self._notes = session.scratch / f"{name}.mcap", session.scratch / f"{name}.jsonl"
        topics = () if everything else (f"{self._prefix}{STATUS}", f"{self._prefix}{BOXES}")
        self.recorder = session.recorder(self.bag, *topics)
        # Nothing is sent before the node listens, and the recorder, where that takes the sensors as well.
        self._listeners = 2 if everything else 1
        self.replay: Child | None = None

    def __enter__(self) -> "ObservedDrive":  # noqa: PYI034  typing.Self needs Python 3.11
        """Let the recorder look for the node."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End both processes."""
        for child in (self.replay, self.recorder):
            if child is not None:
                child.stop()

    def start(self, *nodes: Child) -> None:
        """Start the vehicle once the node's status reaches the recorder; nothing is sent before the node listens.

        Raises SessionError: a process ended, or not in time.
        """
        follow((*nodes, self.recorder), lambda: self.statuses > 0, START_S, "a first status of the node")
        sensors = self._circuit.sensors or tuple(BagSource(self._circuit.drive).rig.sensors)
        arguments = ["--seamless", "--seconds", str(self._circuit.seconds), "--notes", str(self._notes)]
        heard = (bag_topic(topic_of(name)) for name in sensors if name in ALL_SENSORS)
        arguments += ["--wait-for", *(f"{topic}={self._listeners}" for topic in heard)]
        if self._circuit.sensors:
            kept = "|".join(bag_topic(topic_of(name)).rpartition("/")[0] for name in sensors)
            arguments += ["--exclude", f"^(?!({kept}|/tf_static))"]
        self.replay = self._session.replay(
            self._circuit.drive, *arguments, faults=self._circuit.faults, namespace=self._namespace
        )
        follow((*nodes, self.recorder, self.replay), lambda: self.started, 2 * START_S, "the start of the drive")

    @property
    def statuses(self) -> int:
        """Status messages recorded so far."""
        return int(self.recorder.value("progress", "counts", {}).get(f"{self._prefix}{STATUS}", 0))

    @property
    def started(self) -> bool:
        """Whether the vehicle drives, or has driven."""
        return self.replay is not None and "start" in self.replay.latest

    @property
    def position_s(self) -> float:
        """How far it is."""
        return 0.0 if self.replay is None else float(self.replay.value("progress", "position_s", 0.0))

    def finish(self, *nodes: Child, tick: Callable[[], object] = lambda: None) -> None:
        """Drive to the end and stay silent for a while; a node may end meanwhile, the vehicle may not fail.

        Raises SessionError: the replay failed, or does not come to an end.
        """
        replay = self.replay
        if replay is None:
            raise DataError("the drive was not started; fix: start it first")

        def over() -> bool:
            return replay.code == 0 or (bool(nodes) and all(node.code is not None for node in nodes))

        follow((replay, self.recorder), over, self._circuit.seconds + START_S, "the end of the drive", tick)
        time.sleep(QUIET_S)

    def observation(self) -> Observation:
        """Return what was observed; call it after the processes have ended. Raises DataError: nothing was recorded."""
        replay = self.replay
        if replay is None:
            raise DataError("the drive was not started; fix: start it first")
        start_ns = int(replay.value("start", "begin_ns", 0)) + int(replay.value("start", "shift_ns", 0))
        silent_ns = int(replay.value("done", "silent_ns", 2**62))
        frames, boxes_ns = read_outputs(self.bag, self._prefix)
        sent, sent_ns, late_max_ms = read_notes(self._notes)
        return Observation(start_ns, silent_ns, frames, boxes_ns, sent, sent_ns, late_max_ms)


def read_outputs(bag: Path, prefix: str = "") -> tuple[tuple[FrameStatus, ...], dict[int, int]]:
    """Return a node's statuses in a recording, and when each stamp's boxes arrived. Raises DataError: unreadable."""
    frames: list[FrameStatus] = []
    boxes_ns: dict[int, int] = {}
    for seen_ns, message in BagStorage(bag).recorded({f"{prefix}{STATUS}", f"{prefix}{BOXES}"}):
        if message.topic.endswith(BOXES):
            boxes_ns[message.stamp_ns] = seen_ns
        else:
            decoded = typestore().deserialize_cdr(message.cdr, message.msgtype)
            frames.append(FrameStatus.of(decoded, message.stamp_ns, seen_ns))
    return tuple(frames), boxes_ns


def read_notes(path: Path) -> tuple[dict[str, int], dict[tuple[str, int], int], float]:
    """Return messages by sensor, times of publication by (sensor, stamp), and the largest lateness, in ms."""
    sent_ns: dict[tuple[str, int], int] = {}
    end: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        row = json.loads(line)
        if row["kind"] == "sent":
            sent_ns[row["sensor"], row["stamp_ns"]] = row["at_ns"]
        else:
            end = row
    return end.get("sent", {}), sent_ns, float(end.get("late_max_ms", 0.0))
