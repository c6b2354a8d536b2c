# SPDX-License-Identifier: Apache-2.0
"""Point clouds in files of any usual kind: PCD (ascii, binary, compressed), PLY, and bare float32 (.bin)."""

from pathlib import Path
from typing import Final

import numba
import numpy as np

from peft_dml_ros.conversions.lidar import ANY, IntensityField, sweep_of_columns
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import LidarSweep
from peft_dml_ros.core.typing import AnyArray, UInt8Array

SUFFIXES: Final = (".pcd.bin", ".bin", ".pcd", ".ply")
_PCD_TYPES: Final = {("F", 4): "<f4", ("F", 8): "<f8", ("I", 1): "i1", ("I", 2): "<i2", ("I", 4): "<i4"} | {
    ("U", 1): "u1",
    ("U", 2): "<u2",
    ("U", 4): "<u4",
    ("U", 8): "<u8",
    ("I", 8): "<i8",
}
_PLY_TYPES: Final = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_MOST_HEADER: Final = 8192
_MOST_POINTS: Final = 50_000_000
#: Share of negative intensities in a .bin file, from which its points have another number of values
_MOST_NEGATIVE: Final = 0.01
_BIN_COLUMNS: Final = ("x", "y", "z", "intensity", "ring")


def read_sweep(path: Path, stamp_ns: int, columns: int = 0, intensity: IntensityField = ANY) -> LidarSweep:
    """Read the sweep in a file of one of `SUFFIXES`; the intensity is chosen and scaled as that of a message.

    Names of fields count in lower case and without CloudCompare's `scalar_`. Raises DataError: the file cannot be read,
    is damaged, or has no x, y and z.

    Args:
        path: The file.
        stamp_ns: Time of the sweep.
        columns: Values a point of a .bin file; 0 takes 5 for .pcd.bin (nuScenes) and 4 for .bin (KITTI).
        intensity: What to take for the intensity, and its scale.
    """
    kind = path.name.lower()
    if kind.endswith(".bin"):
        points = _read_bin(path, columns or (5 if kind.endswith(".pcd.bin") else 4))
    else:
        points = read_ply(path) if kind.endswith(".ply") else read_pcd(path)
    names = points.dtype.names or ()
    plain = [name.lower().removeprefix("scalar_") for name in names]
    if len({*plain}) == len(plain):
        points = points.view()
        points.dtype.names = names = tuple(plain)
    if missing := [name for name in ("x", "y", "z") if name not in names]:
        msg = f"{path} lacks the fields {', '.join(missing)}; it has: {', '.join(names)}"
        raise DataError(f"{msg}; fix: write it with them")
    chosen = intensity._replace(field=intensity.field.lower().removeprefix("scalar_"))
    return sweep_of_columns(points, stamp_ns, chosen, str(path))


def _read_bin(path: Path, columns: int) -> AnyArray:
    payload = read_bytes(path)
    if len(payload) % (4 * columns):
        whole = len(payload) // (4 * columns) * 4 * columns
        raise DataError(
            f"{path} has {len(payload)} bytes, no multiple of {4 * columns} ({columns} float32 a point): it is cut off "
            f"within the point that starts at byte {whole}, or has another number of values a point; fix: copy it again"
        )
    names = [*_BIN_COLUMNS, *(f"extra{i}" for i in range(5, columns))][:columns]
    points = np.frombuffer(payload, dtype=[(name, "<f4") for name in names])
    if columns >= 4 and (negative := float((points["intensity"] < 0).mean() if len(points) else 0)) > _MOST_NEGATIVE:
        raise DataError(
            f"{path}: read as {columns} float32 a point, {negative:.0%} of the intensities are negative: it holds "
            "another number of values a point; fix: 4 a point in NAME.bin, 5 in NAME.pcd.bin, others in a .pcd or .ply"
        )
    return points


