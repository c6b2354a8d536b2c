# SPDX-License-Identifier: Apache-2.0
"""Runs a module as `python -m` does, and ends with the process that started it, however that one ended.

    python ends_with_parent.py MODULE [ARGUMENT ...]

Standard input is a pipe to which the parent writes nothing: the system closes it with the parent, after SIGKILL too,
when nobody is left to stop its children. It is a file to run, so that the modules may be those of another checkout.
"""

import os
import runpy
import signal
import sys
import threading
import time

GRACE_S = 5.0  #: How long the module may take to close its files after SIGTERM


def follow(pipe: int) -> None:
    """Wait until the other end of the pipe is closed; send this process SIGTERM, and end it when that does not."""
    if hasattr(signal, "pthread_sigmask"):
        # Signals are the main thread's.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while os.read(pipe, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(128 + signal.SIGTERM)


def main() -> None:
    """Follow the parent in a thread, and run the module in this one."""
    pipe = os.dup(0)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a small program that starts fast
        os.dup2(nothing.fileno(), 0)
    threading.Thread(target=follow, args=(pipe,), daemon=True).start()
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.getcwd()  # noqa: PTH109
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
