# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C: what is there, and how to go on, in one line, with exit status 130."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def explained(words: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """Give an interrupt in this block its words; the command line prints them and exits with status 130.

    Python swallows an exception in a destructor or the callback of a weak reference, so also the interrupt that hits
    one. The block gets a function that raises it again: long loops call it, and it is called at the block's end.
    """
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.default_int_handler(number, frame)

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    try:
        yield check
        check()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(words()) from None
    finally:
        signal.signal(signal.SIGINT, before)
