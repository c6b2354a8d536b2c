# SPDX-License-Identifier: Apache-2.0
"""What a replay reports: log lines for people, JSON lines for the process that watches it, notes on what was sent."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TextIO

from rclpy.node import Node

from peft_dml_ros.conversions.cdr import HEADER_END, leading_stamp_ns
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_ros.nodes.runtime import emit
from peft_dml_tools.nodes.player import Progress
from peft_dml_tools.nodes.recordings import sensors_by_topic

PROGRESS_S = 0.2
TIMED = ("lidar", "camera", "radar")
"""Modalities whose measurements can set the time of a frame."""


class Report(Protocol):
    """Where a replay reports to."""

    def waiting(self, counts: Mapping[str, int]) -> None:
        """Say which subscribers are waited for."""

    def start(self, source: Path, begin_ns: int, end_ns: int, shift_ns: int, progress: Progress) -> None:
        """Say that playing begins."""

    def progress(self, progress: Progress) -> None:
        """Say how far it is; called after every message."""

    def switched(self, texts: Mapping[str, str]) -> None:
        """Say that weather or faults were switched by parameter."""

    def silent(self) -> None:
        """Say that the last message was sent."""

    def done(self, progress: Progress, *, stopped: bool, damage: str) -> None:
        """Say that all is over."""


class JsonReport:
    """JSON lines on stdout."""

    def __init__(self) -> None:
        self._last_s = 0.0

    def waiting(self, counts: Mapping[str, int]) -> None:
        """Write `waiting`."""
        emit("waiting", wait_for=dict(counts))

    def start(self, source: Path, begin_ns: int, end_ns: int, shift_ns: int, progress: Progress) -> None:
        """Write `start`."""
        duration_s = (end_ns - begin_ns) / 1e9
        times = {"duration_s": duration_s, "begin_ns": begin_ns, "shift_ns": shift_ns}
        emit("start", source=str(source), skipped=progress.skipped, **times)

    def progress(self, progress: Progress) -> None:
        """Write `progress`, at most every `PROGRESS_S`."""
        if (now_s := time.monotonic()) - self._last_s >= PROGRESS_S:
            self._last_s = now_s
            emit("progress", **_facts(progress))

    def switched(self, texts: Mapping[str, str]) -> None:
        """Write `switched`."""
        emit("switched", **texts)

    def silent(self) -> None:
        """Write `silent`, with the time."""
        emit("silent", at_ns=time.time_ns())

    def done(self, progress: Progress, *, stopped: bool, damage: str) -> None:
        """Write `done`."""
        emit("done", **_facts(progress), stopped=stopped, damage=damage)


class LogReport:
    """Lines in the log of a node, one for each thing worth knowing."""

    def __init__(self, node: Node) -> None:
        self._say = node.get_logger().info

    def waiting(self, counts: Mapping[str, int]) -> None:
        """Log what is waited for."""
        self._say(f"waits for subscribers of {', '.join(counts)}")

    def start(self, source: Path, begin_ns: int, end_ns: int, shift_ns: int, progress: Progress) -> None:
        """Log what is played."""
        moved = f", stamps moved by {shift_ns / 1e9:.1f} s" if shift_ns else ""
        length = "without end" if end_ns >= 2**62 else f"{(end_ns - begin_ns) / 1e9:.1f} s"
        self._say(f"plays {source}, {length}{moved}")
        for topic, reason in progress.skipped.items():
            self._say(f"does not play {topic}: {reason}")

    def progress(self, progress: Progress) -> None:
        """Log nothing: the clock tells as much."""

    def switched(self, texts: Mapping[str, str]) -> None:
        """Log the new weather and faults."""
        self._say("switched to " + ", ".join(f"{name} {text or 'none'}" for name, text in texts.items()))

    def silent(self) -> None:
        """Log nothing: `done` follows."""

    def done(self, progress: Progress, *, stopped: bool, damage: str) -> None:
        """Log the counts."""
        how = "stopped" if stopped else "played to the end"
        facts = _facts(progress)
        self._say(f"{how}: {facts['published']} messages, at most {facts['late_max_ms']:.1f} ms late")
        if damage:
            self._say("what stood behind the damage was not played")


def report_for(node: Node, *, json: bool) -> Report:
    """Return the report for a program that watches, or for people."""
    return JsonReport() if json else LogReport(node)


def _facts(progress: Progress) -> dict[str, Any]:
    return {
        "position_s": round(progress.position_s, 3),
        "published": sum(progress.published.values()),
        "late_max_ms": round(progress.late_max_ms, 2),
    }


class SentNotes:
    """Notes what was published when: JSON lines `sent` as it goes, and `end` with the counts by sensor.

    Args:
        file: Where to.
        topics: Of the recording.
    """

    def __init__(self, file: TextIO, topics: Iterable[str]) -> None:
        self._file = file
        sensors = sensors_by_topic(topics)
        self._sensors = {topic: sensor for topic, sensor in sensors.items() if not topic.endswith("/camera_info")}
        self._timed = {t for t, sensor in self._sensors.items() if modality_of_channel(sensor) in TIMED}
        self._sent: Counter[str] = Counter()

    @classmethod
    def opened(cls, path: Path, topics: Iterable[str], stack: ExitStack) -> SentNotes:
        """Open the file for as long as `stack` lasts."""
        return cls(stack.enter_context(path.open("w", encoding="utf-8")), topics)

    def __call__(self, topic: str, cdr: bytes, at_ns: int) -> None:
        """Note one message."""
        sensor = self._sensors.get(topic)
        if sensor is None:
            return
        self._sent[sensor] += 1
        if topic in self._timed and len(cdr) >= HEADER_END:
            line = f'{{"kind":"sent","sensor":"{sensor}","stamp_ns":{leading_stamp_ns(cdr)},"at_ns":{at_ns}}}\n'
            self._file.write(line)

    def finish(self, late_max_ms: float) -> None:
        """Note the counts."""
        end = {"kind": "end", "sent": dict(self._sent), "late_max_ms": round(late_max_ms, 1)}
        self._file.write(json.dumps(end) + "\n")
