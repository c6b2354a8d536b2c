# SPDX-License-Identifier: Apache-2.0
"""The processes of the live benchmark: a drive is simulated, played into the perception node, and the node watched."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from peft_dml_ros.cli.environment import ros_environment
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_tools.bench.live import RATES_HZ, LivePlan, live_report
from peft_dml_tools.bench.live_records import Sample, read_records
from peft_dml_tools.bench.machine import machine, software
from peft_dml_tools.live.children import Child

PERCEPTION: Final = "peft_dml_ros.nodes.perception"
NODES: Final = "peft_dml_tools.nodes"
SEED: Final = 11
SAMPLE_S: Final = 0.5
STARTED: Final = "perception starts"
"""What the node says first."""
START_S: Final = 60.0
"""Longest wait for the node to load its model."""
OVERRUN_S: Final = 60.0

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What the node is, and where it runs.

    Attributes:
        bundle: Model: folder or name.
        threads: Of the engine.
        engine: Its name.
        drive: Bag to drive in circles; a simulated one when there is none.
        domain_id: ROS domain.
        repository: For the commit.
    """

    bundle: str
    threads: int
    engine: str
    drive: Path | None
    domain_id: int
    repository: Path


class Watch:
    """Samples processor time and memory of a process from a thread of its own.

    Args:
        pid: The process.
    """

    def __init__(self, pid: int) -> None:
        self.samples: list[Sample] = []
        self.peak_mb = 0.0
        self._threads: list[tuple[float, dict[str, float]]] = []
        self._pid, self._done = pid, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def look_at_threads(self) -> None:
        """Note the processor time of the kinds of threads; the first and the last look count."""
        with suppress(OSError):
            self._threads = [*self._threads[:1], (time.monotonic(), thread_seconds(self._pid))]

    @property
    def cpu_pct(self) -> dict[str, float]:
        """Processor time between the first and the last look at the threads, in percent of one core."""
        if len(self._threads) < 2:
            return {}
        (begin_s, before), (end_s, after) = self._threads
        return {k: round(100 * (s - before.get(k, 0.0)) / (end_s - begin_s), 1) for k, s in after.items()}

    def close(self) -> None:
        """End the thread."""
        self._done.set()
        self._thread.join()
        with suppress(OSError):
            self.peak_mb = peak_mb(self._pid)

    def _run(self) -> None:
        while not self._done.wait(SAMPLE_S):
            try:
                self.samples.append(sample(self._pid))
            except OSError:  # noqa: PERF203  it ends the loop
                return


def sample(pid: int) -> Sample:
    """A process as it is now.

    Raises:
        OSError: it has gone, or the system has no /proc.
    """
    # Behind the name, which stands in brackets and may hold anything.
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    ticks = int(after_name[11]) + int(after_name[12])
    rss_mb = int(after_name[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return Sample(time.time_ns(), ticks / os.sysconf("SC_CLK_TCK"), rss_mb)


def peak_mb(pid: int) -> float:
    """Largest resident memory of a process so far, in units of 10^6 bytes; 0 where the kernel does not tell.

    Raises:
        OSError: it has gone.
    """
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), 0.0)


