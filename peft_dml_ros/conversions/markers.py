# SPDX-License-Identifier: Apache-2.0
"""Boxes as visualization_msgs/MarkerArray, for RViz and Foxglove: cubes in the colour of their class, and arrows."""

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from peft_dml_ros.conversions.factory import POINT, VECTOR, MessageFactory, header, triple, upright_pose
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASS_COLOURS, CLASSES
from peft_dml_ros.core.typing import FloatArray

MOVING_MPS: Final = 0.5
"""Slower boxes get no arrow."""
VELOCITY_NAMESPACE: Final = "velocity"
"""Namespace of the arrows; that of a cube is its class, so that viewers can hide either."""

_ARROW, _CUBE, _LINE, _TEXT = 0, 1, 4, 9
_ADD, _DELETE_ALL = 0, 3
_OPACITY: Final = (0.25, 0.5)
"""Of a cube: at score 0, and how much more at score 1."""
_EDGE_M: Final = 0.05
"""Least side of a cube: viewers do not draw flat ones."""
_ARROW_SIZE_M: Final = (0.15, 0.4, 0.5)
"""Of an arrow between two points: diameter of the shaft, of the head, length of the head."""


def markers_to_msg(
    boxes: Boxes3D, stamp_ns: int, frame_id: str, make: MessageFactory, classes: Sequence[str] = CLASSES
) -> Any:
    """Return a MarkerArray: all markers before are deleted, then a cube per box and an arrow where it moves.

    An arrow leads from the centre to where the box will be in a second.

    Args:
        boxes: Boxes in `frame_id` axes.
        stamp_ns: Their time.
        frame_id: Their frame.
        make: Builds messages.
        classes: Names that `boxes.labels` index.
    """
    head = header(stamp_ns, frame_id, make)
    markers = [_marker(head, ("", 0), make, action=_DELETE_ALL)]
    speeds_mps = np.hypot(boxes.velocities_mps[:, 0], boxes.velocities_mps[:, 1])
    for i in range(len(boxes)):
        name, opacity = classes[int(boxes.labels[i])], _OPACITY[0] + _OPACITY[1] * float(boxes.scores[i])
        red, green, blue = (channel / 255 for channel in CLASS_COLOURS.get(name, (200, 200, 200)))
        pose = upright_pose(boxes.centers_m[i], float(boxes.yaws_rad[i]), make)
        scale = triple(VECTOR, np.maximum(boxes.sizes_m[i], _EDGE_M), make)
        colour = make("std_msgs/msg/ColorRGBA", r=red, g=green, b=blue, a=opacity)
        markers.append(_marker(head, (name, i), make, pose=pose, scale=scale, color=colour))
        # NaN, an unknown velocity, is not larger than anything.
        if speeds_mps[i] > MOVING_MPS:
            ends = (boxes.centers_m[i], boxes.centers_m[i] + [*boxes.velocities_mps[i], 0.0])
            points = [triple(POINT, end, make) for end in ends]
            arrow = triple(VECTOR, np.array(_ARROW_SIZE_M), make)
            solid = make("std_msgs/msg/ColorRGBA", r=red, g=green, b=blue, a=1.0)
            identity = (VELOCITY_NAMESPACE, i)
            markers.append(_marker(head, identity, make, type=_ARROW, scale=arrow, color=solid, points=points))
    return make("visualization_msgs/msg/MarkerArray", markers=markers)


def trails_to_msg(
    tracks: Boxes3D, trails: Mapping[str, FloatArray], stamp_ns: int, frame_id: str, make: MessageFactory
) -> Any:
    """Return a MarkerArray of tracks: of each its box with the id above, and the line of where it was.

    Args:
        tracks: Boxes with ids.
        trails: (K, 3) positions of each id so far, in `frame_id`.
        stamp_ns: Their time.
        frame_id: Their frame.
        make: Builds messages.
    """
    head = header(stamp_ns, frame_id, make)
    markers = [_marker(head, ("", 0), make, action=_DELETE_ALL)]
    for i, name in enumerate(tracks.ids):
        # Neighbouring ids get colours far apart on the circle.
        hue = (int(name) * 0.618) % 1.0
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.7, 1.0)
        colour = make("std_msgs/msg/ColorRGBA", r=red, g=green, b=blue, a=0.9)
        pose = upright_pose(tracks.centers_m[i], float(tracks.yaws_rad[i]), make)
        scale = triple(VECTOR, np.maximum(tracks.sizes_m[i], _EDGE_M), make)
        pale = make("std_msgs/msg/ColorRGBA", r=red, g=green, b=blue, a=0.3)
        markers.append(_marker(head, ("track", int(name)), make, pose=pose, scale=scale, color=pale))
        above = upright_pose(tracks.centers_m[i] + [0.0, 0.0, tracks.sizes_m[i, 2] / 2 + 0.6], 0.0, make)
        text = {"type": _TEXT, "pose": above, "scale": triple(VECTOR, np.array([0.0, 0.0, 0.8]), make), "text": name}
        markers.append(_marker(head, ("id", int(name)), make, color=colour, **text))
        if len(trail := trails.get(name, ())) > 1:
            line = {"points": [triple(POINT, point, make) for point in trail], "type": _LINE}
            width = triple(VECTOR, np.array([0.12, 0.0, 0.0]), make)
            markers.append(_marker(head, ("trail", int(name)), make, scale=width, color=colour, **line))
    return make("visualization_msgs/msg/MarkerArray", markers=markers)


def _marker(head: Any, identity: tuple[str, int], make: MessageFactory, **fields: Any) -> Any:
    """Return a marker from its header, (namespace, id) and the fields that differ from the usual ones."""
    usual = {
        "type": _CUBE,
        "action": _ADD,
        "pose": upright_pose(np.zeros(3), 0.0, make),
        "scale": triple(VECTOR, np.zeros(3), make),
        "color": make("std_msgs/msg/ColorRGBA", r=0.0, g=0.0, b=0.0, a=0.0),
        "points": [],
        "text": "",
    }
    namespace, number = identity
    return make(
        "visualization_msgs/msg/Marker",
        header=head,
        ns=namespace,
        id=number,
        lifetime=make("builtin_interfaces/msg/Duration", sec=0, nanosec=0),
        frame_locked=False,
        colors=[],
        texture_resource="",
        texture=make("sensor_msgs/msg/CompressedImage", header=header(0, "", make), format="", data=make.bytes(b"")),
        uv_coordinates=[],
        mesh_resource="",
        mesh_file=make("visualization_msgs/msg/MeshFile", filename="", data=make.bytes(b"")),
        mesh_use_embedded_materials=False,
        **{**usual, **fields},
    )
