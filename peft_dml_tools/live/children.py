# SPDX-License-Identifier: Apache-2.0
"""Child processes: JSON lines are followed, last lines kept; each ends in time, and with its parent at the latest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

LAST_LINES: Final = 15
GRACE_S: Final = 3.0  #: How long a process may take to end after SIGINT; a third of it again after SIGTERM

#: Command before a module's name; standard input is a pipe that is open as long as the module may run
ENDS_WITH_PARENT: Final = (sys.executable, str(Path(__file__).with_name("ends_with_parent.py")))


@contextmanager
def graceful_exit() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exit, as Ctrl-C is: children are stopped and files closed on the way out."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Child:
    """One process of this package, started with the same Python; it ends when this process does.

    Args:
        name: What to call it in messages.
        module: Module to run.
        arguments: Its command line.
        environment: Added to this process's environment.
        grace_s: How long it may take to end after SIGINT.
    """

    def __init__(
        self, name: str, module: str, arguments: Sequence[str], environment: Mapping[str, str], grace_s: float = GRACE_S
    ) -> None:
        self.name, self.grace_s = name, grace_s
        self.latest: dict[str, dict[str, Any]] = {}
        """The last JSON line of each event."""
        self.events: list[dict[str, Any]] = []
        """All JSON lines but those of progress."""
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._process = subprocess.Popen(  # noqa: S603  our own module
            [*ENDS_WITH_PARENT, module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            text=True,
            errors="replace",
        )
        streams = (self._process.stdout, self._process.stderr)
        self._threads = [threading.Thread(target=self._follow, args=(s,), daemon=True) for s in streams]
        for thread in self._threads:
            thread.start()

    def _follow(self, stream: IO[str]) -> None:
        for line in stream:
            text = line.rstrip()
            try:
                event = json.loads(text)
                self.latest[event["event"]] = event
                if event["event"] != "progress":
                    self.events.append(event)
            except (ValueError, KeyError, TypeError):
                if text:
                    self.last_lines.append(text)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Exit status; None while it runs."""
        return self._process.poll()

    @property
    def last_words(self) -> str:
        """The last lines that it wrote, without JSON."""
        return "\n".join(self.last_lines)

    def value(self, event: str, key: str, default: Any = None) -> Any:
        """Return a value of the last JSON line of an event."""
        return self.latest.get(event, {}).get(key, default)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; return False when it still runs."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        for thread in self._threads:
            thread.join(1.0)
        return True

    def interrupt(self) -> None:
        """Ask it to end by SIGINT, and do not wait."""
        if self.code is None:
            self._process.send_signal(signal.SIGINT)

    def stop(self) -> int | None:
        """End it by SIGINT, SIGTERM or SIGKILL, whatever it takes; return the exit status."""
        self.interrupt()
        if self.wait(self.grace_s):
            return self.code
        for number, patience_s in ((signal.SIGTERM, self.grace_s / 3), (signal.SIGKILL, self.grace_s)):
            if self.code is None:
                self._process.send_signal(number)
            if self.wait(patience_s):
                break
        return self.code
