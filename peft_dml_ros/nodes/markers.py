# SPDX-License-Identifier: Apache-2.0
"""Boxes as RViz and Foxglove draw them: a cube in the colour of its class, an arrow to where it will be in a second."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, hypot, isfinite, sin

from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASS_COLOURS

MOVING_MPS = 0.5
"""Slower boxes get no arrow."""


def boxes_to_markers(boxes: Boxes3D, header: Header, classes: Sequence[str]) -> MarkerArray:
    """Markers of one frame; the first one clears those of the frame before.

    Args:
        boxes: In the header's frame.
        header: That of the detections.
        classes: Names that `boxes.labels` points to.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for i in range(len(boxes)):
        red, green, blue = CLASS_COLOURS.get(classes[int(boxes.labels[i])], (200, 200, 200))
        colour = ColorRGBA(r=red / 255, g=green / 255, b=blue / 255, a=0.3 + 0.6 * float(boxes.scores[i]))
        markers.append(_cube(boxes, i, header, colour))
        vx, vy = (float(v) for v in boxes.velocities_mps[i])
        if isfinite(vx + vy) and hypot(vx, vy) > MOVING_MPS:
            markers.append(_arrow(boxes, i, header, colour))
    return MarkerArray(markers=markers)


def _cube(boxes: Boxes3D, i: int, header: Header, colour: ColorRGBA) -> Marker:
    x, y, z = (float(v) for v in boxes.centers_m[i])
    length, width, height = (float(v) for v in boxes.sizes_m[i])
    half = float(boxes.yaws_rad[i]) / 2
    return Marker(
        header=header,
        ns="boxes",
        id=i,
        type=Marker.CUBE,
        pose=Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(z=sin(half), w=cos(half))),
        scale=Vector3(x=length, y=width, z=height),
        color=colour,
    )


def _arrow(boxes: Boxes3D, i: int, header: Header, colour: ColorRGBA) -> Marker:
    x, y, z = (float(v) for v in boxes.centers_m[i])
    vx, vy = (float(v) for v in boxes.velocities_mps[i])
    return Marker(
        header=header,
        ns="velocities",
        id=i,
        type=Marker.ARROW,
        points=[Point(x=x, y=y, z=z), Point(x=x + vx, y=y + vy, z=z)],
        # Of an arrow between two points: diameter of the shaft, of the head, length of the head.
        scale=Vector3(x=0.15, y=0.4, z=0.5),
        color=colour,
    )
