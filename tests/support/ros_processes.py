# SPDX-License-Identifier: Apache-2.0
"""Processes of the package as tests run them: own log, bounded waits, never left behind."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager


class RosProcess:
    """One `python -m` process whose output goes to a file."""

    def __init__(self, module, *arguments, log):
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)],
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self):
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def events(self):
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{") and line.endswith("}")]

    @property
    def alive(self):
        return self.process.poll() is None

    def wait_for(self, text, timeout_s=60.0):
        deadline = time.monotonic() + timeout_s
        while text not in self.text:
            assert time.monotonic() < deadline, f"'{text}' did not come within {timeout_s} s:\n{self.text}"
            assert self.alive or text in self.text, f"ended with {self.process.returncode}:\n{self.text}"
            time.sleep(0.02)

    def wait(self, timeout_s=60.0):
        return self.process.wait(timeout_s)

    def stop(self, number=signal.SIGTERM, timeout_s=60.0):
        self.process.send_signal(number)
        return self.process.wait(timeout_s)


@contextmanager
def ros_process(module, *arguments, log):
    """A process that is killed at the end if it still runs."""
    started = RosProcess(module, *arguments, log=log)
    try:
        yield started
    finally:
        if started.alive:
            started.process.kill()
            started.process.wait(10)
