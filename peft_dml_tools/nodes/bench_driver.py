# SPDX-License-Identifier: Apache-2.0
"""Starts a perception node that waits to be configured, drives a vehicle round and round, and notes what came of it.

    python -m peft_dml_tools.nodes.bench_driver drive.mcap --plan plan.json --out seen.jsonl

The plan is a JSON list of stretches `{"name", "seconds", "silent": [kinds of sensors]}`, driven in turn. The
file holds JSON records, one a line: `transition`, `start`, `stretch`, `frame`, `books` and `end`. Times are of the
host's clock. Nothing is unpacked while the vehicle drives, so that noting costs what is measured little.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.utilities import remove_ros_args
from vision_msgs.msg import Detection3DArray

from peft_dml_ros.conversions.cdr import leading_stamp_ns
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_ros.core.sync import NO_REFERENCE
from peft_dml_ros.nodes.runtime import POLL_S, emit, ros_main
from peft_dml_tools.nodes.chaos_driver import Round
from peft_dml_tools.nodes.player import Player, wall_clock_ns
from peft_dml_tools.nodes.recordings import Recorded, Recording, open_recording
from peft_dml_tools.nodes.replay_faults import sensors_by_topic
from peft_dml_tools.nodes.replay_parameters import spinning

TRANSITIONS: Final = {"configure": Transition.TRANSITION_CONFIGURE, "activate": Transition.TRANSITION_ACTIVATE}
QUEUE: Final = 100
SETTLED: Final = 5
"""Frames by the clock in a row, after which nothing is on its way any more."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the drive, in seconds since its start; kinds of sensors (`lidar`, ..., `odometry`) may be silent."""

    name: str
    from_s: float
    to_s: float
    silent: frozenset[str] = frozenset()


def in_a_row(entries: Iterable[dict[str, Any]]) -> list[Stretch]:
    """The stretches of a plan with their times."""
    found, at_s = [], 0.0
    for entry in entries:
        found.append(Stretch(entry["name"], at_s, at_s + entry["seconds"], frozenset(entry["silent"])))
        at_s = found[-1].to_s
    return found


@dataclass(slots=True)
class Seen:
    """What came and went, as it was on the wire, with the times by this host's clock in ns.

    Attributes:
        statuses: Time, bytes.
        boxes_ns: When the boxes of a stamp arrived.
        sent_ns: When the measurement of a stamp was published, of sensors that can set the time of a frame.
        sent: Messages by sensor.
    """

    statuses: list[tuple[int, bytes]] = field(default_factory=list)
    boxes_ns: dict[int, int] = field(default_factory=dict)
    sent_ns: dict[tuple[str, int], int] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)


class Vehicle(Player):
    """A player that notes when it published what."""

    def __init__(self, node: Node, messages: Round, seen: Seen) -> None:
        super().__init__(node, messages.channels.values())
        self.seen = seen
        self._sensors = {t: s for t, s in sensors_by_topic(messages.channels).items() if not t.endswith("/camera_info")}
        kinds = {t: modality_of_channel(s) for t, s in self._sensors.items()}
        self._timed = {t: self._sensors[t] for t, kind in kinds.items() if kind in {"lidar", "camera", "radar"}}

    @property
    def topics(self) -> list[str]:
        """Of the sensors."""
        return list(self._sensors)

    def _send(self, topic: str, cdr: bytes) -> None:
        begin_ns = wall_clock_ns()
        super()._send(topic, cdr)
        if topic in self._sensors:
            self.seen.sent[self._sensors[topic]] += 1
        if topic in self._timed:
            self.seen.sent_ns[self._timed[topic], leading_stamp_ns(cdr)] = begin_ns


