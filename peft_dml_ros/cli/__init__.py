# SPDX-License-Identifier: Apache-2.0
"""The `peft-dml` command: one file per sub-command, heavy imports inside the commands."""

import os
import signal
from importlib import import_module
from typing import Final

INTERRUPTED: Final = 130  #: Exit status of a command that SIGINT ended: 128 + 2, as a shell has it


def start(module: str = "peft_dml_ros.cli.main") -> None:
    """Run the commands of a module; Ctrl-C while it is imported ends them without a word."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # a shell's background ignores it
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    commands = import_module(module).app
    signal.signal(signal.SIGINT, before)
    commands()
