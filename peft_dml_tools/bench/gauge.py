# SPDX-License-Identifier: Apache-2.0
"""Runs one command on one core and notes its seconds and peak memory; a program of the standard library alone.

python -I -S gauge.py CORE NOTE COMMAND [ARGUMENT ...]

A child starts as a copy of its parent, and the kernel counts that copy into the child's peak. So the parent is this
small program and not the benchmark itself.
"""

import json
import os
import sys
import time


def main() -> int:
    """Run, write the note, and return the command's exit status."""
    core, note, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    begin = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - begin
    kib = 1024 if sys.platform == "darwin" else 1
    measured = {
        "wall_s": seconds,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / kib * 1024 / 1e6,
    }
    with open(note, "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib would be the larger part of this program
        json.dump(measured, file)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
