# SPDX-License-Identifier: Apache-2.0
"""What a replay reports: log lines for people, JSON lines for the process that watches it, notes on what was sent."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from rclpy.node import Node

from peft_dml_ros.conversions.cdr import HEADER_END, leading_stamp_ns
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_tools.nodes.command_line import emit
from peft_dml_tools.nodes.player import PlaybackProgress
from peft_dml_tools.nodes.recordings import sensors_by_topic

PROGRESS_S = 0.2
ENDLESS_NS = 2**62
TIMED = ("lidar", "camera", "radar")  #: Modalities whose measurements can set the time of a frame


class ReplayReport:
    """Where a replay reports to: JSON lines on stdout for a program, or the node's log for people."""

    def __init__(self, node: Node, *, json_lines: bool) -> None:
        self._log, self._json, self._last_s = node.get_logger(), json_lines, 0.0

    def _say(self, words: str, event: str, **values: Any) -> None:
        if self._json:
            emit(event, **values)
        else:
            self._log.info(words)

    def waiting(self, counts: Mapping[str, int]) -> None:
        """Say which subscribers are waited for."""
        self._say(f"waits for subscribers of {', '.join(counts)}", "waiting", wait_for=dict(counts))

    def start(self, source: Path, begin_ns: int, end_ns: int, shift_ns: int, progress: PlaybackProgress) -> None:
        """Say that playing begins."""
        moved = f", stamps moved by {shift_ns / 1e9:.1f} s" if shift_ns else ""
        duration_s = (end_ns - begin_ns) / 1e9
        length = "without end" if end_ns >= ENDLESS_NS else f"{duration_s:.1f} s"
        times = {"duration_s": duration_s, "begin_ns": begin_ns, "shift_ns": shift_ns}
        self._say(f"plays {source}, {length}{moved}", "start", source=str(source), skipped=progress.skipped, **times)
        for topic, reason in progress.skipped.items():
            self._log.warning(f"does not play {topic}: {reason}")

    def progress(self, progress: PlaybackProgress) -> None:
        """Say how far it is, to a program alone; called after every message."""
        if self._json and (now_s := time.monotonic()) - self._last_s >= PROGRESS_S:
            self._last_s = now_s
            emit("progress", **_facts(progress))

    def switched(self, texts: Mapping[str, str]) -> None:
        """Say that weather or faults were switched by parameter."""
        words = ", ".join(f"{name} {text or 'none'}" for name, text in texts.items())
        self._say(f"switched to {words}", "switched", **texts)

    def done(self, progress: PlaybackProgress, silent_ns: int, *, stopped: bool, damage: str) -> None:
        """Say that all is over; the last message was sent at `silent_ns`."""
        facts = _facts(progress)
        how = "stopped" if stopped else "played to the end"
        words = f"{how}: {facts['published']} messages, at most {facts['late_max_ms']:.1f} ms late"
        self._say(words, "done", **facts, silent_ns=silent_ns, stopped=stopped, damage=damage)


def _facts(progress: PlaybackProgress) -> dict[str, Any]:
    return {
        "position_s": round(progress.position_s, 3),
        "published": sum(progress.published.values()),
        "late_max_ms": round(progress.late_max_ms, 2),
    }


class SentNotes:
    """Notes what was published when: JSON lines `sent` as it goes, and `end` with the counts by sensor."""

    def __init__(self, file: TextIO, topics: Iterable[str]) -> None:
        self._file = file
        sensors = sensors_by_topic(topics)
        self._sensors = {topic: sensor for topic, sensor in sensors.items() if not topic.endswith("/camera_info")}
        self._timed = {t for t, sensor in self._sensors.items() if modality_of_channel(sensor) in TIMED}
        self._sent: Counter[str] = Counter()

    @classmethod
    def opened(cls, path: Path, topics: Iterable[str], stack: ExitStack) -> "SentNotes":
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
