# SPDX-License-Identifier: Apache-2.0
"""One `peft-dml demo` of any checkout, as its user runs it, with the processor time of its processes."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.bench.live import Report
from peft_dml_tools.live.children import ENDS_WITH_PARENT
from peft_dml_tools.live.process_monitor import ProcessSample, cpu_pct, sample

LIMIT_S: Final = 240.0
SAMPLE_S: Final = 0.2
END_S: Final = 15.0
#: Part of a command line -> its name; the same in all versions of this software
PROCESSES: Final = {"nodes.perception": "node", "nodes.recorder": "recorder", "nodes.replay": "replay"}
LAST: Final = 1500  #: Characters of a failed session's output that the error shows


@dataclass(frozen=True, slots=True)
class DemoSession:
    """What is run."""

    code: Path  #: Checkout whose `peft-dml demo` runs, in this Python
    bundle: str  #: Model: folder or name
    drive: Path  #: Bag to play
    seconds: float  #: How much of it
    domain_id: int  #: ROS domain
    out: Path  #: Folder of its results

    @property
    def command(self) -> list[str]:
        """The demo's command line."""
        options = {"source": self.drive, "seconds": self.seconds, "out": self.out, "bundle": self.bundle}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return [*ENDS_WITH_PARENT, "peft_dml_ros.cli.main", "demo", *words, "--domain-id", str(self.domain_id)]


def demo_figures(session: DemoSession) -> Report:
    """Run a session; return frames, latency, accuracy, and processor time during the drive.

    Raises DataError: it failed, or takes too long; with its last lines.
    """
    log = session.out.with_name(f"{session.out.name}.log")
    variables = os.environ | {"PYTHONPATH": f"{session.code}:{session.code / 'train'}"}
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(  # noqa: S603 - the benchmark's own command
            session.command, cwd=session.code, env=variables, stdin=subprocess.PIPE, stdout=file, stderr=file
        ) as process,
    ):
        try:
            samples = _watched(process)
        finally:
            if process.poll() is None:
                _end(process)
    if process.returncode:
        last = log.read_text(encoding="utf-8", errors="replace")[-LAST:]
        raise DataError(f"the demo of {session.code} ended with status {process.returncode}; hint: {last}")
    metrics = json.loads((session.out / "metrics.json").read_text(encoding="utf-8"))
    return figures(metrics, samples, session.seconds)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a demo with its nodes; it stops these itself on SIGTERM."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
        return
    process.kill()


def _watched(process: subprocess.Popen[bytes]) -> dict[str, list[ProcessSample]]:
    """Sample the processes of a session until it ends. Raises DataError: it takes more than `LIMIT_S`."""
    samples: dict[str, list[ProcessSample]] = {name: [] for name in PROCESSES.values()}
    known: dict[int, str] = {}
    limit = time.monotonic() + LIMIT_S
    while process.poll() is None:
        if time.monotonic() > limit:
            raise DataError(f"a demo takes more than {LIMIT_S:g} s; fix: a shorter drive, or a machine with less load")
        for child in _children(process.pid):
            with suppress(psutil.Error):
                if child.pid not in known:
                    words = " ".join(child.cmdline())
                    known[child.pid] = next((name for part, name in PROCESSES.items() if part in words), "")
                if name := known[child.pid]:
                    samples[name].append(sample(child))
        time.sleep(SAMPLE_S)
    return samples


def _children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [child for child in psutil.Process(pid).children() if child.status() != psutil.STATUS_ZOMBIE]
    return []


def figures(metrics: Mapping[str, Any], samples: Mapping[str, Sequence[ProcessSample]], seconds: float) -> Report:
    """Return the figures of a session; processor time is that of the drive, which ends when the replay does."""
    end_ns = max((s.at_ns for s in samples["replay"]), default=0)
    from_ns = end_ns - int(seconds * 1e9)
    cores = {name: (cpu_pct(every, from_ns, end_ns) or 0.0) / 100 for name, every in samples.items()}
    frames = metrics["frames_published"]
    return {
        "frames": frames,
        "frames_due": metrics["frames_expected"],
        "p50_ms": metrics["latency_ms"].get("p50"),
        "p95_ms": metrics["latency_ms"].get("p95"),
        "node_cpu_s_per_frame": round(cores["node"] * seconds / frames, 4) if frames else None,
        "recorder_replay_cores": round(cores["recorder"] + cores["replay"], 3),
        "cores": {name: round(value, 3) for name, value in cores.items()},
        "map_full": metrics["map_full"],
    }
