# SPDX-License-Identifier: Apache-2.0
"""Drives a vehicle round and round with scripted faults, and writes down what the perception node makes of it.

    python -m peft_dml_tools.nodes.chaos_driver drive.mcap --plan plan.json --out seen.jsonl --seconds 60

The plan is a JSON list of phases `{"from_s", "to_s", "faults": [...]}` in seconds since the start. The file holds JSON
records, one a line: `start`, `struck` (first message of a sensor that a phase hits), `frame`, `books` and `end`.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.utilities import remove_ros_args

from peft_dml_ros import conversions
from peft_dml_ros.conversions.cdr import shift_leading
from peft_dml_ros.core.classes import DETECTING
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.nodes.runtime import POLL_S, emit, ros_main
from peft_dml_tools.nodes.player import Player, wall_clock_ns
from peft_dml_tools.nodes.recordings import Recorded, Recording, open_recording
from peft_dml_tools.nodes.replay_faults import MessageFaults, sensors_by_topic
from peft_dml_tools.nodes.replay_parameters import spinning
from peft_dml_tools.sim.faults import ALL, Fault

BOOKS_S = 0.5


@dataclass(frozen=True, slots=True)
class Phase:
    """Faults of one stretch of time, in seconds since the start."""

    from_s: float
    to_s: float
    faults: tuple[Fault, ...]


class Round:
    """A short drive held in memory, as a stream without end.

    Args:
        recording: The drive; its length is cut to whole seconds, so that each sensor keeps its period at the seam.
        only: Sensors that the vehicle has; all when none is named.
    """

    def __init__(self, recording: Recording, only: Sequence[str] = ()) -> None:
        sensors = sensors_by_topic(recording.channels)
        wanted = {topic for topic, sensor in sensors.items() if not only or sensor in only}
        self.channels = {t: c for t, c in recording.channels.items() if c.latched or t in wanted}
        self.start_ns = recording.start_ns
        self._cycle_ns = max(1, int((recording.end_ns - recording.start_ns) / 1e9)) * 1_000_000_000
        end_ns = self.start_ns + self._cycle_ns
        self._messages = [m for m in recording.messages() if m.topic in self.channels and m.time_ns < end_ns]
        if not self._messages:
            raise DataError("the drive holds no message of any sensor")

    @property
    def first(self) -> list[Recorded]:
        """The first message of each topic, in time order."""
        found: dict[str, Recorded] = {}
        for message in self._messages:
            found.setdefault(message.topic, message)
        return list(found.values())

    def __iter__(self) -> Iterator[Recorded]:
        """Messages in time order, with their stamps moved on from cycle to cycle."""
        moved_ns = 0
        while True:
            for message in self._messages:
                yield Recorded(message.time_ns + moved_ns, message.topic, shift_leading(message.cdr, moved_ns))
            moved_ns += self._cycle_ns


class Notes:
    """The file of records; safe to use from several threads."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._lock = file, threading.Lock()

    def __call__(self, kind: str, **values: Any) -> None:
        """Append one record."""
        line = json.dumps({"kind": kind, **values}, separators=(",", ":"))
        with self._lock:
            self._file.write(line + "\n")


class Observer:
    """Writes down every status of the perception node.

    Args:
        node: Listens.
        name: Of the perception node, in the same namespace.
        note: Where to.
    """

    def __init__(self, node: Node, name: str, note: Notes) -> None:
        self._note, self._booked_s = note, 0.0
        self.frames = 0
        node.create_subscription(DiagnosticArray, f"{name}/status", self._on_status, 50)

    def _on_status(self, message: DiagnosticArray) -> None:
        self.frames += 1
        frame = message.status[0]
        values = {pair.key: pair.value for pair in frame.values}
        sensors = {s.name.rpartition(" ")[2]: {p.key: p.value for p in s.values} for s in message.status[1:]}
        drops = {k.removeprefix("drops."): int(v) for k, v in values.items() if k.startswith("drops.")}
        arrival_ms, latency_ms = float(values["stage_ms.arrival"]), float(values["latency_ms"])
        seen_ns = wall_clock_ns()
        self._note(
            "frame",
            at_ns=conversions.stamp_ns_from_msg(message) + int(arrival_ms * 1e6),
            seen_ns=seen_ns,
            by=values["reference"],
            blind=frame.level == DiagnosticStatus.ERROR and "BLIND" in frame.message,
            sees=[m for m in DETECTING if values[f"mask.{m}"] == "1"],
            boxes=int(values["boxes"]),
            triggered=int(values["frames.triggered"]),
            published=int(values["frames.published"]),
            lost=sum(n for reason, n in drops.items() if reason.startswith("frame: ")),
            work_ms=latency_ms - arrival_ms,
            states={name: s["state"] for name, s in sensors.items() if s["state"] != "OK"},
        )
        if time.monotonic() - self._booked_s >= BOOKS_S:
            self._booked_s = time.monotonic()
            counts = {name: [int(s["received"]), int(s["admitted"])] for name, s in sensors.items()}
            self._note("books", seen_ns=seen_ns, sensors=counts, drops=drops)


