# SPDX-License-Identifier: Apache-2.0
"""Boxes as visualization_msgs/MarkerArray, for RViz and Foxglove."""

from typing import Any, Final

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASS_COLOURS, CLASSES
from peft_dml_ros.datasets.conversions.factory import MessageFactory, header

_CUBE, _ADD, _DELETE_ALL = 1, 0, 3
_OPACITY: Final = 0.4
_EDGE_M: Final = 0.05
"""Least side of a cube: viewers do not draw flat ones."""


def markers_to_msg(boxes: Boxes3D, stamp_ns: int, frame_id: str, make: MessageFactory) -> Any:
    """visualization_msgs/MarkerArray: all markers before are deleted, then a cube per box in the colour of its class.

    Args:
        boxes: Boxes in `frame_id` axes; labels index `CLASSES`.
        stamp_ns: Their time.
        frame_id: Their frame.
        make: Builds messages.
    """
    none = np.zeros(3)
    markers = [_marker((stamp_ns, frame_id), ("", 0, _DELETE_ALL), (none, none, 0.0), (0, 0, 0), make)]
    for i in range(len(boxes)):
        name = CLASSES[int(boxes.labels[i])]
        geometry = (boxes.centers_m[i], np.maximum(boxes.sizes_m[i], _EDGE_M), float(boxes.yaws_rad[i]))
        markers.append(_marker((stamp_ns, frame_id), (name, i, _ADD), geometry, CLASS_COLOURS[name], make))
    return make("visualization_msgs/msg/MarkerArray", markers=markers)


def _marker(
    head: tuple[int, str],
    identity: tuple[str, int, int],
    geometry: tuple[Any, Any, float],
    colour: tuple[int, int, int],
    make: MessageFactory,
) -> Any:
    """A marker from (stamp, frame), (namespace, id, action), (centre, size, yaw) and red, green, blue."""
    center_m, size_m, yaw_rad = geometry
    x, y, z = (float(value) for value in center_m)
    length, width, height = (float(value) for value in size_m)
    red, green, blue = (channel / 255 for channel in colour)
    turned = make(
        "geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=float(np.sin(yaw_rad / 2)), w=float(np.cos(yaw_rad / 2))
    )
    pose = make("geometry_msgs/msg/Pose", position=make("geometry_msgs/msg/Point", x=x, y=y, z=z), orientation=turned)
    namespace, number, action = identity
    return make(
        "visualization_msgs/msg/Marker",
        header=header(*head, make),
        ns=namespace,
        id=number,
        type=_CUBE,
        action=action,
        pose=pose,
        scale=make("geometry_msgs/msg/Vector3", x=length, y=width, z=height),
        color=make("std_msgs/msg/ColorRGBA", r=red, g=green, b=blue, a=_OPACITY),
        lifetime=make("builtin_interfaces/msg/Duration", sec=0, nanosec=0),
        frame_locked=False,
        points=[],
        colors=[],
        texture_resource="",
        texture=make("sensor_msgs/msg/CompressedImage", header=header(0, "", make), format="", data=make.bytes(b"")),
        uv_coordinates=[],
        text="",
        mesh_resource="",
        mesh_file=make("visualization_msgs/msg/MeshFile", filename="", data=make.bytes(b"")),
        mesh_use_embedded_materials=False,
    )
