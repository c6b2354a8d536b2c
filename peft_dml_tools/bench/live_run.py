# SPDX-License-Identifier: Apache-2.0
"""Runs the live benchmark: a drive is simulated, played past the perception node, and the processes are watched."""

import os
import re
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.bench.background_load import busy_core
from peft_dml_tools.bench.live import ALL, RATES_HZ, LivePlan, LiveRun, Report, live_report
from peft_dml_tools.bench.machine import machine, software
from peft_dml_tools.datasets.bag_storage import BagStorage
from peft_dml_tools.live.children import Child
from peft_dml_tools.live.observed_drive import Circuit, ObservedDrive
from peft_dml_tools.live.process_monitor import ProcessMonitor
from peft_dml_tools.live.session import START_S, TOOLS, Session, Tell, follow
from peft_dml_tools.live.short_drive import simulate_short_drive

SEED: Final = 11
STARTED: Final = "perception starts"  #: First words of the node
ACTIVE: Final = re.compile(r"perception active: bundle (.*), \d+ sensors wanted")
FRAME_HZ: Final = 10.0  #: Pace of frames that a node which keeps up holds
#: Name -> (a recorder of all topics runs, a process that computes without end takes one core)
CONDITIONS: Final = {
    "recorder, alone": (True, False),
    "no recorder, alone": (False, False),
    "recorder, one core taken": (True, True),
    "no recorder, one core taken": (False, True),
}
MAIN: Final = "recorder, alone"
WEAK: Final = "recorder, one core taken"


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What the node is, and where it runs."""

    bundle: str  #: Model: folder or name
    threads: int  #: As the node's parameter
    engine: str  #: As the node's parameter
    drive: Path | None  #: Bag to repeat; a simulated one when there is none
    domain_id: int  #: ROS domain
    repository: Path  #: For the commit


def run_live(plan: LivePlan, options: LiveOptions, scratch: Path, tell: Tell) -> Report:
    """Measure the main condition at length, the others for less. Raises PeftDmlError: a process failed; last lines."""
    bundle = load_bundle(options.bundle)
    report: Report = {
        "machine": machine(),
        "software": software(options.repository),
        "bundle": f"{bundle.manifest.name} {bundle.manifest.version} {bundle.manifest.precision}",
        "node": {"engine": options.engine, "threads": options.threads},
        "vehicle": {"image_width_px": plan.image_width_px, "rates_hz": RATES_HZ, "minutes": plan.minutes},
    }
    tell("simulating a drive")
    rates = {f"{kind}_hz": rate for kind, rate in RATES_HZ.items()}
    drive = options.drive or simulate_short_drive(
        scratch / "drive.mcap", plan.round_s, SEED, image_width_px=plan.image_width_px, **rates
    )
    require_room(drive, plan.seconds, scratch)
    measured = LiveMeasurement(options, drive, scratch, tell)
    before = os.getloadavg()[0]
    report |= measured(MAIN, plan)
    short = replace(plan, minutes=min(plan.minutes, plan.condition_s / 60), subset_s=0.0)
    others = {name: _condensed(measured(name, short)) for name in CONDITIONS if name != MAIN}
    report["conditions"] = {MAIN: _condensed(report), **others}
    report["summary"] |= condition_figures(report["conditions"])
    report["load_average"] = {"before": round(before, 2), "after": [round(v, 2) for v in os.getloadavg()]}
    return report


def require_room(drive: Path, seconds: float, scratch: Path) -> None:
    """Refuse a measurement whose recording would fill the disk at its end.

    Raises ConfigError: there is less room than the repeated drive takes; with both, and the fix.
    """
    storage = BagStorage(drive)
    size = sum(file.stat().st_size for file in (drive, *drive.rglob("*")) if file.is_file())
    needed, free = size * seconds * 1e9 / max(1, storage.end_ns - storage.begin_ns), shutil.disk_usage(scratch).free
    if free < needed:
        raise ConfigError(
            f"{scratch.parent} has {free / 1e9:.1f} GB free, the recording of {seconds:.0f} s takes {needed / 1e9:.1f};"
            " fix: make room there, name another folder in TMPDIR, or fewer --minutes"
        )


def _condensed(report: Report) -> Report:
    """Return the figures of a condition that the summary compares."""
    whole = report["stretches"][ALL]
    kept = ("hz", "hz_worst_window", "latency_ms", "overhead_ratio", "cpu_pct_by_process", "given_up", "frames")
    share, drops = min(1.0, whole["hz"] / FRAME_HZ), report["frames"]["drops"]
    return {"frames_share": round(share, 3), "runs": report["runs"], **{k: whole[k] for k in kept}, "drops": drops}


def condition_figures(conditions: Report) -> Report:
    """Return the figures of the weak case that have a target, and what recorder and replay cost together."""
    weak, load = conditions[WEAK], conditions[MAIN]["cpu_pct_by_process"]
    others = [load.get(name) for name in ("recorder", "replay")]
    return {
        "weak_frames_share": weak["frames_share"],
        "weak_p95_ms": weak["latency_ms"].get("p95"),
        "recorder_replay_cores": None if None in others else round(sum(others) / 100, 3),
    }


class LiveMeasurement:
    """Measures one condition after the other with the same drive."""

    def __init__(self, options: LiveOptions, drive: Path, scratch: Path, tell: Tell) -> None:
        self._options, self._drive, self._scratch, self._tell = options, drive, scratch, tell

    def __call__(self, condition: str, plan: LivePlan) -> Report:
        """Return all figures of a condition, with how long the node took to start."""
        everything, busy = CONDITIONS[condition]
        session = Session(self._scratch, self._options.bundle, self._options.domain_id)
        stretches = tuple(plan.stretches())
        circuit = Circuit(self._drive, plan.seconds, plan.faults)
        name = condition.replace(", ", "-").replace(" ", "_")
        with ExitStack() as stack:
            if busy:
                stack.enter_context(busy_core(plan.seconds + 4 * START_S))
            begun_s = time.monotonic()
            node = stack.enter_context(
                session.node(engine=self._options.engine, threads=self._options.threads, autostart="false")
            )
            follow((node,), lambda: STARTED in node.last_words, START_S, "the start of the node")
            launch_s = time.monotonic() - begun_s
            monitor = ProcessMonitor({"node": node.pid})
            stack.callback(monitor.close)
            transitions_s, runs = self._activate(session, node)
            driven = stack.enter_context(ObservedDrive(session, circuit, name, everything=everything))
            monitor.add("recorder", driven.recorder.pid)
            driven.start(node)
            if driven.replay is not None:
                monitor.add("replay", driven.replay.pid)

            def tick() -> None:
                monitor.look_at_threads("node")
                self._tell(f"{condition}: {driven.position_s:.0f} of {plan.seconds:.0f} s")

            driven.finish(node, tick=tick)
        seen = driven.observation()
        driven.bag.unlink(missing_ok=True)
        run = LiveRun(stretches, seen, monitor.samples, transitions_s, monitor.thread_cpu_pct)
        report = live_report(run)
        report["runs"] = runs
        report["launch_s"] = round(launch_s, 3)
        report["start_to_active_s"] = round(launch_s + report["configure_to_active_s"], 3)
        return report

    def _activate(self, session: Session, node: Child) -> tuple[dict[str, Any], str]:
        """Take the node through configure and activate; return the seconds of each, and what the node says it runs."""
        client, said = Child("lifecycle", f"{TOOLS}.lifecycle", [], session.environment), list[str]()

        def listen() -> None:
            said.extend(ACTIVE.findall(node.last_words))

        try:
            follow((node, client), lambda: client.code == 0 and said, 3 * START_S, "the activation of the node", listen)
        finally:
            client.stop()
        transitions = [event for event in client.events if event["event"] == "transition"]
        return {name: s for event in transitions for name, s in event.items() if name != "event"}, said[0]
