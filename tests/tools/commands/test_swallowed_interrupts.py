# SPDX-License-Identifier: Apache-2.0
import signal

import pytest

from peft_dml_tools.live.interrupts import explained


class Swallows:
    """Is hit by an interrupt in its destructor, which Python reports and forgets."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_swallowed_is_raised_again():
    before, steps = signal.getsignal(signal.SIGINT), []

    def work():
        with explained(lambda: f"{len(steps)} of 9") as check:
            for step in range(9):
                steps.append(step)
                if step == 2:
                    Swallows()
                check()

    with pytest.raises(KeyboardInterrupt, match="3 of 9"):
        work()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_at_the_latest_at_the_end():
    with pytest.raises(KeyboardInterrupt, match="all"), explained(lambda: "all"):
        Swallows()


def test_without_interrupt_nothing_is_said():
    with explained(lambda: "never"):
        pass
