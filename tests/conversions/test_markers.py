# SPDX-License-Identifier: Apache-2.0
"""Markers written straight as bytes are the message that rclpy packs, whatever the lengths of its strings."""

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from visualization_msgs.msg import MarkerArray

from peft_dml_ros.conversions.markers import markers_to_cdr, trails_to_cdr
from peft_dml_ros.core.classes import CLASSES
from tests.support.random_boxes import random_boxes

STAMP_NS = 1_735_700_000_123_456_789


def made(count):
    return random_boxes(count, tuple(str(10**i) for i in range(count)))


def read(cdr):
    """The message, which rclpy packs to as many bytes: a layout that is off reads as something else."""
    message = deserialize_message(cdr, MarkerArray)
    assert len(serialize_message(message)) == len(cdr)
    assert deserialize_message(serialize_message(message), MarkerArray) == message
    return message.markers


def numbers(*parts):
    return [getattr(part, name) for part in parts for name in ("x", "y", "z", "w") if hasattr(part, name)]


@pytest.mark.parametrize("count", [0, 1, 9])
@pytest.mark.parametrize("frame", ["m", "map", "odom", "base_link", "vehicle7/base_link"])
def test_boxes_are_cubes_and_arrows(count, frame):
    boxes = made(count)
    clear, *rest = read(markers_to_cdr(boxes, STAMP_NS, frame))
    assert (clear.action, clear.header.frame_id) == (3, frame)
    cubes = [m for m in rest if m.ns != "velocity"]
    arrows = {m.id: m for m in rest if m.ns == "velocity"}
    assert set(arrows) == set(np.flatnonzero(np.hypot(*boxes.velocities_mps.T) > 0.5))
    assert len(cubes) == count
    for i, cube in enumerate(cubes):
        assert (cube.ns, cube.id, cube.type, cube.action) == (CLASSES[boxes.labels[i]], i, 1, 0)
        assert cube.header.stamp.sec * 10**9 + cube.header.stamp.nanosec == STAMP_NS
        turn = [0, 0, np.sin(boxes.yaws_rad[i] / 2), np.cos(boxes.yaws_rad[i] / 2)]
        assert numbers(cube.pose.position, cube.pose.orientation) == pytest.approx([*boxes.centers_m[i], *turn])
        assert numbers(cube.scale) == pytest.approx(boxes.sizes_m[i])
        assert cube.color.a == pytest.approx(0.25 + 0.5 * boxes.scores[i])
        if i in arrows:
            start, end = arrows[i].points
            assert numbers(start) == pytest.approx(boxes.centers_m[i])
            assert (end.x - start.x, end.y - start.y) == pytest.approx(tuple(boxes.velocities_mps[i]))


@pytest.mark.parametrize("frame", ["m", "base_link"])
def test_tracks_are_boxes_ids_and_trails(frame):
    tracks = made(5)
    trails = {name: np.arange(3.0 * n).reshape(n, 3) for n, name in enumerate(tracks.ids)}
    _, *rest = read(trails_to_cdr(tracks, trails, STAMP_NS, frame))
    found = {(m.ns, m.id): m for m in rest}
    assert [m.ns for m in rest].count("trail") == 3
    for i, name in enumerate(tracks.ids):
        assert numbers(found["track", int(name)].pose.position) == pytest.approx(tracks.centers_m[i])
        text = found["id", int(name)]
        assert (text.type, text.text, text.scale.z) == (9, name, pytest.approx(0.8))
        assert text.pose.position.z == pytest.approx(tracks.centers_m[i, 2] + tracks.sizes_m[i, 2] / 2 + 0.6)
        assert found["track", int(name)].color.a == pytest.approx(0.3)
        if i > 1:
            assert [numbers(point) for point in found["trail", int(name)].points] == trails[name].tolist()
