# SPDX-License-Identifier: Apache-2.0
"""Starts the processes of one session with the same environment, and watches them until something is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.live.children import Child
from peft_dml_tools.live.environment import ros_environment
from peft_dml_tools.sim.faults import Fault, dump_faults

PERCEPTION: Final = "peft_dml_ros.nodes.perception"
TOOLS: Final = "peft_dml_tools.nodes"
NODE: Final = "/perception"
BOXES: Final = f"{NODE}/detections"
VELOCITIES: Final = f"{NODE}/velocities"
STATUS: Final = f"{NODE}/status"
START_S: Final = 60.0  #: Longest wait for the nodes to load the model and to find each other
CLOSE_S: Final = 10.0  #: A recorder closes its file: an index is written, on a slow disk
LOCAL_TF: Final = ("-r", "/tf_static:=tf_static")  #: Several vehicles in one domain each have their own transforms
Tell = Callable[[str], None]


class SessionError(DataError):
    """A process of the session ended with an error, or something took too long."""


@dataclass(frozen=True, slots=True)
class Session:
    """Processes that share a ROS domain."""

    scratch: Path  #: Folder for logs, scripts and records
    bundle: str  #: Model bundle of the perception node: a folder or a name
    domain_id: int  #: ROS domain
    discovery: str = "LOCALHOST"  #: How far ROS 2 looks for other nodes

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every process."""
        return ros_environment(self.domain_id, self.discovery, self.scratch)

    def perception(self, namespace: str = "", **parameters: object) -> Child:
        """Start the perception node."""
        settings = {"bundle": self.bundle, **parameters}
        words = [word for name, value in settings.items() for word in ("-p", f"{name}:={value}")]
        return Child("perception", PERCEPTION, ["--ros-args", *words, *_in(namespace)], self.environment)

    def recorder(self, out: Path, *topics: str) -> Child:
        """Start a recorder of these topics, or of all."""
        chosen = ["--topics", *topics] if topics else []
        return Child("recorder", f"{TOOLS}.recorder", ["--out", str(out), *chosen], self.environment, CLOSE_S)

    def replay(self, source: Path, *arguments: str, faults: Sequence[Fault] = (), namespace: str = "") -> Child:
        """Start a replay with a fault script."""
        words = ["--json", "--wait-s", str(START_S)]
        if faults:
            script = self.scratch / f"faults_{namespace}.yaml"
            script.write_text(dump_faults(faults), encoding="utf-8")
            words += ["--faults", str(script)]
        ros = ["--ros-args", *_in(namespace)] if namespace else []
        return Child("replay", f"{TOOLS}.replay", [str(source), *words, *arguments, *ros], self.environment)

    def viewer(self, port: int) -> Child:
        """Start a viewer for Foxglove on a TCP port; 0 takes a free one."""
        return Child("viewer", f"{TOOLS}.viewer", ["--port", str(port)], self.environment)

    @contextmanager
    def node(self, namespace: str = "", **parameters: object) -> Iterator[Child]:
        """Run the perception node for the time of a block."""
        node = self.perception(namespace, **parameters)
        try:
            yield node
        finally:
            node.stop()


def _in(namespace: str) -> list[str]:
    return ["-r", f"__ns:=/{namespace}", *LOCAL_TF] if namespace else []


def follow(
    children: Sequence[Child],
    done: Callable[[], object],
    limit_s: float,
    what: str,
    tick: Callable[[], object] = lambda: None,
) -> None:
    """Watch processes until something is done.

    Raises SessionError: a process ended with an error, or it took too long; with the last lines of the processes.

    Args:
        children: Processes that must not end with an error meanwhile.
        done: Asked ten times a second and more.
        limit_s: Longest wait.
        what: What is waited for, for the error.
        tick: Called between two questions.
    """
    limit = time.monotonic() + limit_s
    while not done():
        dead = next((child for child in children if child.code not in {None, 0}), None)
        if dead is not None:
            raise SessionError(f"{dead.name} ended with status {dead.code}; hint: its last lines:\n{dead.last_words}")
        if time.monotonic() > limit:
            words = "\n".join(f"{child.name}: {child.last_words}" for child in children)
            raise SessionError(f"{what} within {limit_s:.0f} s did not happen; hint: last lines:\n{words}")
        tick()
        time.sleep(0.05)
