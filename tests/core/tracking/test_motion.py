# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.tracking.motion import GROUPS, carried, predict, update

QUIET = np.zeros((1, 2))


def test_every_class_is_in_one_group():
    assert sorted(name for group in GROUPS for name in group.classes) == sorted(CLASSES)


@pytest.mark.parametrize("rate", [0.0, 0.3, -0.6])
def test_a_turn_follows_its_circle(rate):
    state = np.array([[1.0, 2.0, 8.0, 1.0, rate]])
    after, _ = predict(state, np.zeros((1, 5, 5)), QUIET, 0.2)
    # The same path in a thousand straight pieces.
    x, y, vx, vy = 1.0, 2.0, 8.0, 1.0
    for _ in range(1000):
        x, y = x + vx * 0.0002, y + vy * 0.0002
        vx, vy = vx - rate * vy * 0.0002, vy + rate * vx * 0.0002
    np.testing.assert_allclose(after[0, :4], [x, y, vx, vy], atol=2e-3)


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_covariances_follow_the_model_near_the_state(rate):
    state, small = np.array([3.0, -2.0, 6.0, 2.0, rate]), 1e-5
    jacobian = np.empty((5, 5))
    base, _ = predict(state[None], np.zeros((1, 5, 5)), QUIET, 0.1)
    for i in range(5):
        moved = state.copy()
        moved[i] += small
        jacobian[:, i] = (predict(moved[None], np.zeros((1, 5, 5)), QUIET, 0.1)[0][0] - base[0]) / small
    covariance = np.diag([0.2, 0.3, 1.0, 1.5, 0.05])
    _, after = predict(state[None], covariance[None], QUIET, 0.1)
    np.testing.assert_allclose(after[0], jacobian @ covariance @ jacobian.T, atol=2e-3)


def test_uncertainty_grows_without_and_shrinks_with_measurements():
    state, covariance = np.array([[0.0, 0.0, 5.0, 0.0, 0.0]]), np.diag([0.1, 0.1, 1.0, 1.0, 0.01])[None]
    grown = [covariance[0, 0, 0]]
    for _ in range(10):
        state, covariance = predict(state, covariance, np.array([[2.0, 0.2]]), 0.1)
        grown.append(covariance[0, 0, 0])
    assert np.all(np.diff(grown) > 0)
    measured = np.array([[5.1, 0.1, 5.2, 0.0]])
    after, left = update(state, covariance, measured, np.array([[0.1, 0.1, 1.0, 1.0]]))
    assert left[0, 0, 0] < covariance[0, 0, 0]
    assert abs(after[0, 0] - 5.1) < abs(state[0, 0] - 5.1)
    np.testing.assert_allclose(left, left.transpose(0, 2, 1))
    assert np.linalg.eigvalsh(left[0]).min() > 0


def test_what_stands_still_stays_where_it_is_while_the_vehicle_drives_and_turns():
    base_SE3_then = SE3.from_yaw(0.2, (-1.0, 0.1, 0.0))
    state = np.array([[10.0, 3.0, 2.0, 1.0, 0.1]])
    covariance = np.diag([4.0, 1.0, 0.5, 0.1, 0.01])[None]
    after, turned = carried(state, covariance, base_SE3_then)
    np.testing.assert_allclose(after[0, :2], base_SE3_then.transform(np.array([[10.0, 3.0, 0.0]]))[0, :2])
    assert np.hypot(*after[0, 2:4]) == pytest.approx(np.hypot(2.0, 1.0))
    np.testing.assert_allclose(np.linalg.eigvalsh(turned[0]), np.linalg.eigvalsh(covariance[0]))