def read_pcd(path: Path) -> AnyArray:
    """Read the points of a PCD file of any kind, one column a field.

    Raises DataError: the file cannot be read, its header is damaged, or it holds fewer points than promised.
    """
    payload = read_bytes(path)
    mark = payload.find(b"\nDATA ", 0, _MOST_HEADER)
    end = payload.find(b"\n", mark + 1) + 1
    if mark < 0 or not end:
        raise DataError(f"{path} has no 'DATA' line in its first 8 KiB: it is no PCD file; fix: copy it again")
    words = [line.split() for line in payload[:end].decode("ascii", errors="replace").splitlines()]
    header = {line[0]: line[1:] for line in words if line and not line[0].startswith("#")}
    layout, kind = _pcd_layout(path, header), "".join(header["DATA"])
    try:
        count = int(header["POINTS"][0])
    except (KeyError, IndexError, ValueError):
        raise DataError(f"{path}: the header has no number of POINTS; fix: write it again") from None
    body = payload[end:]
    if not 0 <= count <= _MOST_POINTS:
        raise DataError(f"{path} promises {count} points; fix: give 0 to {_MOST_POINTS}")
    if not count:
        return np.zeros(0, dtype=layout)
    if kind == "ascii":
        return _ascii_rows(path, body, layout, count)
    if kind == "binary_compressed":
        body = _decompressed(path, body, layout, count)
    elif kind != "binary":
        raise DataError(f"{path}: DATA is '{kind}'; fix: write ascii, binary or binary_compressed")
    if len(body) < count * layout.itemsize:
        raise DataError(
            f"{path} promises {count} points of {layout.itemsize} bytes from byte {end} on, but ends at byte "
            f"{len(payload)}; fix: copy it again"
        )
    return np.frombuffer(body, dtype=layout, count=count)


def _pcd_layout(path: Path, header: dict[str, list[str]]) -> np.dtype[np.void]:
    names, sizes, types = (header.get(key, []) for key in ("FIELDS", "SIZE", "TYPE"))
    counts = header.get("COUNT") or ["1"] * len(names)
    if not len(names) == len(sizes) == len(types) == len(counts):
        raise DataError(f"{path}; fix: FIELDS, SIZE, TYPE and COUNT must have one entry per field")
    try:
        columns = [
            # Fields called _ are padding, and may repeat.
            (name if name != "_" else f"_{i}", _PCD_TYPES[kind, int(size)], (int(n),) if int(n) != 1 else ())
            for i, (name, size, kind, n) in enumerate(zip(names, sizes, types, counts, strict=True))
        ]
        return np.dtype(columns)
    except (KeyError, ValueError) as error:
        msg = f"{path}: a field has an unknown type or a repeated name ({error})"
        raise DataError(f"{msg}; fix: write it again") from error


