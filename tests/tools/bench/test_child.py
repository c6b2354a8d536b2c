# SPDX-License-Identifier: Apache-2.0
import os
import sys
import time

import pytest

from peft_dml_tools.bench.child import BenchmarkError, measured, module, pick_core

BUSY = "import time\nwhile time.process_time() < 0.5: pass"


def python(code):
    return [sys.executable, "-I", "-S", "-c", code]


def test_memory_and_seconds_are_those_of_the_command():
    small = measured(python("pass"), pick_core(), 60)
    big = measured(python("b = bytearray(100_000_000)\nb[::4096] = b'1' * len(b[::4096])"), pick_core(), 60)
    assert small.peak_mb < 40
    assert big.peak_mb == pytest.approx(small.peak_mb + 100, abs=5)
    busy = measured(python(BUSY), pick_core(), 60)
    assert 0.5 <= busy.cpu_s < 1.0
    assert busy.wall_s >= busy.cpu_s - 0.05


def test_memory_of_this_process_is_not_counted():
    held = bytearray(300_000_000)
    held[::4096] = b"1" * len(held[::4096])
    assert measured(python("pass"), pick_core(), 60).peak_mb < 40


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system pins no processes")
def test_a_command_runs_on_one_core():
    core = pick_core()
    assert measured(python("import os; print(os.sched_getaffinity(0))"), core, 60).output.strip() == f"{{{core}}}"


def test_a_command_that_fails_is_told_with_its_last_words():
    with pytest.raises(BenchmarkError, match=r"ended with 3; hint: no such thing"):
        measured(python("import sys; print('no such thing'); sys.exit(3)"), pick_core(), 60)


def test_a_command_that_hangs_is_ended(tmp_path):
    note = tmp_path / "pid"
    hang = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(BenchmarkError, match="took more than 1 s"):
        measured(python(hang), pick_core(), 1)
    pid = int(note.read_text())
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("it still runs")


def test_modules_run():
    assert measured(module("peft_dml_ros.cli.main", "version"), pick_core(), 60).output.strip()
