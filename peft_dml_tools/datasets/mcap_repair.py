# SPDX-License-Identifier: Apache-2.0
"""Copy what is whole of an MCAP file, and read its profile: for files that were cut off or that no ROS 2 tool wrote."""

import struct
from pathlib import Path
from typing import BinaryIO, Final

from peft_dml_ros.core.errors import DataError

_MAGIC: Final = b"\x89MCAP0\r\n"
_CHUNKED: Final = (0x03, 0x04, 0x05, 0x06)  #: MCAP records that carry data: schema, channel, message, chunk
#: Header record of profile `ros2`: some writers leave the profile empty
_HEADER: Final = b"\x01" + struct.pack("<QI4sI", 12, 4, b"ros2", 0)
_END: Final = b"\x0f" + struct.pack("<QI", 4, 0) + b"\x02" + struct.pack("<QQQI", 20, 0, 0, 0) + _MAGIC


def mcap_profile(path: Path) -> str | None:
    """Return the profile in the header of an MCAP file (`ros2`, `ros1`, or empty); None when it has no header."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC or file.read(1) != b"\x01":
            return None
        file.seek(8, 1)
        head = file.read(4)
        return file.read(int.from_bytes(head, "little")).decode("utf-8", errors="replace") if len(head) == 4 else None


def refuse_other_formats(path: Path) -> None:
    """Refuse a sound MCAP file that nothing here can read. Raises DataError: it is empty, or holds ROS 1 messages."""
    if not path.stat().st_size:
        msg = f"bag {path} is empty (0 bytes): nothing was recorded, or the disk was full; fix: record it again"
        raise DataError(msg)
    if mcap_profile(path) == "ros1":
        raise DataError(
            f"bag {path} is an MCAP file with ROS 1 messages (profile 'ros1'); fix: give the .bag file that it was "
            "made from, which is read, or convert that: rosbags-convert --src FILE.bag --dst FOLDER"
        )


def copy_whole_records(source: Path, target: Path) -> int:
    """Copy an MCAP file up to its last whole data record, as of ROS 2; return the byte where that ends."""
    size = source.stat().st_size
    with source.open("rb") as read, target.open("wb") as write:
        write.write(read.read(len(_MAGIC)))
        end = read.tell()
        while _copy_record(read, write, size):
            end = read.tell()
        write.write(_END)
    return end


def _copy_record(read: BinaryIO, write: BinaryIO, size: int) -> bool:
    """Copy one record; False at the end of the data or when it is cut."""
    head = read.read(9)
    if len(head) < 9:
        return False
    code, length = head[0], int.from_bytes(head[1:], "little")
    if read.tell() + length > size or code in {0x02, 0x0F}:
        return False
    if code == 0x01:
        write.write(_HEADER)
        read.seek(length, 1)
    elif code in _CHUNKED:
        write.write(head + read.read(length))
    else:
        read.seek(length, 1)
    return True
