# SPDX-License-Identifier: Apache-2.0
"""Processes that are killed, and vehicles that share a domain."""

import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import psutil

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.params import ALL_SENSORS
from peft_dml_tools.chaos.stages import ChaosRun
from peft_dml_tools.datasets.bag_storage import BagStorage
from peft_dml_tools.live.observed_drive import Circuit, ObservedDrive
from peft_dml_tools.live.process_monitor import shared_memory_of
from peft_dml_tools.live.session import START_S, Session, SessionError, follow

CALM_S: Final = 4.0
RESPAWN_DRIVE_S: Final = 45.0
POLL_S: Final = 0.02


class Supervisor:
    """Starts the node again whenever it has ended, as `respawn` of a launch file does."""

    def __init__(self, session: Session) -> None:
        self._session, self._done = session, threading.Event()
        self.node = session.perception()
        self.respawns = 0
        self._left: set[Path] = set()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def kill(self) -> int:
        """Kill the node with signal 9; return when, by the clock of this host, in ns."""
        self._left |= shared_memory_of(self.node.pid)
        at_ns = time.time_ns()
        psutil.Process(self.node.pid).kill()
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
                self.node = self._session.perception()
                self.respawns += 1


def respawn(run: ChaosRun) -> dict[str, Any]:
    """Kill the node under load, and a recorder: how long until boxes come again, and is the recording readable."""
    session, bag = run.session, run.session.scratch / "killed.mcap"
    recorder, supervisor = session.recorder(bag), Supervisor(session)
    driven = ObservedDrive(session, Circuit(run.drive, RESPAWN_DRIVE_S), "respawn")
    left: set[Path] = set()
    try:
        driven.start()
        replay = driven.replay
        if replay is None:
            raise SessionError("the replay does not run; hint: its log says why")
        follow((replay,), lambda: driven.position_s >= CALM_S, START_S, "the first seconds of the drive")
        run.tell("respawn: kill -9 of the node under load")
        killed_ns = supervisor.kill()
        follow((replay,), lambda: supervisor.respawns > 0, START_S, "the end of the node")
        before = driven.statuses
        follow((replay,), lambda: driven.statuses > before + 10, START_S, "a frame after the respawn")
        recorded = sum(recorder.value("progress", "counts", {}).values())
        left = shared_memory_of(recorder.pid)
        psutil.Process(recorder.pid).kill()
    finally:
        driven.__exit__(None, None, None)
        supervisor.close()
        recorder.stop()
        for path in left:
            path.unlink(missing_ok=True)
    after = [f for f in driven.observation().frames if f.at_ns > killed_ns]
    published_ns = [(f.at_ns + int(f.work_ms * 1e6), f) for f in after]
    first_ns = min((at_ns for at_ns, _ in published_ns), default=2**62)
    sees_ns = min((at_ns for at_ns, f in published_ns if f.sees and f.boxes), default=2**62)
    readable, counted = _readable(session.scratch)
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


def _readable(scratch: Path) -> tuple[bool, int]:
    """Return whether a recording that was cut off can be read, and how many messages of it."""
    for path in sorted(scratch.glob("killed*")):
        inside = sorted(path.rglob("*.mcap")) if path.is_dir() else [path]
        for file in inside:
            try:
                storage = BagStorage(file)
                count = sum(1 for _ in storage.logged(set(storage.connections), 0))
            except DataError:
                continue
            return count > 0, count
    return False, 0


def namespaces(run: ChaosRun) -> dict[str, Any]:
    """Drive two vehicles in one domain, the second with two sensors only: does either hear the other?"""
    few = ("LIDAR_TOP", "IMU")
    circuits = {"car1": Circuit(run.drive, 9.0), "car2": Circuit(run.drive, 6.0, sensors=few)}
    with ExitStack() as stack:
        nodes = {name: stack.enter_context(run.session.node(name)) for name in circuits}
        driven = {
            name: stack.enter_context(ObservedDrive(run.session, circuit, name, namespace=name))
            for name, circuit in circuits.items()
        }
        for name, drive in driven.items():
            drive.start(nodes[name])
        for name in ("car2", "car1"):
            driven[name].finish(nodes[name], tick=lambda: run.tell("two vehicles in one domain"))
        crashes = sum(node.code is not None for node in nodes.values())
    seen = {name: drive.observation() for name, drive in driven.items()}
    accounts = {name: observation.messages for name, observation in seen.items()}
    surplus = sum(max(0, -a.lost_in_transport) for account in accounts.values() for a in account.values())
    foreign = sum(a.received for sensor, a in accounts["car2"].items() if sensor not in few)
    alive = {name: sum(f.boxes > 0 for f in s.frames) for name, s in seen.items()}
    silent = set(ALL_SENSORS) - set(few)
    heard = [f for f in seen["car2"].frames if f.sees and any(f.state(s) != "MISSING" for s in silent)]
    cross_talk = surplus + foreign + len(heard)
    return {
        "words": f"{cross_talk} messages between two vehicles in one domain; frames with boxes: {alive}",
        "crashes": crashes,
        "cross_talk": cross_talk,
        "frames_with_boxes": alive,
        "sent": {name: sum(a.sent for a in account.values()) for name, account in accounts.items()},
        "received": {name: sum(a.received for a in account.values()) for name, account in accounts.items()},
    }