def _ascii_rows(path: Path, body: bytes, layout: np.dtype[np.void], count: int) -> AnyArray:
    try:
        rows = np.array([line.split() for line in body.decode("ascii").splitlines() if line.strip()], dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{path}: its points are no table of numbers ({error}); fix: copy it again") from error
    shapes = {name: layout[name].shape for name in layout.names or ()}
    width = sum(int(np.prod(shape)) for shape in shapes.values())
    if len(rows) < count or (len(rows) and rows.shape[1] != width):
        raise DataError(f"{path} promises {count} points of {width} values, but holds {rows.shape}; fix: copy it again")
    points, begin = np.zeros(count, dtype=layout), 0
    with np.errstate(invalid="ignore"):
        for name, shape in shapes.items():
            end = begin + int(np.prod(shape))
            points[name] = rows[:count, begin:end].reshape(count, *shape)
            begin = end
    return points


def _decompressed(path: Path, body: bytes, layout: np.dtype[np.void], count: int) -> bytes:
    """Return the points of a compressed body, which holds them field by field.

    Where compression does not pay, some writers (pypcd4) put the columns as they are.
    """
    packed, size = (int.from_bytes(body[i : i + 4], "little") for i in (0, 4))
    if len(body) < 8 + packed or size != count * layout.itemsize or size > _MOST_POINTS * 64:
        msg = f"{path}: its compressed points are cut off or of another number than the header says; fix: copy it again"
        raise DataError(msg)
    content, columns = np.frombuffer(body, dtype=np.uint8)[8 : 8 + packed], np.zeros(size, dtype=np.uint8)
    if _unlzf(content, columns) != size:
        if packed != size:
            raise DataError(f"{path}: its compressed points are damaged; fix: copy it again")
        columns = content
    points, begin = np.zeros(count, dtype=layout), 0
    for name in layout.names or ():
        kind = layout[name]
        points[name] = columns[begin : begin + count * kind.itemsize].view(kind.base).reshape(points[name].shape)
        begin += count * kind.itemsize
    return points.tobytes()


@numba.njit(cache=True)
def _unlzf(packed: UInt8Array, out: UInt8Array) -> int:
    """Decompress LZF; return the bytes written, -1 for damaged input."""
    i, o = 0, 0
    while i < len(packed):
        control = int(packed[i])
        i += 1
        if control < 32:
            run = control + 1
            if i + run > len(packed) or o + run > len(out):
                return -1
            out[o : o + run] = packed[i : i + run]
            i, o = i + run, o + run
            continue
        run = control >> 5
        if run == 7:
            if i >= len(packed):
                return -1
            run += int(packed[i])
            i += 1
        if i >= len(packed):
            return -1
        back = o - ((control & 31) << 8) - int(packed[i]) - 1
        i, run = i + 1, run + 2
        if back < 0 or o + run > len(out):
            return -1
        for k in range(run):
            out[o + k] = out[back + k]
        o += run
    return o


def read_ply(path: Path) -> AnyArray:
    """Read the vertices of a PLY file, which must be its first element, one column a property.

    Raises DataError: the file cannot be read, is no PLY, or holds fewer vertices than promised.
    """
    payload = read_bytes(path)
    end = payload.find(b"end_header", 0, _MOST_HEADER)
    begin = payload.find(b"\n", end) + 1
    if not payload.startswith(b"ply") or end < 0 or not begin:
        msg = f"{path} is no PLY file"
        raise DataError(f"{msg}; fix: give it a header that begins with 'ply' and ends with 'end_header'")
    lines = [line.split() for line in payload[:end].decode("ascii", errors="replace").splitlines()]
    elements = [(i, line) for i, line in enumerate(lines) if line[:1] == ["element"]]
    kind = next((line[1] for line in lines if line[:1] == ["format"] and len(line) > 1), "")
    try:
        (at, (_, name, number)), count = elements[0], int(elements[0][1][2])
        stop = elements[1][0] if len(elements) > 1 else len(lines)
        order = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "<"}[kind]
        properties = [line for line in lines[at:stop] if line[:1] == ["property"]]
        layout = np.dtype([(line[2], order + _PLY_TYPES[line[1]]) for line in properties])
    except (KeyError, ValueError, IndexError) as error:
        msg = f"{path}: format '{kind}' or a property of its vertices is not known ({error})"
        raise DataError(f"{msg}; fix: write it again") from error
    if name != "vertex" or not 0 <= count <= _MOST_POINTS:
        raise DataError(f"{path}: its first element is {number} x '{name}', fix: write vertices first")
    if not count:
        return np.zeros(0, dtype=layout)
    if kind == "ascii":
        text = b"\n".join(payload[begin:].splitlines()[:count])
        return _ascii_rows(path, text, layout, count)
    if len(payload) - begin < count * layout.itemsize:
        msg = f"{path} promises {count} vertices of {layout.itemsize} bytes, but ends before"
        raise DataError(f"{msg}; fix: copy it again")
    return np.frombuffer(payload, dtype=layout, count=count, offset=begin)


def read_bytes(path: Path) -> bytes:
    """Read a file. Raises DataError: it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; fix: copy it again") from error