class Drive:
    """Publishes the round with the faults of the plan.

    Args:
        messages: The round.
        faulty: Acts out the faults.
        phases: In order of time.
        note: Told of the first message of each sensor that a phase hits.
    """

    def __init__(self, messages: Round, faulty: MessageFaults, phases: Sequence[Phase], note: Notes) -> None:
        self._messages, self._faulty, self._phases, self._note = messages, faulty, phases, note
        self._sensors = sensors_by_topic(messages.channels)
        self.sent: Counter[str] = Counter()

    def __call__(self, shift_ns: int, seconds: float) -> Iterator[Recorded]:
        """What the vehicle sends, for so long."""
        return self._counted(self._faulty(self._planned(shift_ns, seconds)))

    def _planned(self, shift_ns: int, seconds: float) -> Iterator[Recorded]:
        ahead, struck = list(self._phases), set[str]()
        phase: Phase | None = None
        for message in self._messages:
            now_s = (message.time_ns - self._messages.start_ns) / 1e9
            if now_s >= seconds:
                return
            while ahead and now_s >= ahead[0].from_s:
                phase, struck = ahead.pop(0), set()
                self._faulty.switch(phase.faults)
            sensor = self._sensors.get(message.topic, "")
            new = phase is not None and now_s < phase.to_s and sensor and sensor not in struck
            if new and phase is not None and any(fault.hits(sensor, now_s) for fault in phase.faults):
                struck.add(sensor)
                self._note("struck", from_s=phase.from_s, sensor=sensor, at_ns=message.time_ns + shift_ns)
            yield message

    def _counted(self, messages: Iterator[Recorded]) -> Iterator[Recorded]:
        for message in messages:
            if not message.topic.endswith("/camera_info"):
                self.sent[self._sensors.get(message.topic, message.topic)] += 1
            yield message


def _warm_up(messages: Round, rig: Callable[[], Rig], phases: Sequence[Phase]) -> None:
    """Act every kind of fault out once: what is loaded and compiled for it would hold the vehicle up on its way."""
    always = {"from_s": 0.0, "to_s": float("inf")}
    faults = {(f.fault, f.sensor): f.model_copy(update=always) for phase in phases for f in phase.faults}
    for fault in {kind: fault for (kind, _), fault in faults.items() if kind in {"weather", "blackout"}}.values():
        every = fault.model_copy(update={"sensor": ALL})
        list(MessageFaults(messages.channels, rig, messages.start_ns, [every])(messages.first))


def _await_node(player: Player, observer: Observer, topics: Sequence[str], limit_s: float) -> None:
    """Wait until the node listens to every topic, and its status reaches us.

    Raises:
        DataError: not in time.
    """
    limit = time.monotonic() + limit_s
    while not observer.frames or any(not player.subscribers(topic) for topic in topics):
        if time.monotonic() > limit:
            missing = [topic for topic in topics if not player.subscribers(topic)]
            raise DataError(f"after {limit_s:g} s nobody listens to {missing}; frames seen: {observer.frames}")
        time.sleep(POLL_S / 4)
    time.sleep(2 * POLL_S)


def drive(options: argparse.Namespace, stop: threading.Event) -> None:
    """Drive, then stay silent for a while so that all that was sent is accounted for.

    Raises:
        PeftDmlError: the drive cannot be read, or the node does not listen.
    """
    recording = open_recording(options.source)
    messages = Round(recording, options.sensors)
    entries = json.loads(options.plan.read_text(encoding="utf-8")) if options.plan else []
    phases = [Phase(e["from_s"], e["to_s"], tuple(Fault.model_validate(f) for f in e["faults"])) for e in entries]
    node = Node("chaos_driver")
    with options.out.open("w", encoding="utf-8") as file:
        note = Notes(file)
        observer = Observer(node, options.node, note)
        player = Player(node, messages.channels.values())
        player.publish_latched(recording.latched())
        faulty = MessageFaults(messages.channels, lambda: recording.rig, messages.start_ns)
        _warm_up(messages, lambda: recording.rig, phases)
        vehicle = Drive(messages, faulty, phases, note)
        with spinning(node):
            _await_node(player, observer, [t for t in messages.channels if t in sensors_by_topic([t])], options.wait_s)
            shift_ns = wall_clock_ns() - messages.start_ns
            note("start", at_ns=messages.start_ns + shift_ns)
            emit("start")
            report = _Progress(observer)
            player.play(vehicle(shift_ns, options.seconds), messages.start_ns, shift_ns, stop, report)
            note("silent", at_ns=wall_clock_ns())
            stop.wait(options.quiet_s)
        note("end", sent=dict(vehicle.sent), late_max_ms=round(player.progress.late_max_ms, 1))
    node.destroy_node()
    emit("done", frames=observer.frames)


class _Progress:
    """Writes a line a second."""

    def __init__(self, observer: Observer) -> None:
        self._observer, self._last_s, self._begun_s = observer, 0.0, time.monotonic()

    def __call__(self) -> None:
        now_s = time.monotonic()
        if now_s - self._last_s >= 1.0:
            self._last_s = now_s
            emit("progress", position_s=round(now_s - self._begun_s, 1), frames=self._observer.frames)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos_driver", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="bag of a short drive")
    parser.add_argument("--plan", type=Path, help="JSON list of phases; without one nothing fails")
    parser.add_argument("--out", type=Path, required=True, help="file of records")
    parser.add_argument("--seconds", type=float, required=True, help="length of the drive")
    parser.add_argument("--quiet-s", type=float, default=2.0, help="silence at the end")
    parser.add_argument("--wait-s", type=float, default=60.0, help="longest wait for the node")
    parser.add_argument("--node", default="perception", help="name of the perception node")
    parser.add_argument("--sensors", nargs="*", default=[], help="only these; all when none is given")
    return parser.parse_args(arguments)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point; `args` as on the command line, including `--ros-args`."""
    options = _options(remove_ros_args(sys.argv if args is None else ["chaos_driver", *args])[1:])
    ros_main(partial(drive, options), args)


if __name__ == "__main__":
    main()