def planned(messages: Round, stretches: Sequence[Stretch]) -> Iterator[Recorded]:
    """The round, until the plan is over, without what is silent."""
    sensors = {t: modality_of_channel(s) or "odometry" for t, s in sensors_by_topic(messages.channels).items()}
    ahead = list(stretches)
    for message in messages:
        now_s = (message.time_ns - messages.start_ns) / 1e9
        while ahead and now_s >= ahead[0].to_s:
            ahead.pop(0)
        if not ahead:
            return
        if sensors.get(message.topic) not in ahead[0].silent:
            yield message


def change_state(node: Node, name: str, limit_s: float) -> Iterator[dict[str, Any]]:
    """Take the perception node through configure and activate; yields the time that each took, as asked for.

    Raises:
        DataError: the node does not appear, or refuses.
    """
    client = node.create_client(ChangeState, f"{name}/change_state")
    if not client.wait_for_service(limit_s):
        raise DataError(f"after {limit_s:g} s there is no service {name}/change_state; start the node first")
    for label, number in TRANSITIONS.items():
        begin_s, done = time.monotonic(), threading.Event()
        future = client.call_async(ChangeState.Request(transition=Transition(id=number)))
        future.add_done_callback(lambda _, done=done: done.set())
        if not done.wait(limit_s) or not future.result().success:
            raise DataError(f"the node could not {label}; its log tells why")
        yield {"name": label, "seconds": round(time.monotonic() - begin_s, 4)}
    node.destroy_client(client)


def listen(node: Node, name: str, seen: Seen) -> None:
    """Keep the node's statuses and the arrival of its boxes."""

    def on_boxes(cdr: bytes) -> None:
        seen.boxes_ns[leading_stamp_ns(cdr)] = wall_clock_ns()

    node.create_subscription(
        DiagnosticArray, f"{name}/status", lambda cdr: seen.statuses.append((wall_clock_ns(), cdr)), QUEUE, raw=True
    )
    node.create_subscription(Detection3DArray, f"{name}/detections", on_boxes, QUEUE, raw=True)


def frames(seen: Seen) -> Iterator[dict[str, Any]]:
    """A record of each frame, and of the sensors' counts at the end."""
    for at_ns, cdr in seen.statuses:
        message = deserialize_message(cdr, DiagnosticArray)
        values = {pair.key: pair.value for pair in message.status[0].values}
        stamp_ns = leading_stamp_ns(cdr)
        sent_ns, boxes_ns = seen.sent_ns.get((values["reference"], stamp_ns)), seen.boxes_ns.get(stamp_ns)
        yield {
            "kind": "frame",
            "stamp_ns": stamp_ns,
            "seen_ns": at_ns,
            "by": values["reference"],
            "present": [m for m in MODALITIES if values[f"mask.{m}"] == "1"],
            "boxes": int(values["boxes"]),
            "latency_ms": float(values["latency_ms"]),
            "sent_late_ms": None if sent_ns is None else (sent_ns - stamp_ns) / 1e6,
            "received_ms": None if boxes_ns is None else (boxes_ns - stamp_ns) / 1e6,
            "stages_ms": {k.removeprefix("stage_ms."): float(v) for k, v in values.items() if k.startswith("stage_ms")},
            "triggered": int(values["frames.triggered"]),
            "published": int(values["frames.published"]),
            "drops": {k.removeprefix("drops."): int(v) for k, v in values.items() if k.startswith("drops.")},
        }
    if seen.statuses:
        last = deserialize_message(seen.statuses[-1][1], DiagnosticArray)
        sensors = {s.name.rpartition(" ")[2]: {p.key: p.value for p in s.values} for s in last.status[1:]}
        yield {
            "kind": "books",
            "received": {n: int(s["received"]) for n, s in sensors.items()},
            "admitted": {n: int(s["admitted"]) for n, s in sensors.items()},
        }


