# SPDX-License-Identifier: Apache-2.0
"""Bags that were cut short, disks that fill up, second runs."""

import errno
import io
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.datasets.bag_import import import_bag
from peft_dml_tools.datasets.bags import BagSource, write_bag
from peft_dml_tools.datasets.checks import check_dataset
from peft_dml_tools.datasets.source import open_source
from tests.support.made_source import MadeSource, pose, scene_of, sweep


def test_a_bag_cut_short_is_named_and_imported_on_demand(tmp_path):
    long = [sweep(10**18 + k * 50_000_000, k) for k in range(40)]
    long = [(n, replace(m, points=np.full((20_000, 5), k, np.float32))) for k, (n, m) in enumerate(long)]
    bag = write_bag(
        MadeSource([*long, *(pose(m.stamp_ns, k) for k, (_, m) in enumerate(long))]), tmp_path / "long.mcap"
    )
    data = bag.read_bytes()
    bag.write_bytes(data[: int(len(data) * 0.7)])
    with pytest.raises(DataError, match=r"long\.mcap is damaged.*whole records end at byte \d+ of \d+"):
        import_bag(BagSource(bag), tmp_path / "out")
    made = import_bag(BagSource(bag), tmp_path / "out", allow_damaged=True)
    assert "long.mcap is damaged" in made.damage
    assert 2 <= made.keyframes <= 3
    assert check_dataset(tmp_path / "out", exclude=("FMT009",)).passed(strict=True)


class _FullDisk:
    """Files opened for writing take this many bytes in all, then the disk is full."""

    def __init__(self, room: int) -> None:
        self.room = room

    def take(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full_disk(monkeypatch):
    """Gives a function that lets the disk under Path.open and Path.write_bytes fill up after so many bytes."""

    def fill(room: int) -> _FullDisk:
        disk = _FullDisk(room)
        real_open = io.open

        class Limited(io.FileIO):
            def write(self, data, /):
                disk.take(len(memoryview(data).cast("B")))
                return super().write(data)

        def limited_open(self, mode="r", *args, **kwargs):
            if mode in {"wb", "xb"}:
                return io.BufferedWriter(Limited(self, "w"))
            return real_open(self, mode, *args, **kwargs)

        monkeypatch.setattr(Path, "open", limited_open)
        return disk

    return fill


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_full_disk_while_exporting_leaves_the_earlier_bag_and_nothing_else(mini, tmp_path, full_disk, monkeypatch):
    out = tmp_path / "scene.mcap"
    before = write_bag(scene_of(mini, "scene-0001"), out).read_bytes()
    whole = write_bag(scene_of(mini), tmp_path / "other" / "scene.mcap").read_bytes()
    for room in (10, 100_000, len(whole) - 100):
        full_disk(room)
        with pytest.raises(DataError, match=r"scene\.mcap after \d+ bytes: No space left.*run it again"):
            write_bag(scene_of(mini), out, overwrite=True)
        monkeypatch.undo()
        assert out.read_bytes() == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "scene.mcap"]
    with pytest.raises(DataError, match="exists already"):
        write_bag(scene_of(mini), out)
    assert write_bag(scene_of(mini), out, overwrite=True).read_bytes() == whole


def test_what_a_killed_export_left_is_cleared_but_nothing_of_others(mini, tmp_path):
    part = tmp_path / "scene.part" / "scene"
    part.mkdir(parents=True)
    (part / "scene.mcap").write_bytes(b"half")
    write_bag(scene_of(mini), tmp_path / "scene.mcap")
    assert not part.exists()
    # A bag in a folder of its own name is no piece of itself.
    named = tmp_path / "drive" / "drive.mcap"
    named.parent.mkdir()
    assert write_bag(scene_of(mini), named) == named
    (tmp_path / "other.part").mkdir()
    (tmp_path / "other.part" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"other\.part exists already"):
        write_bag(scene_of(mini), tmp_path / "other.mcap")
    assert (tmp_path / "other.part" / "thesis.tex").is_file()


@pytest.mark.parametrize("room", [100, 50_000, 400_000])
def test_full_disk_while_importing_is_named_and_a_second_run_completes(mini, tmp_path, full_disk, monkeypatch, room):
    out = tmp_path / "out"
    import_bag(BagSource(write_bag(scene_of(mini, "scene-0001"), tmp_path / "scene-0001.mcap")), out)
    bag = write_bag(scene_of(mini), tmp_path / "scene-0002.mcap")
    import_bag(BagSource(bag), tmp_path / "whole", scene="scene-0002")
    before = _files(out)
    full_disk(room)
    with pytest.raises(DataError, match=r"cannot write .*No space left.*run the same command again"):
        import_bag(BagSource(bag), out)
    monkeypatch.undo()
    now = _files(out)
    assert {name: now[name] for name in before} == before or room == 400_000
    assert not [name for name in now if name.endswith(".part")]
    assert import_bag(BagSource(bag), out).scene == "scene-0002"
    assert check_dataset(out).passed(strict=True)
    whole = _files(tmp_path / "whole")
    again = _files(out)
    assert all(again[name] == content for name, content in whole.items() if name.startswith(("samples", "sweeps")))


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="a small disk needs root to mount it")
def test_a_disk_that_is_really_full(mini, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        for name in ("scene.mcap", "scene.db3", "folder"):
            with pytest.raises(DataError, match=r"after \d+ bytes: .*(No space left|disk is full)"):
                write_bag(scene_of(mini), disk / name)
            assert not list(disk.iterdir())
        bag = write_bag(scene_of(mini), tmp_path / "scene.mcap")
        with pytest.raises(DataError, match=r"cannot write .*No space left"):
            import_bag(BagSource(bag), disk / "out")
        assert open_source(bag).truth
    finally:
        subprocess.run(["umount", str(disk)], check=True)
