# SPDX-License-Identifier: Apache-2.0
"""PointCloud2 as a structured numpy view, whatever its field order, padding, byte order and organisation."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import numpy as np

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import LidarSweep, RadarSweep
from peft_dml_ros.core.typing import AnyArray

#: PointField.datatype -> numpy type without byte order
_FORMATS: Final = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}

DATATYPES: Final = {np.dtype(name).str[1:]: code for code, name in _FORMATS.items()}  #: The inverse, for encoding

#: Points of a cloud beyond this are refused: fields that overlap in a byte would make twenty of it
MAX_POINTS: Final = 8_000_000

_LARGEST_STEP: Final = 1 << 20  #: No point is larger than this; numpy's types are, at 2 GiB, limited as well


def cloud_view(msg: Any, wanted: Sequence[str]) -> AnyArray:
    """Return the `wanted` fields that a PointCloud2 has: a structured (height, width) view of its memory, read-only.

    Raises DataError: sizes or fields contradict each other.
    """
    height, width, point_step = (int(n) for n in (msg.height, msg.width, msg.point_step))
    if min(height, width, point_step) < 0 or point_step > _LARGEST_STEP or (height * width and not point_step):
        _fail(msg, f"{height} x {width} points of point_step {point_step}")
    if height * width > MAX_POINTS:
        _fail(msg, f"{height} x {width} points, at most {MAX_POINTS} are taken")
    row_step = _row_bytes(msg, height, width * point_step)
    layout = _layout(msg, wanted, max(point_step, 1))
    if not height * width or layout is None:
        names = [] if layout is None else [(name, layout[name]) for name in layout.names or ()]
        return np.zeros((0, 0), dtype=names)
    return np.ndarray((height, width), layout, msg.data, strides=(row_step, point_step))


def _row_bytes(msg: Any, height: int, needed: int) -> int:
    """Return the bytes from one row to the next: `row_step` where it fits the data, else what the data decide.

    Drivers leave row_step at 0, or at the value of a cloud that was cropped since; `data` is what was really sent.
    Raises DataError: the data hold fewer bytes than the points, or rows that cannot be separated.
    """
    row_step, size = int(msg.row_step), len(msg.data)
    if row_step >= needed and height * row_step == size:
        return row_step
    if height * needed == size or (height <= 1 and size >= needed):
        return needed
    if not height or size % height or size // height < needed:
        reason = f"{height} rows of {needed} bytes (width x point_step), or of row_step {row_step}, are not"
        _fail(msg, f"{reason} the {size} bytes of data")
    return size // height


def column(view: AnyArray, name: str) -> AnyArray:
    """Return (N,) values of one field in row order."""
    values: AnyArray = view[name].reshape(-1)
    return values


def need(msg: Any, names: tuple[str, ...], needed: tuple[str, ...], hint: str = "") -> None:
    """Refuse a cloud with data that lacks fields. Raises DataError: names those that are missing, and those there."""
    missing = [name for name in needed if name not in names]
    if missing and len(msg.data):
        there = ", ".join(field.name for field in msg.fields)
        frame = msg.header.frame_id
        text = f"PointCloud2 in frame '{frame}' lacks the fields {', '.join(missing)}; it has: {there}"
        raise DataError(text + (hint or "; fix: let its driver publish them"))


def _layout(msg: Any, wanted: Sequence[str], point_step: int) -> np.dtype[np.void] | None:
    order = ">" if msg.is_bigendian else "<"
    names: list[str] = []
    formats: list[str] = []
    offsets: list[int] = []
    alike = Counter(field.name.lower() for field in msg.fields)
    for field in msg.fields:
        # Capitals count for the small letters, unless these are there as well.
        name = field.name if field.name in wanted or alike[field.name.lower()] > 1 else field.name.lower()
        if name not in wanted or name in names:
            continue
        if field.datatype not in _FORMATS or field.count not in {0, 1}:
            _fail(msg, f"field '{field.name}': datatype {field.datatype}, count {field.count}; 1-8 and 1 are known")
        form = order + _FORMATS[field.datatype]
        offset = int(field.offset)
        if offset < 0 or offset + np.dtype(form).itemsize > point_step:
            _fail(msg, f"field '{field.name}' at offset {offset} does not fit into point_step {point_step}")
        names.append(name)
        formats.append(form)
        offsets.append(offset)
    if not names:
        return None
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": point_step})


def _fail(msg: Any, reason: str) -> NoReturn:
    raise DataError(f"malformed PointCloud2 in frame '{msg.header.frame_id}': {reason}; fix: in the driver")


def points_dropped(msg: Any, sweep: LidarSweep | RadarSweep) -> int:
    """Return how many points or returns of the message were not finite, or flagged, and are not in the sweep."""
    for name in ("returns", "detections"):
        if hasattr(msg, name):
            return len(getattr(msg, name)) - len(sweep.points)
    return int(msg.height) * int(msg.width) - len(sweep.points)
