# SPDX-License-Identifier: Apache-2.0
"""Serialised messages of a ROS 2 or ROS 1 bag, also of one that was cut off while it was recorded."""

import copy
import heapq
import itertools
import shutil
import struct
import tempfile
import weakref
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import McapReader

from peft_dml_ros.conversions.cdr import NS_PER_S, leading_stamp_ns
from peft_dml_ros.core.errors import DataError
from peft_dml_tools.datasets.bag_types import typestore
from peft_dml_tools.datasets.mcap_repair import copy_whole_records, mcap_profile, refuse_other_formats

#: Drift between the clock of the stamps and that of the recording that a start in the middle of a bag allows for
SEEK_MARGIN_NS: Final = 10 * NS_PER_S
#: Messages are put into the order of their stamps as long as they were recorded within this of each other
REORDER_NS: Final = NS_PER_S

AnyReader: TypeAlias = Reader | Ros1Reader
BAG_SUFFIXES: Final = frozenset({".mcap", ".db3", ".bag"})
#: Types of ROS 1 that ROS 2 has under another name, with the same content
_RENAMED: Final = {"tf/msg/tfMessage": "tf2_msgs/msg/TFMessage"}


class StampedMessage(NamedTuple):
    """A serialised message: header stamp, its place in the bag, topic, type, CDR bytes, and when it was recorded."""

    stamp_ns: int
    order: int
    topic: str
    msgtype: str
    cdr: bytes
    logged_ns: int


class LoggedMessage(NamedTuple):
    """A serialised message of any type: when it was recorded, topic, type, CDR bytes."""

    logged_ns: int
    topic: str
    msgtype: str
    cdr: bytes


