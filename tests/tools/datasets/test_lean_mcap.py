# SPDX-License-Identifier: Apache-2.0
"""The leaner MCAP storage writes byte for byte what rosbags writes, and gives memory back while it does."""

import ctypes
import mmap
import os
from pathlib import Path

import psutil
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer

from peft_dml_tools.datasets.bag_types import typestore
from peft_dml_tools.datasets.lean_mcap import CHUNK_BYTES, LeanWriter
from peft_dml_tools.nodes.bag_file import RELEASED_EVERY, RawBagFile

KINDS = {"/imu": "sensor_msgs/msg/Imu", "/points": "sensor_msgs/msg/PointCloud2", "/late": "sensor_msgs/msg/Imu"}
MESSAGES = [
    *(("/imu", 10**9 + 7 * i, bytes([i]) * 300) for i in range(40)),
    ("/points", 2 * 10**9, os.urandom(CHUNK_BYTES)),
    ("/imu", 10**9 - 1, b""),
    ("/late", 3 * 10**9, memoryview(b"abcdef")[1:4]),
    ("/points", 3 * 10**9, os.urandom(2 * CHUNK_BYTES + 1)),
    ("/imu", 4 * 10**9, b"end"),
]


def written(writer_class, folder, messages, *, compress):
    writer = writer_class(folder / "drive", version=9, storage_plugin=StoragePlugin.MCAP)
    if compress:
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    writer.open()
    channels = {}
    for topic, time_ns, data in messages:
        if topic not in channels:
            channels[topic] = writer.add_connection(topic, KINDS[topic], typestore=typestore())
        writer.write(channels[topic], time_ns, data)
    writer.close()
    return folder / "drive"


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("count", [0, 1, 40, len(MESSAGES)])
def test_the_file_is_that_of_rosbags(tmp_path, count, compress):
    files = [written(c, tmp_path / c.__name__, MESSAGES[:count], compress=compress) for c in (Writer, LeanWriter)]
    theirs, lean = ((folder / "drive.mcap").read_bytes() for folder in files)
    assert lean == theirs
    if count:
        with Reader(files[1]) as reader:
            found = sorted((c.topic, t, bytes(data)) for c, t, data in reader.messages())
        assert found == sorted((topic, t, bytes(data)) for topic, t, data in MESSAGES[:count])


def cached_share(path):
    """Return the share of a file's pages that are in the page cache, by mincore(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        count = -(-len(pages) // mmap.PAGESIZE)
        resident = (ctypes.c_ubyte * count)()
        start = ctypes.c_char.from_buffer(pages)
        try:
            assert libc.mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(len(pages)), resident) == 0
        finally:
            del start
        return sum(page & 1 for page in resident) / count


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system has no posix_fadvise")
def test_a_long_recording_leaves_the_page_cache(tmp_path):
    bag = RawBagFile(tmp_path / "drive.mcap")
    with bag:
        channel = bag.add_topic("/points", "sensor_msgs/msg/PointCloud2", [])
        data = os.urandom(CHUNK_BYTES)
        for i in range(4 * RELEASED_EVERY // CHUNK_BYTES):
            bag.write_cdr(channel, i, data)
        os.fsync(bag._writer.storage.bio.fileno())
        for i in range(RELEASED_EVERY // CHUNK_BYTES):
            bag.write_cdr(channel, 1000 + i, data)
    assert (tmp_path / "drive.mcap").stat().st_size > 5 * RELEASED_EVERY
    mounts = [m for m in psutil.disk_partitions(all=True) if Path(m.mountpoint) in tmp_path.resolve().parents]
    if max(mounts, key=lambda m: len(m.mountpoint)).fstype in {"tmpfs", "ramfs"}:
        pytest.skip("a file system in memory has nothing to give back")
    assert cached_share(tmp_path / "drive.mcap") < 0.6
