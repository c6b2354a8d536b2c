# SPDX-License-Identifier: Apache-2.0
"""Transforms: quaternion orders, inverses and chains agree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3, rotation_from_quaternion_wxyz, rotation_from_rotvec, wrap_angle
from peft_dml_ros.core.motion import interpolate

finite = st.floats(-10, 10, allow_nan=False)
quaternions = st.tuples(finite, finite, finite, finite).filter(lambda q: np.linalg.norm(q) > 0.1)
translations = st.tuples(finite, finite, finite)


@given(quaternions, translations)
def test_inverse_undoes(quaternion, translation):
    a_SE3_b = SE3.from_quaternion_wxyz(quaternion, translation)
    both = a_SE3_b @ a_SE3_b.inverse()
    np.testing.assert_allclose(both.rotation, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(both.translation, 0, atol=1e-10)


@given(quaternions)
def test_quaternion_round_trip_in_both_orders(quaternion):
    pose = SE3.from_quaternion_wxyz(quaternion, (0, 0, 0))
    x, y, z, w = pose.quaternion_xyzw
    np.testing.assert_allclose((w, x, y, z), pose.quaternion_wxyz)
    np.testing.assert_allclose(SE3.from_quaternion_xyzw((x, y, z, w), (0, 0, 0)).rotation, pose.rotation, atol=1e-9)
    assert w >= 0


@given(quaternions, translations)
def test_chain_equals_one_after_the_other(quaternion, translation):
    a_SE3_b = SE3.from_quaternion_wxyz(quaternion, translation)
    b_SE3_c = SE3.from_yaw(0.7, (1.0, -2.0, 0.5))
    points = np.array([[1.0, 2.0, 3.0], [-4.0, 0.0, 1.0]])
    np.testing.assert_allclose(
        (a_SE3_b @ b_SE3_c).transform(points), a_SE3_b.transform(b_SE3_c.transform(points)), atol=1e-9
    )


def test_yaw_turns_x_towards_y():
    np.testing.assert_allclose(SE3.from_yaw(np.pi / 2).transform(np.array([[1.0, 0, 0]])), [[0, 1, 0]], atol=1e-12)
    assert SE3.from_yaw(0.3).yaw_rad == pytest.approx(0.3)


@pytest.mark.parametrize("bad", [(0, 0, 0, 0), (np.nan, 0, 0, 1), (1, 0, 0)])
def test_no_rotation_in_it_is_refused(bad):
    with pytest.raises(DataError, match="quaternion"):
        rotation_from_quaternion_wxyz(bad)


@given(st.floats(-50, 50))
def test_wrapped_angles_keep_their_direction(angle):
    wrapped = float(wrap_angle(angle))
    assert -np.pi <= wrapped < np.pi
    assert np.cos(wrapped) == pytest.approx(np.cos(angle), abs=1e-9)


@given(st.floats(0, 1), st.floats(-3, 3))
def test_interpolated_rotation_is_at_constant_rate(fraction, yaw):
    middle = interpolate(SE3.identity(), SE3.from_yaw(yaw, (2.0, 0, 0)), fraction)
    assert middle.yaw_rad == pytest.approx(yaw * fraction, abs=1e-6)
    assert middle.translation[0] == pytest.approx(2.0 * fraction)


def test_rotation_vector_of_a_quarter_turn():
    turned = rotation_from_rotvec(np.array([0, 0, np.pi / 2]))
    np.testing.assert_allclose(turned, SE3.from_yaw(np.pi / 2).rotation, atol=1e-12)
