# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole or not at all, also on a disk that fills up meanwhile."""

from pathlib import Path

from peft_dml_ros.core.errors import DataError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under another name first, and give it its own once it is whole.

    Raises:
        DataError: it cannot be written; nothing of it stays, and an older file of that name does.
    """
    data = content.encode() if isinstance(content, str) else content
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(
            f"cannot write {path} ({len(data)} bytes): {error.strerror or error}; fix: free space there, or name "
            "another folder"
        ) from error