class BagStorage:
    """A bag on disk: an .mcap, .db3 or (ROS 1) .bag file, or a rosbag2 folder. Messages of ROS 1 become CDR.

    Attributes:
        path: What was opened.
        connections: Topic -> message type.
        offered: Topic -> profiles of its publishers.
        count: Number of messages.
        begin_ns: When the first message was recorded.
        end_ns: Right after the last message was recorded.
        damage: What is wrong with the file, or None; what stands before the damage can be read all the same.
        offsets_ns: Topic -> what is added to the stamps of its messages, except stamps of 0.
    """

    def __init__(self, path: Path) -> None:
        """Look at the table of contents. Raises DataError: nothing of it can be read."""
        self.path = path
        self.damage: str | None = None
        self.offsets_ns: dict[str, int] = {}
        self._copy: Path | None = None
        self._file = _bag_file(path)
        with self._reader() as reader:
            self.connections = {c.topic: _RENAMED.get(c.msgtype, c.msgtype) for c in reader.connections}
            self.offered = {c.topic: list(getattr(c.ext, "offered_qos_profiles", ())) for c in reader.connections}
            self.count, self.begin_ns, self.end_ns = reader.message_count, reader.start_time, reader.end_time

    def messages(self, topics: set[str], from_ns: int = 0) -> Iterator[StampedMessage]:
        """Yield messages of these topics in the order of their header stamps, from a stamp on; without one, at once.

        Raises DataError: after the last message that could be read, when the file is damaged.
        """
        waiting: list[StampedMessage] = []
        newest_ns = -(1 << 63)
        for logged_ns, message in self.recorded(topics, self._logged_before(topics, from_ns)):
            if message.stamp_ns < from_ns:
                continue
            if not message.stamp_ns:  # says nothing of the clock, and must not change the order of the others
                yield message
                continue
            if message.stamp_ns < newest_ns - REORDER_NS:  # the recording loops, or a clock was set back
                yield from sorted(waiting)
                waiting, newest_ns = [], message.stamp_ns
            newest_ns = max(newest_ns, message.stamp_ns)
            heapq.heappush(waiting, message)
            while waiting[0].logged_ns < logged_ns - REORDER_NS:
                yield heapq.heappop(waiting)
        yield from sorted(waiting)
        self.check()

    def check(self) -> None:
        """Raise when damage was met so far. Raises DataError: there is some; names the file and the fix."""
        if self.complaint:
            raise DataError(self.complaint)

    @property
    def complaint(self) -> str:
        """What is wrong with the bag so far, and the fix; empty when nothing is."""
        return "" if self.damage is None else self._complaint(self.damage, "; what stands before was read")

    def _logged_before(self, topics: set[str], stamp_ns: int) -> int:
        """Return a time of recording before which no message has this stamp: the two clocks need not be one."""
        if not stamp_ns:
            return 0
        first = next(self.recorded(topics), None)
        offset_ns = first[0] - first[1].stamp_ns if first else 0
        return max(0, stamp_ns + offset_ns - SEEK_MARGIN_NS)

    def recorded(self, topics: set[str], from_ns: int = 0) -> Iterator[tuple[int, StampedMessage]]:
        """Yield messages of these topics in the order of recording, with the time of recording; stops at damage.

        For topics whose messages start with a header.
        """
        for order, (logged_ns, topic, msgtype, cdr) in enumerate(self.logged(topics, from_ns)):
            try:
                stamp_ns = leading_stamp_ns(cdr)
            except (struct.error, IndexError) as error:
                self.damage = self.damage or f"{error} (message {order + 1} of the topics read, {topic})"
                return
            stamp_ns += self.offsets_ns.get(topic, 0) if stamp_ns else 0
            yield logged_ns, StampedMessage(stamp_ns, order, topic, msgtype, cdr, logged_ns)

    def logged(self, topics: set[str], from_ns: int = 0) -> Iterator[LoggedMessage]:
        """Yield messages of these topics, of whatever type, recorded at or after a time; stops at damage."""
        with self._reader() as reader:
            if topics.isdisjoint(c.topic for c in reader.connections):
                return
            read = _in_log_order(reader, topics, from_ns)
            last = "before the first message"
            for number in itertools.count(1):
                try:
                    connection, logged_ns, cdr = next(read)
                except StopIteration:
                    return
                except Exception as error:  # noqa: BLE001  decompressors and parsers raise types of their own
                    self.damage = self.damage or f"{str(error) or type(error).__name__} ({last})"
                    return
                last = f"after message {number} of the topics read, {connection.topic} recorded at {logged_ns} ns"
                msgtype = _RENAMED.get(connection.msgtype, connection.msgtype)
                if isinstance(reader, Ros1Reader):
                    try:
                        cdr = typestore().ros1_to_cdr(cdr, msgtype)
                    except Exception as error:  # noqa: BLE001  rosbags lets errors of any type out
                        self.damage = self.damage or f"{str(error) or type(error).__name__} ({last})"
                        continue
                yield LoggedMessage(logged_ns, connection.topic, msgtype, bytes(cdr))

    @contextmanager
    def _reader(self) -> Iterator[AnyReader]:
        """Yield the bag, or a repaired copy of its readable part."""
        reader: AnyReader = Ros1Reader(self._file) if self._file.suffix == ".bag" else Reader(self._file)
        try:
            reader.open()
            for file in _files(reader):
                # To rosbags a file whose index has no copies of the channels has no topics: they are in its chunks.
                if isinstance(file, McapReader) and not file.channels:
                    file.meta_scan()
        except Exception as error:  # noqa: BLE001  rosbags lets parsing errors of any type out
            if self._file.suffix == ".mcap":
                refuse_other_formats(self._file)
            self.damage = self.damage or str(error)
            with self._repaired() as copy:
                yield copy
            return
        with closing(reader):
            yield reader

    @contextmanager
    def _repaired(self) -> Iterator[Reader]:
        files = sorted(self._file.glob("*.mcap")) if self._file.is_dir() else [self._file]
        if len(files) != 1 or files[0].suffix != ".mcap":
            raise DataError(self._complaint(self.damage or "it cannot be read"))
        if self._copy is None:
            self._copy = self._repair(files[0])
        try:
            reader = Reader(self._copy)
            reader.open()
        except Exception as error:
            raise DataError(self._complaint(str(error))) from error
        if mcap_profile(files[0]) == "":
            self.damage = None  # whole, only without a profile
        with closing(reader):
            yield reader

    def _repair(self, file: Path) -> Path:
        """Copy what is whole of a file; the copy lasts as long as this object."""
        folder = tempfile.mkdtemp(prefix="peft_dml_bag_")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        copy = Path(folder, "repaired.mcap")
        try:
            whole = copy_whole_records(file, copy)
        except OSError as error:
            reason = f"{self.damage} (no repaired copy in {folder}: {error.strerror}; fix: set TMPDIR)"
            raise DataError(self._complaint(reason)) from error
        if self.damage is not None and "byte" not in self.damage:
            self.damage += f" (whole records end at byte {whole} of {file.stat().st_size})"
        return copy

    def _complaint(self, reason: str, read: str = "") -> str:
        return (
            f"bag {self.path} is damaged or cut off: {reason}{read}; fix: "
            "`mcap recover FILE` (.mcap), `ros2 bag reindex FOLDER` or `rosbag reindex FILE` (.bag); or record again"
        )


