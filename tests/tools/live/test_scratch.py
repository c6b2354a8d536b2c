# SPDX-License-Identifier: Apache-2.0
"""Scratch folders go with their process; one that was killed leaves its folder to the next start."""

import subprocess
import sys
import tempfile

import pytest

from peft_dml_tools.live.scratch import PREFIX, scratch_folder

KEEP = """
import sys, time
from peft_dml_tools.live.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "drive.mcap").write_bytes(b"a drive")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """An empty folder for temporary files, of this process and those that it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_the_folder_of_a_killed_process_goes_at_the_next_start_and_no_other(temporary):
    other, unlocked = temporary / "someone_elses", temporary / f"{PREFIX}without_lock"
    other.mkdir()
    unlocked.mkdir()
    with subprocess.Popen([sys.executable, "-c", KEEP], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = temporary / process.stdout.readline().strip()
        try:
            with scratch_folder() as mine:
                assert mine.is_dir()
                assert (left / "drive.mcap").is_file(), "its process lives"
        finally:
            process.kill()
    assert left.is_dir()
    assert not mine.exists()
    with scratch_folder():
        assert not left.exists()
    assert sorted(temporary.iterdir()) == sorted([other, unlocked])
