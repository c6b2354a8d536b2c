# SPDX-License-Identifier: Apache-2.0
"""Boxes as wireframes: in place, cut off behind the camera, in their colours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_dml_ros.core.box_wireframes import NEAR_M, _segments_px, draw_wireframes, pixels_from_boxes
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import SE3
from tests.support import scenes

RED, BLUE = (255, 0, 0), (0, 0, 255)


def boxes(*centres, size=(2.0, 2.0, 2.0)):
    n = len(centres)
    return Boxes3D.make(np.array(centres, float).reshape(n, 3), np.tile(size, (n, 1)), np.zeros(n), np.zeros(n, int))


def drawn(shown, colours, width_px=352):
    pixels = np.zeros((198, 352, 3), np.uint8)
    matrix = pixels_from_boxes(scenes.rig()["CAM_FRONT"], SE3.identity(), width_px)
    draw_wireframes(pixels, shown, matrix, colours)
    return pixels


def test_each_box_has_its_colour_and_place():
    pixels = drawn(boxes((12, 4, 1.5), (12, -4, 1.5)), [RED, BLUE])
    left, right = pixels[:, :176], pixels[:, 176:]
    assert left[..., 0].any()
    assert not left[..., 2].any()
    assert right[..., 2].any()
    assert not right[..., 0].any()


def test_what_is_behind_is_not_drawn_and_what_reaches_behind_is_cut():
    assert not drawn(boxes((-12, 0, 1.5)), [RED]).any()
    assert drawn(boxes((1.7, 0, 0.6), size=(4.0, 1.5, 1.0)), [RED]).any()
    assert not drawn(boxes(), []).any()


def test_no_calibration_gives_no_matrix():
    assert pixels_from_boxes(scenes.rig()["LIDAR_TOP"], SE3.identity(), 100) is None


@given(st.lists(st.floats(-50, 50), min_size=6, max_size=6))
def test_ends_lie_on_the_projected_line_in_front_of_the_camera(values):
    ends = np.array(values).reshape(1, 2, 3)
    segments, shown = _segments_px(ends)
    assert shown[0] == (ends[0, :, 2].max() >= NEAR_M)
    if shown[0]:
        whole = ends[0, 0] + np.linspace(0, 1, 20001)[:, None] * (ends[0, 1] - ends[0, 0])
        ahead = whole[whole[:, 2] >= NEAR_M]
        if len(ahead) > 1 and np.abs(segments).max() < 1e4:
            line = ahead[:, :2] / ahead[:, 2:]
            for end in segments[0]:
                assert np.hypot(*(line - end).T).min() == pytest.approx(
                    0, abs=1.0 + np.abs(np.diff(line, axis=0)).max()
                )
