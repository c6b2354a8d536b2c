# SPDX-License-Identifier: Apache-2.0
"""Commands in processes of their own, each on one core, measured by the kernel."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peft_dml_ros.core.errors import PeftDmlError

#: A pinned process gains nothing by threads that wait for each other
ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class BenchmarkError(PeftDmlError):
    """A measured command failed."""


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What a command used."""

    wall_s: float  #: Seconds that passed
    cpu_s: float  #: Seconds of processor time, user and system, all threads
    peak_mb: float  #: Largest resident memory, 10^6 bytes
    output: str  #: What it printed on stdout

    def figures(self) -> dict[str, float]:
        """Return the numbers, rounded for a report."""
        return {"wall_s": round(self.wall_s, 2), "cpu_s": round(self.cpu_s, 2), "peak_mb": round(self.peak_mb, 1)}


def pick_core() -> int:
    """Return the last core that this process may use: the first ones serve the most interrupts."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


def measured(command: list[str], core: int, timeout_s: float) -> ProcessUsage:
    """Run a command to its end. Raises BenchmarkError: it failed, or took too long; with its last lines.

    Args:
        command: Program and arguments.
        core: The only core it may use.
        timeout_s: It is ended after this.
    """
    gauge = str(Path(__file__).with_name("gauge.py"))
    with tempfile.TemporaryDirectory(prefix="peft-dml-bench-") as folder:
        note = Path(folder) / "usage.json"
        call = [sys.executable, "-I", "-S", gauge, str(core), str(note), *command]
        with subprocess.Popen(  # noqa: S603 - the benchmark's own commands
            call,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | ONE_THREAD,
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                msg = f"'{' '.join(command)}' took more than {timeout_s:g} s"
                raise BenchmarkError(f"{msg}; fix: measure on an idle machine") from None
            finally:
                # The gauge and what it started are one group; after an interrupt nobody else would end them.
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode or not note.is_file():
            msg = f"'{' '.join(command)}' ended with {process.returncode}"
            raise BenchmarkError(f"{msg}; hint: {output[-2000:].strip()}")
        used = json.loads(note.read_text(encoding="utf-8"))
    return ProcessUsage(used["wall_s"], used["cpu_s"], used["peak_mb"], output)


def module(name: str, *arguments: object) -> list[str]:
    """Return the command that runs a module with this Python."""
    return [sys.executable, "-m", name, *map(str, arguments)]
