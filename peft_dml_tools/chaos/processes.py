# SPDX-License-Identifier: Apache-2.0
"""Processes that are killed, and vehicles that share a domain."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, Final

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.params import ALL_SENSORS
from peft_dml_tools.chaos.judge import read
from peft_dml_tools.chaos.stages import NODES, START_S, Bench, follow
from peft_dml_tools.datasets.bag_storage import BagStorage
from peft_dml_tools.live.children import Child

CALM_S: Final = 4.0
RESPAWN_DRIVE_S: Final = 45.0
POLL_S: Final = 0.02


class Supervisor:
    """Starts the node again whenever it has ended, as `respawn` of a launch file does.

    Args:
        bench: Starts it.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench, self._done = bench, threading.Event()
        self.node = bench.perception()
        self.respawns = 0
        self._left: set[Path] = set()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def kill(self) -> int:
        """Kill the node with signal 9; returns when, by the clock of this host, ns."""
        self._left |= shared_memory_of(self.node.pid)
        at_ns = time.time_ns()
        os.kill(self.node.pid, signal.SIGKILL)
        return at_ns

    def close(self) -> None:
        """End the node for good."""
        self._done.set()
        self._thread.join()
        self.node.stop()
        for path in self._left:
            path.unlink(missing_ok=True)

    def _watch(self) -> None:
        while not self._done.wait(POLL_S):
            if self.node.code is not None:
                self.node = self._bench.perception()
                self.respawns += 1


def shared_memory_of(pid: int) -> set[Path]:
    """Shared memory of a process that nobody takes away when it is killed; what others use as well is left out."""
    try:
        text = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    words = {line.split()[-1] for line in text.splitlines() if "/dev/shm/fastrtps_" in line}  # noqa: S108
    return {Path(word) for word in words if "_port" not in word}


def respawn(bench: Bench) -> dict[str, Any]:
    """Kill the node under load, and the recorder: how long until boxes come again, and is the recording readable."""
    bag = bench.scratch / "killed.mcap"
    recorder = Child("recorder", f"{NODES}.recorder", ["--out", str(bag)], bench.environment)
    supervisor = Supervisor(bench)
    driver = bench.driver("respawn.jsonl", RESPAWN_DRIVE_S, "--quiet-s", "0.5")
    try:
        _until(lambda: driver.value("progress", "position_s", 0.0) >= CALM_S, driver, "the vehicle does not drive")
        bench.tell("respawn: kill -9 of the node under load")
        killed_ns = supervisor.kill()
        _until(lambda: supervisor.respawns > 0, driver, "the node did not end")
        before = driver.value("progress", "frames", 0)
        _until(lambda: driver.value("progress", "frames", 0) > before + 10, driver, "no frames after the respawn")
        recorded = sum(recorder.value("progress", "counts", {}).values())
        left = shared_memory_of(recorder.pid)
        os.kill(recorder.pid, signal.SIGKILL)
    finally:
        driver.stop()
        supervisor.close()
        recorder.stop()
    for path in left:
        path.unlink(missing_ok=True)
    seen = read(bench.scratch / "respawn.jsonl")
    after = [f for f in seen.frames if f.at_ns > killed_ns]
    first_ns = min((f.at_ns + int(f.work_ms * 1e6) for f in after), default=2**62)
    sees_ns = min((f.at_ns + int(f.work_ms * 1e6) for f in after if f.sees and f.boxes), default=2**62)
    readable, counted = _readable(bench)
    respawn_s = (sees_ns - killed_ns) * 1e-9
    return {
        "words": f"boxes {respawn_s:.1f} s after kill -9; {counted} messages in the recording that was killed",
        "respawn_s": round(respawn_s, 2),
        "first_frame_s": round((first_ns - killed_ns) * 1e-9, 2),
        "recording_readable": readable,
        "recording_messages": counted,
        "recorder_received": recorded,
        "load_average": [round(v, 1) for v in os.getloadavg()[:2]],
    }


def _readable(bench: Bench) -> tuple[bool, int]:
    """Whether something can be read of a recording that was cut off, and how many messages that are."""
    for path in sorted(bench.scratch.glob("killed*")):
        inside = sorted(path.rglob("*.mcap")) if path.is_dir() else [path]
        for file in inside:
            try:
                storage = BagStorage(file)
                count = sum(1 for _ in storage.logged(set(storage.connections), 0))
            except DataError:
                continue
            return count > 0, count
    return False, 0


def _until(condition: Any, driver: Child, problem: str) -> None:
    limit = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > limit or driver.code not in {None, 0}:
            raise DataError(f"{problem}; last lines of the driver:\n{driver.last_words}")
        time.sleep(POLL_S)


def namespaces(bench: Bench) -> dict[str, Any]:
    """Two vehicles in one domain, the second with two sensors only: does either hear the other?"""
    seconds, few = 6.0, ("LIDAR_TOP", "IMU")
    with bench.node("car1") as first, bench.node("car2") as second:
        one = bench.driver("car1.jsonl", seconds + 3.0, namespace="car1")
        two = bench.driver("car2.jsonl", seconds, "--sensors", *few, namespace="car2")
        try:
            follow(two, [second], seconds, bench.tell, "second vehicle")
            crashes = follow(one, [first], seconds + 3.0, bench.tell, "first vehicle")
        finally:
            one.stop()
            two.stop()
    seen = {name: read(bench.scratch / f"{name}.jsonl") for name in ("car1", "car2")}
    surplus = {
        name: sum(max(0, received - s.sent.get(sensor, 0)) for sensor, (received, _) in s.received.items())
        for name, s in seen.items()
    }
    strange = sum(n for sensor, (n, _) in seen["car2"].received.items() if sensor not in few)
    alive = {name: sum(f.boxes > 0 for f in s.frames) for name, s in seen.items()}
    silent = set(ALL_SENSORS) - set(few)
    heard = [f for f in seen["car2"].frames if f.sees and any(f.states.get(s) != "MISSING" for s in silent)]
    cross_talk = sum(surplus.values()) + strange + len(heard)
    return {
        "words": f"{cross_talk} messages between two vehicles in one domain; frames with boxes: {alive}",
        "crashes": crashes,
        "cross_talk": cross_talk,
        "frames_with_boxes": alive,
        "sent": {name: sum(s.sent.values()) for name, s in seen.items()},
        "received": {name: sum(r for r, _ in s.received.values()) for name, s in seen.items()},
    }
