# SPDX-License-Identifier: Apache-2.0
"""Compares builds: the demo's drive is played with each in turn, by its own `peft-dml demo`, watched from outside."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import psutil

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_tools.bench.busy import busy_core
from peft_dml_tools.bench.live import Report
from peft_dml_tools.bench.machine import commit, machine
from peft_dml_tools.live.process_monitor import ProcessSample, cpu_pct, sample
from peft_dml_tools.live.session import Tell
from peft_dml_tools.live.short_drive import simulate_short_drive

SECONDS: Final = 12.0
SEED: Final = 3
LIMIT_S: Final = 240.0
SAMPLE_S: Final = 0.2
PROCESSES: Final = {"nodes.perception": "node", "nodes.recorder": "recorder", "nodes.replay": "replay"}
FIGURES: Final = ("frames", "p50_ms", "p95_ms", "node_cpu_s_per_frame", "recorder_replay_cores", "map_full")
LOADS: Final = {"alone": False, "one core taken": True}


def compare_builds(other: Path, this: Path, pairs: int, domain_id: int, scratch: Path, tell: Tell) -> Report:
    """Play `pairs` sessions of each build, alone and with one core taken, the builds in turn.

    Args:
        other: Checkout of the other build.
        this: Checkout of this one.
        pairs: Sessions of each build for each load.
        domain_id: ROS domain.
        scratch: For the drive and the sessions.
        tell: Called with words on what goes on.

    Raises:
        ConfigError: there is no checkout.
        DataError: a session failed; with its last lines.
    """
    if not (other / "peft_dml_ros" / "cli" / "main.py").is_file():
        raise ConfigError(f"--against {other}: no checkout of this software; give its folder, e.g. a git worktree")
    tell("simulating a drive")
    drive = simulate_short_drive(scratch / "drive.mcap", SECONDS, SEED)
    builds = {"other": other, "this": this}
    found: dict[str, dict[str, list[Report]]] = {load: {name: [] for name in builds} for load in LOADS}
    for load, busy in LOADS.items():
        for number in range(pairs):
            for name, code in builds.items():
                tell(f"{load}: session {number + 1} of {pairs}, {name} build")
                with ExitStack() as stack:
                    if busy:
                        stack.enter_context(busy_core(LIMIT_S))
                    found[load][name].append(demo_session(code, drive, scratch / f"{name}-{number}", domain_id))
    loads = {load: _compared(sessions) for load, sessions in found.items()}
    commits = {name: commit(code) for name, code in builds.items()}
    return {"machine": machine(), "commits": commits, "loads": loads, "summary": _flat(loads)}


def demo_session(code: Path, drive: Path, out: Path, domain_id: int) -> Report:
    """Run `peft-dml demo` of a checkout on a drive; return frames, latency and processor time during the drive.

    Raises:
        DataError: it failed, or takes too long.
    """
    command = [sys.executable, "-m", "peft_dml_ros.cli.main", "demo", "--source", str(drive), "--out", str(out)]
    variables = os.environ | {"PYTHONPATH": f"{code}:{code / 'train'}"}
    with subprocess.Popen(  # noqa: S603 - the benchmark's own command
        [*command, "--domain-id", str(domain_id)],
        cwd=code,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            samples = _watch(process)
            said, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            raise DataError(f"the demo of {code} takes more than {LIMIT_S:g} s") from None
        finally:
            if process.returncode is None:
                process.terminate()
    if process.returncode:
        raise DataError(f"the demo of {code} ended with status {process.returncode}: {said[-1500:]}")
    return _figures(json.loads((out / "metrics.json").read_text(encoding="utf-8")), samples)


def _watch(process: subprocess.Popen[str]) -> dict[str, list[ProcessSample]]:
    """Sample the processes of a session until its replay has ended."""
    samples: dict[str, list[ProcessSample]] = {name: [] for name in PROCESSES.values()}
    known: dict[int, str] = {}
    limit = time.monotonic() + LIMIT_S
    parent = psutil.Process(process.pid)
    while process.poll() is None and time.monotonic() < limit:
        seen = set()
        for child in _children(parent):
            with suppress(psutil.Error):
                if child.pid not in known:
                    words = " ".join(child.cmdline())
                    known[child.pid] = next((name for part, name in PROCESSES.items() if part in words), "")
                if name := known[child.pid]:
                    samples[name].append(sample(child))
                    seen.add(name)
        if samples["replay"] and "replay" not in seen:
            break
        time.sleep(SAMPLE_S)
    return samples


def _children(parent: psutil.Process) -> list[psutil.Process]:
    try:
        return [child for child in parent.children() if child.status() != psutil.STATUS_ZOMBIE]
    except psutil.Error:
        return []


def _figures(metrics: Mapping[str, Any], samples: Mapping[str, Sequence[ProcessSample]]) -> Report:
    """Return the figures of a session; processor time is that of the seconds before the replay ended."""
    end_ns = max((s.at_ns for s in samples["replay"]), default=0)
    from_ns = end_ns - int(SECONDS * 1e9)
    cores = {name: (cpu_pct(every, from_ns, end_ns) or 0.0) / 100 for name, every in samples.items()}
    frames = metrics["frames_published"]
    return {
        "frames": frames,
        "frames_due": metrics["frames_expected"],
        "p50_ms": metrics["latency_ms"].get("p50"),
        "p95_ms": metrics["latency_ms"].get("p95"),
        "node_cpu_s_per_frame": round(cores["node"] * SECONDS / frames, 4) if frames else None,
        "recorder_replay_cores": round(cores["recorder"] + cores["replay"], 3),
        "cores": {name: round(value, 3) for name, value in cores.items()},
        "map_full": metrics["map_full"],
    }


def _compared(sessions: Mapping[str, Sequence[Report]]) -> Report:
    """Return medians of both builds, their ratios, and the sessions."""
    medians = {
        name: {key: _median([session[key] for session in each]) for key in FIGURES} for name, each in sessions.items()
    }
    ratios = {
        key: round(now / before, 3)
        for key in FIGURES
        if (now := medians["this"][key]) is not None and (before := medians["other"][key])
    }
    return {**medians, "this_over_other": ratios, "sessions": {name: list(each) for name, each in sessions.items()}}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 4) if known else None


def _flat(loads: Mapping[str, Report]) -> Report:
    """Return one line for each figure: other, this, ratio."""
    return {
        f"{key}, {load}": f"{report['other'][key]} -> {report['this'][key]} (x {report['this_over_other'].get(key)})"
        for load, report in loads.items()
        for key in FIGURES
    }
