# SPDX-License-Identifier: Apache-2.0
"""Boxes as bytes of a visualization_msgs/MarkerArray for RViz and Foxglove: cubes in the colours of classes, arrows.

Built as messages, the markers of a frame with forty tracks would take twenty milliseconds.
"""

import colorsys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

import numpy as np

from peft_dml_ros.conversions.boxes import upright_poses
from peft_dml_ros.conversions.cdr import LITTLE_ENDIAN, NS_PER_S, aligned
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASS_COLOURS, CLASSES
from peft_dml_ros.core.typing import FloatArray

MOVING_MPS: Final = 0.5  #: Slower boxes get no arrow
#: Namespace of the arrows; that of a cube is its class, so that viewers can hide either
VELOCITY_NAMESPACE: Final = "velocity"

_ARROW, _CUBE, _LINE, _TEXT = 0, 1, 4, 9
_ADD, _DELETE_ALL = 0, 3
_OPACITY: Final = (0.25, 0.5)  #: Of a cube: at score 0, and how much more at score 1
_EDGE_M: Final = 0.05  #: Least side of a cube: viewers do not draw flat ones
#: Of an arrow between two points: diameter of the shaft, of the head, length of the head
_ARROW_SIZE_M: Final = (0.15, 0.4, 0.5)
_ORIGIN: Final = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


class _Marker(NamedTuple):
    """The fields of a marker that differ: pose as x, y, z and quaternion, colour as red, green, blue, alpha."""

    namespace: str
    number: int
    kind: int = _CUBE
    action: int = _ADD
    pose: Sequence[float] = _ORIGIN
    scale: Sequence[float] = (0.0, 0.0, 0.0)
    colour: Sequence[float] = (0.0, 0.0, 0.0, 0.0)
    points: FloatArray = np.zeros((0, 3))
    text: str = ""


def markers_to_cdr(boxes: Boxes3D, stamp_ns: int, frame_id: str, classes: Sequence[str] = CLASSES) -> bytes:
    """Return a MarkerArray: all markers before are deleted, then a cube per box and an arrow where it moves.

    An arrow leads from the centre to where the box will be in a second.
    """
    markers = [_Marker("", 0, action=_DELETE_ALL)]
    poses, scales = upright_poses(boxes), np.maximum(boxes.sizes_m, _EDGE_M).tolist()
    speeds_mps = np.hypot(boxes.velocities_mps[:, 0], boxes.velocities_mps[:, 1])
    for i in range(len(boxes)):
        name, opacity = classes[int(boxes.labels[i])], _OPACITY[0] + _OPACITY[1] * float(boxes.scores[i])
        rgb = [channel / 255 for channel in CLASS_COLOURS.get(name, (200, 200, 200))]
        markers.append(_Marker(name, i, pose=poses[i], scale=scales[i], colour=(*rgb, opacity)))
        # NaN, an unknown velocity, is not larger than anything.
        if speeds_mps[i] > MOVING_MPS:
            ends = np.stack([boxes.centers_m[i], boxes.centers_m[i] + [*boxes.velocities_mps[i], 0.0]])
            solid = (*rgb, 1.0)
            markers.append(_Marker(VELOCITY_NAMESPACE, i, _ARROW, scale=_ARROW_SIZE_M, colour=solid, points=ends))
    return _packed(markers, stamp_ns, frame_id)


def trails_to_cdr(tracks: Boxes3D, trails: Mapping[str, FloatArray], stamp_ns: int, frame_id: str) -> bytes:
    """Return a MarkerArray of tracks: of each its box with the id above, and the line of where it was.

    Args:
        tracks: Boxes with ids.
        trails: (K, 3) positions of each id so far, in `frame_id`.
        stamp_ns: Their time.
        frame_id: Their frame.
    """
    markers = [_Marker("", 0, action=_DELETE_ALL)]
    poses, scales = upright_poses(tracks), np.maximum(tracks.sizes_m, _EDGE_M).tolist()
    for i, name in enumerate(tracks.ids):
        # Neighbouring ids get colours far apart on the circle.
        number, rgb = int(name), colorsys.hsv_to_rgb((int(name) * 0.618) % 1.0, 0.7, 1.0)
        markers.append(_Marker("track", number, pose=poses[i], scale=scales[i], colour=(*rgb, 0.3)))
        x, y, z = tracks.centers_m[i].tolist()
        above = (x, y, z + float(tracks.sizes_m[i, 2]) / 2 + 0.6, *_ORIGIN[3:])
        solid = (*rgb, 0.9)
        markers.append(_Marker("id", number, _TEXT, pose=above, scale=(0.0, 0.0, 0.8), colour=solid, text=name))
        if len(trail := trails.get(name, ())) > 1:
            line = np.asarray(trail)
            markers.append(_Marker("trail", number, _LINE, scale=(0.12, 0.0, 0.0), colour=solid, points=line))
    return _packed(markers, stamp_ns, frame_id)


def _packed(markers: Sequence[_Marker], stamp_ns: int, frame_id: str) -> bytes:
    """Return the serialised message."""
    frame = frame_id.encode() + b"\0"
    head = (*divmod(stamp_ns, NS_PER_S), len(frame), frame)
    parts = [LITTLE_ENDIAN, len(markers).to_bytes(4, "little")]
    at = 4
    for marker in markers:
        name, text = marker.namespace.encode() + b"\0", marker.text.encode() + b"\0"
        points = marker.points.astype("<f8").tobytes()
        front = _front(at % 8, len(frame), len(name), bool(points))
        identity = (len(name), name, marker.number, marker.kind, marker.action)
        look = (*marker.pose, *marker.scale, *marker.colour, 0, 0, False, len(marker.points))
        parts += [front.pack(*head, *identity, *look), points]
        at += front.size + len(points)
        back = _back(at % 8, len(text))
        parts.append(back.pack(*_TEXTURE, len(text), text, *_MESH))
        at += back.size
    return b"".join(parts)


_EMPTY: Final = (1, b"\0")  #: A string without letters
#: No colours, no texture: resource, stamp, frame, format, bytes, coordinates
_TEXTURE: Final = (0, *_EMPTY, 0, 0, *_EMPTY, *_EMPTY, 0, 0)
_MESH: Final = (*_EMPTY, *_EMPTY, 0, False)  #: No mesh: resource, file name, bytes, materials


@lru_cache(maxsize=1024)
def _front(at: int, frame: int, name: int, points: bool) -> Struct:  # noqa: FBT001
    """Return the layout of a marker up to its points; strings have these lengths."""
    fields = ("iII", f"{frame}s", "I", f"{name}s", "3i", "10d", "4f", "iI", "?", "I", *(["0d"] if points else []))
    return aligned(at, *fields)


@lru_cache(maxsize=1024)
def _back(at: int, text: int) -> Struct:
    """Return the layout of a marker from its colours on, with a text of this length."""
    none = ("I", "1s")
    return aligned(at, "I", *none, "iI", *none, *none, "II", "I", f"{text}s", *none, *none, "I", "?")
