# SPDX-License-Identifier: Apache-2.0
"""MCAP chunks that are gathered from messages where they lie; rosbags copies each message five times on its way.

Layout of the records: https://mcap.dev/spec.
"""

import os
from collections import defaultdict
from io import BytesIO
from pathlib import Path
from struct import Struct, pack
from typing import Final

from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter, PendingChunk

CHUNK_BYTES: Final = 2**20  #: A chunk is closed when it is longer than this
#: Opcode and length of the record, channel, sequence number, times of recording and publication
_MESSAGE: Final = Struct("<BQHIQQ")
_HEAD: Final = 9  #: Bytes of opcode and length


class _Gathered(BytesIO):
    """Records of a chunk as a list of buffers; where rosbags writes into it, that is one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[bytes | memoryview] = []
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        """Append a copy of some bytes."""
        self.append(bytes(data))
        return len(data)

    def append(self, *parts: bytes | memoryview) -> None:
        """Append buffers that will not change."""
        self.parts += parts
        self.size += sum(map(len, parts))

    def tell(self) -> int:
        """Return the number of bytes so far."""
        return self.size


class LeanMcapWriter(McapWriter):
    """Writes the files of rosbags' MCAP writer, with one copy of each message."""

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        super().__init__(path, compression)
        self._next_chunk()

    def write(self, connection: Connection, timestamp: int, data: bytes | memoryview) -> None:
        """Append a message; its bytes must not change until the chunk is written."""
        self.message_start_time = min(timestamp, self.message_start_time)
        self.message_end_time = max(timestamp, self.message_end_time)
        self.channel_stats[connection.id] += 1
        chunk, gathered = self.chunk, self._gathered
        chunk.message_start_time = min(timestamp, chunk.message_start_time)
        chunk.message_end_time = max(timestamp, chunk.message_end_time)
        chunk.msgs[connection.id].append((timestamp, gathered.size))
        length = _MESSAGE.size - _HEAD + len(data)
        gathered.append(_MESSAGE.pack(0x05, length, connection.id, 0, timestamp, timestamp), data)
        if gathered.size > CHUNK_BYTES:
            self.close_chunk()

    def close_chunk(self) -> None:
        """Write the pending chunk with its index."""
        chunk, size = self.chunk, self._gathered.size
        records = self.compressor(b"".join(self._gathered.parts))
        name = pack("<I", len(self.compression)) + self.compression.encode()
        times = pack("<QQ", chunk.message_start_time, chunk.message_end_time)
        head = times + pack("<QI", size, 0) + name + pack("<Q", len(records))
        start = self.bio.tell()
        self.bio.write(pack("<BQ", 0x06, len(head) + len(records)) + head)
        self.bio.write(records)
        end = self.bio.tell()
        offsets = b""
        for channel, messages in chunk.msgs.items():
            offsets += pack("<HQ", channel, self.bio.tell())
            entries = pack(f"<{2 * len(messages)}Q", *(value for entry in messages for value in entry))
            self.bio.write(pack("<BQHI", 0x07, 6 + len(entries), channel, len(entries)) + entries)
        index = BytesIO()
        index.write(times + pack("<QQI", start, end - start, len(offsets)) + offsets)
        index.write(pack("<Q", self.bio.tell() - end) + name + pack("<QQ", len(records), size))
        self.chunks.append(index)
        self._next_chunk()

    def release(self, newest: int) -> None:
        """Let the system write the newest bytes of the file out, and forget those of them that are on the disk.

        A long recording would otherwise fill the memory of the machine, and others wait while the system makes room.
        """
        self.bio.flush()
        if hasattr(os, "posix_fadvise"):
            begin = max(0, self.bio.tell() - newest)
            os.posix_fadvise(self.bio.fileno(), begin, newest, os.POSIX_FADV_DONTNEED)

    def _next_chunk(self) -> None:
        self._gathered = _Gathered()
        self.chunk = PendingChunk(2**63 - 1, 0, self._gathered, defaultdict(list))


class LeanWriter(Writer):
    """rosbags' writer of bags, with a leaner MCAP storage."""

    STORAGE_PLUGINS = {**Writer.STORAGE_PLUGINS, StoragePlugin.MCAP: LeanMcapWriter}  # noqa: RUF012
