# SPDX-License-Identifier: Apache-2.0
"""Boxes: corners, containment and frames say the same thing."""

import numpy as np
import pytest

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3


def some_boxes(n=5, seed=0):
    rng = np.random.default_rng(seed)
    return Boxes3D.make(
        rng.uniform(-30, 30, (n, 3)),
        rng.uniform(0.5, 8, (n, 3)),
        rng.uniform(-3, 3, n),
        rng.integers(0, 10, n),
        velocities_mps=rng.normal(size=(n, 2)),
        ids=tuple(f"i{k}" for k in range(n)),
    )


def test_corners_lie_on_the_box_and_the_first_two_are_in_front():
    boxes = some_boxes()
    corners = boxes.corners_m()
    np.testing.assert_allclose(corners.mean(axis=1), boxes.centers_m, atol=1e-9)
    front = corners[:, [0, 1, 4, 5]].mean(axis=1) - boxes.centers_m
    heading = np.stack([np.cos(boxes.yaws_rad), np.sin(boxes.yaws_rad)], axis=1)
    np.testing.assert_allclose(front[:, :2], heading * boxes.sizes_m[:, :1] / 2, atol=1e-9)
    for i in range(len(boxes)):
        assert boxes[i : i + 1].contain(corners[i], 1e-6).all()
        assert not boxes[i : i + 1].contain(corners[i], -1e-6).any()


def test_transform_carries_points_inside_with_it():
    boxes = some_boxes()
    a_SE3_b = SE3.from_yaw(1.2, (5.0, -3.0, 0.4))
    inside = boxes.centers_m + 0.1
    np.testing.assert_array_equal(boxes.contain(inside), boxes.transform(a_SE3_b).contain(a_SE3_b.transform(inside)))
    speed = np.linalg.norm(boxes.velocities_mps, axis=1)
    np.testing.assert_allclose(np.linalg.norm(boxes.transform(a_SE3_b).velocities_mps, axis=1), speed)


def test_selection_keeps_ids_with_their_boxes():
    boxes = some_boxes()
    picked = boxes[np.array([3, 1])]
    assert picked.ids == ("i3", "i1")
    np.testing.assert_array_equal(picked.centers_m, boxes.centers_m[[3, 1]])
    assert len(boxes[boxes.labels < 0]) == 0


def test_columns_of_different_length_are_refused():
    with pytest.raises(DataError, match="labels"):
        Boxes3D.make(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(2), np.zeros(3, dtype=np.int64))
