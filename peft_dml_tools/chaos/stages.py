# SPDX-License-Identifier: Apache-2.0
"""Runs the processes of each stage and hands back its figures."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from peft_dml_ros.cli.environment import ros_environment
from peft_dml_ros.core.errors import DataError
from peft_dml_tools.chaos.judge import Cell, Judge, Seen, frames_unaccounted, messages_unaccounted, read
from peft_dml_tools.chaos.plan import Phase
from peft_dml_tools.live.children import Child

PERCEPTION: Final = "peft_dml_ros.nodes.perception"
NODES: Final = "peft_dml_tools.nodes"
START_S: Final = 60.0
"""Longest wait for the node to load its model."""
OVERRUN_S: Final = 30.0
LOCAL_TF: Final = ("-r", "/tf_static:=tf_static")
"""Of several vehicles in one domain each has its own transforms."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Bench:
    """What all stages share.

    Attributes:
        drive: Bag of the short drive.
        scratch: Folder for records and logs.
        bundle: Model.
        domain_id: ROS domain.
        tell: Told in words what goes on.
    """

    drive: Path
    scratch: Path
    bundle: str
    domain_id: int
    tell: Tell

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every process."""
        return ros_environment(self.domain_id, "LOCALHOST", self.scratch)

    def perception(self, namespace: str = "") -> Child:
        """Start the perception node."""
        arguments = ["--ros-args", "-p", f"bundle:={self.bundle}", *_in(namespace)]
        return Child("perception", PERCEPTION, arguments, self.environment)

    def driver(self, out: str, seconds: float, *more: str, namespace: str = "") -> Child:
        """Start the vehicle."""
        ros = ["--ros-args", *_in(namespace)] if namespace else []
        arguments = [str(self.drive), "--out", str(self.scratch / out), "--seconds", str(seconds), *more, *ros]
        return Child("driver", f"{NODES}.chaos_driver", arguments, self.environment)

    @contextmanager
    def node(self, namespace: str = "") -> Iterator[Child]:
        """The perception node for the time of a stage."""
        node = self.perception(namespace)
        try:
            yield node
        finally:
            node.stop()

    def errors(self) -> list[str]:
        """What the perception nodes have logged so far as an error, or as something that failed inside, each once."""
        found: dict[str, None] = {}
        for path in sorted(self.scratch.glob("*.log")):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                said = line.partition("[perception]: ")[2]
                if said and (line.startswith(("[ERROR]", "[FATAL]")) or ": failed (" in said):
                    found[re.sub(r" \(\d+ so far\)", "", said)[:200]] = None
        return list(found)


def _in(namespace: str) -> list[str]:
    return ["-r", f"__ns:=/{namespace}", *LOCAL_TF] if namespace else []


def follow(driver: Child, nodes: Sequence[Child], seconds: float, tell: Tell, what: str) -> int:
    """Wait for the end of a drive; returns how many of the nodes ended meanwhile.

    Raises:
        DataError: the driver failed, or does not come to an end.
    """
    limit, dead = time.monotonic() + START_S + seconds + OVERRUN_S, set[int]()
    try:
        while driver.code is None and time.monotonic() < limit:
            dead |= {i for i, node in enumerate(nodes) if node.code is not None}
            position_s = driver.value("progress", "position_s", 0.0)
            tell(f"{what}: {position_s:.0f} of {seconds:.0f} s, {driver.value('progress', 'frames', 0)} frames")
            if len(dead) == len(nodes) > 0:
                break
            driver.wait(0.2)
        failed = driver.code not in {None, 0} and not dead
    finally:
        driver.stop()
    if failed:
        raise DataError(f"the driver ended with status {driver.code}; its last lines:\n{driver.last_words}")
    return len(dead)


def cells(bench: Bench, phases: Sequence[Phase]) -> dict[str, Any]:
    """Every fault of the plan, judged."""
    plan = bench.scratch / "plan.json"
    plan.write_text(json.dumps([phase.tree() for phase in phases]), encoding="utf-8")
    seconds = phases[-1].until_s
    load = os.getloadavg()[0]
    with bench.node() as node:
        driver = bench.driver("cells.jsonl", seconds, "--plan", str(plan))
        crashes = follow(driver, [node], seconds, bench.tell, "faults")
    seen = read(bench.scratch / "cells.jsonl")
    judge = Judge(seen)
    judged = judge(phases)
    found = figures(seen, judged)
    return found | {
        "words": f"{found['cells'] - found['cells_failed']} of {found['cells']} cells hold",
        "crashes": crashes,
        "frame_interval_calm_s": round(judge.calm_interval_s, 3),
        "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
        "cells_detail": [cell.tree() for cell in judged],
    }


def figures(seen: Seen, judged: Sequence[Cell]) -> dict[str, Any]:
    """The figures of one drive."""
    recoveries = [c.after_s for c in judged if c.when == "recovery" and c.after_s is not None]
    received = {name: pair[0] for name, pair in seen.received.items()}
    return {
        "cells": len(judged),
        "cells_failed": sum(bool(cell.problem) for cell in judged),
        "frames_unaccounted": frames_unaccounted(seen),
        "messages_unaccounted": messages_unaccounted(seen),
        "recovery_s_max": round(max(recoveries, default=0.0), 3),
        "frames": len(seen.frames),
        "messages_sent": sum(seen.sent.values()),
        "messages_received": sum(received.values()),
        "messages_lost_in_transport": {n: k for n, s in seen.sent.items() if (k := s - received.get(n, 0))},
        "drops": dict(sorted(seen.drops.items())),
        "errors_inside": {r: n for r, n in seen.drops.items() if r.endswith(": failed")},
        "driver_late_max_ms": seen.late_max_ms,
        "work_ms": percentiles([f.work_ms for f in seen.frames if not f.blind]),
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Median and the 99th of a hundred."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {f"p{p}": round(ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 1) for p in (50, 99)}


def rss_mb(pid: int) -> float:
    """Resident memory of a process, in units of 10^6 bytes; 0 when it has gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