def _files(reader: AnyReader) -> list[Any]:
    whole = getattr(reader, "storage", reader)
    return list(getattr(whole, "storages", [whole]))


def _in_log_order(reader: AnyReader, topics: set[str], from_ns: int) -> Iterator[Any]:
    """Yield messages by time of recording, also of a folder whose files overlap (rosbags reads file after file)."""
    waiting: list[tuple[int, int, Any, Any]] = []
    for number, file in enumerate(_files(reader)):
        part = file
        if isinstance(reader, Reader) and isinstance(reader.storage, DirectoryReader):
            part = copy.copy(reader.storage)
            part.storages = [file]
        if isinstance(file, McapReader) and not file.chunks:
            file.messages = partial(_scanned, file)  # type: ignore[method-assign]
        read = part.messages([c for c in file.connections if c.topic in topics], from_ns or None)
        # A file after the first is opened when its first message is due: of a long drive, one at a time.
        waiting.append((file.metadata.start_time if number else 0, number, None, read))
    heapq.heapify(waiting)
    while waiting:
        _, number, message, read = heapq.heappop(waiting)
        if message:
            yield message
        for following in itertools.islice(read, 1):
            heapq.heappush(waiting, (following[1], number, following, read))


def _scanned(file: McapReader, connections: Collection[Connection], *times_ns: int | None) -> Any:
    """Yield messages of a file without index by time of recording; rosbags reads it only if it is in order."""
    waiting: list[tuple[int, int, Any]] = []
    newest_ns = 0
    try:
        for order, message in enumerate(file.messages_scan(connections, *times_ns)):
            newest_ns = max(newest_ns, message[1])
            heapq.heappush(waiting, (message[1], order, message))
            while waiting[0][0] < newest_ns - REORDER_NS:
                yield heapq.heappop(waiting)[2]
    except Exception:  # decompressors and parsers raise types of their own
        yield from (message for _, _, message in sorted(waiting))
        raise
    yield from (message for _, _, message in sorted(waiting))


def _bag_file(path: Path) -> Path:
    """Return the folder with its metadata, or the single file to read. Raises DataError: there is no bag there."""
    if (path.is_file() and path.suffix in BAG_SUFFIXES) or (path / "metadata.yaml").is_file():
        return path
    files = sorted(p for p in path.glob("*") if p.suffix in BAG_SUFFIXES) if path.is_dir() else []
    if len(files) == 1:
        return files[0]
    found = f"{len(files)} bag files but no metadata.yaml: run `ros2 bag reindex`" if files else "nothing of that kind"
    msg = f"{path} is no bag, but {found}; fix: name a .mcap, .db3 or .bag file, or a folder with metadata.yaml"
    raise DataError(msg)