def thread_seconds(pid: int) -> dict[str, float]:
    """Processor seconds of a node by kind of thread: the executor's, the middleware's, and those that detect.

    Raises:
        OSError: the process has gone.
    """
    spent = dict.fromkeys(("executor", "middleware", "detection"), 0.0)
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name, _, rest = (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
        except OSError:
            continue  # it has just ended
        fields = rest.split()
        kind = "executor" if task.name == str(pid) else "middleware" if "(dds." in name else "detection"
        spent[kind] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent


def run_live(plan: LivePlan, options: LiveOptions, scratch: Path, tell: Tell) -> dict[str, Any]:
    """Measure.

    Args:
        plan: How long.
        options: What.
        scratch: For the drive, records and logs.
        tell: Told in words what goes on.

    Raises:
        PeftDmlError: the node or the driver failed; the last lines are told.
    """
    if not Path("/proc/self/stat").exists():
        raise ConfigError("the live benchmark reads memory and processor time from /proc; run it on Linux")
    bundle = load_bundle(options.bundle)
    report: dict[str, Any] = {
        "machine": machine(),
        "software": software(options.repository),
        "bundle": f"{bundle.manifest.name} {bundle.manifest.version} {bundle.manifest.precision}",
        "node": {"engine": options.engine, "threads": options.threads},
        "vehicle": {"image_width_px": plan.image_width_px, "rates_hz": RATES_HZ, "minutes": plan.minutes},
    }
    tell("simulating a drive")
    drive = options.drive or simulate(plan, scratch / "drive.mcap")
    begun = os.getloadavg()
    watch, launch_s = _session(plan, options, drive, scratch, tell)
    report["load_average"] = {"before": round(begun[0], 2), "after": [round(v, 2) for v in os.getloadavg()]}
    records = read_records(scratch / "seen.jsonl", watch.samples)
    report |= live_report(replace(records, peak_mb=watch.peak_mb, cpu_pct=watch.cpu_pct))
    report["launch_s"] = round(launch_s, 3)
    report["start_to_active_s"] = round(launch_s + report["configure_to_active_s"], 3)
    return report


def simulate(plan: LivePlan, path: Path) -> Path:
    """A drive at nuScenes' rates, as a bag."""
    from peft_dml_tools.datasets.bags import write_bag
    from peft_dml_tools.sim.drive import Drive, DriveSpec

    rates = {f"{kind}_hz": rate for kind, rate in RATES_HZ.items()}
    spec = DriveSpec.model_validate({"image_width_px": plan.image_width_px, **rates})
    return write_bag(Drive(SEED, plan.round_s, spec, workers=min(4, os.cpu_count() or 1)), path)


def _session(plan: LivePlan, options: LiveOptions, drive: Path, scratch: Path, tell: Tell) -> tuple[Watch, float]:
    """Run node and driver to the end of the plan; gives what was watched, and how long the node took to start."""
    environment = ros_environment(options.domain_id, "LOCALHOST", scratch)
    settings = {"bundle": options.bundle, "engine": options.engine, "threads": options.threads, "autostart": "false"}
    parameters = [word for name, value in settings.items() for word in ("-p", f"{name}:={value}")]
    stretches = scratch / "plan.json"
    stretches.write_text(json.dumps(plan.stretches()), encoding="utf-8")
    arguments = [str(drive), "--plan", str(stretches), "--out", str(scratch / "seen.jsonl"), "--wait-s", str(START_S)]
    begun_s = time.monotonic()
    node = Child("perception", PERCEPTION, ["--ros-args", *parameters], environment)
    watch = Watch(node.pid)
    try:
        while STARTED not in node.last_words and node.code is None and time.monotonic() - begun_s < START_S:
            time.sleep(0.02)
        launch_s = time.monotonic() - begun_s
        driver = Child("driver", f"{NODES}.bench_driver", arguments, environment)
        try:
            _follow(plan, node, driver, watch, tell)
        finally:
            driver.stop()
    finally:
        watch.close()
        node.stop()
    return watch, launch_s


def _follow(plan: LivePlan, node: Child, driver: Child, watch: Watch, tell: Tell) -> None:
    """Wait for the end of the drive; the processor time of its threads is that between its begin and its end.

    Raises:
        DataError: a process failed, or the drive does not come to its end.
    """
    limit = time.monotonic() + 3 * START_S + plan.seconds + OVERRUN_S
    while driver.code is None and node.code is None and time.monotonic() < limit:
        position_s = float(driver.value("progress", "position_s", 0.0))
        tell(f"driving: {position_s:.0f} of {plan.seconds:.0f} s" if position_s else "starting the nodes")
        if "start" in driver.latest and "silent" not in driver.latest:
            watch.look_at_threads()
        driver.wait(0.5)
    if driver.code == 0 and node.code is None:
        return
    failed = node if node.code is not None else driver
    how = "does not end" if failed.code is None else f"ended with status {failed.code}"
    words = "\n".join(f"{child.name}: {child.last_words}" for child in (driver, node))
    raise DataError(f"the {failed.name} {how}; last lines:\n{words}")
