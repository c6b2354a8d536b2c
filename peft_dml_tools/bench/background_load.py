# SPDX-License-Identifier: Apache-2.0
"""Takes one core, as another program on the machine would: a process that computes, for a bounded time."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_CODE: Final = (
    "import os, sys, time; end = time.monotonic() + float(sys.argv[1]); parent = os.getppid()\n"
    "while time.monotonic() < end and os.getppid() == parent:\n    sum(range(200_000))"
)


@contextmanager
def busy_core(longest_s: float) -> Iterator[int]:
    """Run the process for the time of a block; yields its id. It ends with this process, and after `longest_s`."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", _CODE, str(longest_s)]) as process:  # noqa: S603
        try:
            yield process.pid
        finally:
            process.kill()