def drive(options: argparse.Namespace, stop: threading.Event) -> None:
    """Drive the plan, then stay silent for a while so that all that was sent is accounted for.

    Raises:
        PeftDmlError: the drive cannot be read, or the node cannot be started.
    """
    recording, seen = open_recording(options.source), Seen()
    messages = Round(recording)
    stretches = in_a_row(json.loads(options.plan.read_text(encoding="utf-8")))
    node = Node("bench_driver", start_parameter_services=False)
    vehicle = Vehicle(node, messages, seen)
    with options.out.open("w", encoding="utf-8") as file, spinning(node):

        def note(kind: str, **values: Any) -> None:
            file.write(json.dumps({"kind": kind, **values}) + "\n")

        listen(node, options.node, seen)
        for transition in change_state(node, options.node, options.wait_s):
            note("transition", **transition)
        start_ns = _play(options, recording, messages, vehicle, stretches, stop)
        note("start", at_ns=start_ns)
        for stretch in stretches:
            span = {"from_ns": start_ns + int(stretch.from_s * 1e9), "to_ns": start_ns + int(stretch.to_s * 1e9)}
            note("stretch", name=stretch.name, silent=sorted(stretch.silent), **span)
        for record in frames(seen):
            note(**record)
        note("end", sent=dict(seen.sent), late_max_ms=round(vehicle.progress.late_max_ms, 1))
    node.destroy_node()
    emit("done", frames=len(seen.statuses))


def _play(
    options: argparse.Namespace,
    recording: Recording,
    messages: Round,
    vehicle: Vehicle,
    stretches: Sequence[Stretch],
    stop: threading.Event,
) -> int:
    """Drive, and wait until the node has done with all that was sent; returns the begin."""
    seen = vehicle.seen
    vehicle.publish_latched(recording.latched())
    _await_listeners(vehicle, options.wait_s)
    # A vehicle's drivers are no Python; pauses of this one would count as the node's.
    gc.collect()
    gc.freeze()
    shift_ns = wall_clock_ns() - messages.start_ns
    emit("start", seconds=stretches[-1].to_s)
    begun_s = reported_s = time.monotonic()

    def report() -> None:
        nonlocal reported_s
        if time.monotonic() - reported_s >= 1.0:
            reported_s = time.monotonic()
            emit("progress", position_s=round(reported_s - begun_s, 1))

    vehicle.play(planned(messages, stretches), messages.start_ns, shift_ns, stop, report)
    emit("silent")
    stop.wait(options.quiet_s)
    limit = time.monotonic() + options.wait_s
    while not _settled(seen) and time.monotonic() < limit and not stop.wait(POLL_S):
        pass
    return messages.start_ns + shift_ns


def _settled(seen: Seen) -> bool:
    """Whether the last frames are those that the node makes when nothing arrives any more."""
    last = [deserialize_message(cdr, DiagnosticArray) for _, cdr in seen.statuses[-SETTLED:]]
    references = [p.value for m in last for p in m.status[0].values if p.key == "reference"]
    return references == [NO_REFERENCE] * SETTLED


def _await_listeners(vehicle: Vehicle, limit_s: float) -> None:
    limit = time.monotonic() + limit_s
    while missing := [topic for topic in vehicle.topics if not vehicle.subscribers(topic)]:
        if time.monotonic() > limit:
            raise DataError(f"after {limit_s:g} s nobody listens to {missing}")
        time.sleep(POLL_S / 4)
    time.sleep(2 * POLL_S)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_driver", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="bag of a short drive")
    parser.add_argument("--plan", type=Path, required=True, help="JSON list of stretches")
    parser.add_argument("--out", type=Path, required=True, help="file of records")
    parser.add_argument("--quiet-s", type=float, default=1.0, help="shortest silence at the end")
    parser.add_argument("--wait-s", type=float, default=60.0, help="longest wait for the node, and for each transition")
    parser.add_argument("--node", default="perception", help="name of the perception node")
    return parser.parse_args(arguments)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point; `args` as on the command line, including `--ros-args`."""
    options = _options(remove_ros_args(sys.argv if args is None else ["bench_driver", *args])[1:])
    ros_main(partial(drive, options), args)


if __name__ == "__main__":
    main()
