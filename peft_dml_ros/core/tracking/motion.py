# SPDX-License-Identifier: Apache-2.0
"""Motion of many objects at once: extended Kalman filter with constant speed and turn rate.

A state is (x, y, vx, vy, turn rate) in `base_link`: m, m/s, rad/s over the ground. Classes that do not turn keep a turn
rate of zero, which makes their model that of constant velocity.
"""

from typing import Final, NamedTuple

import numba
import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.typing import FloatArray


class MotionGroup(NamedTuple):
    """Classes that are taken for one another, and how they move."""

    classes: tuple[str, ...]  #: Their names
    acceleration: float  #: Standard deviation of what the model leaves out, m/s²
    turn: float  #: The same of the turn rate's change, rad/s²
    speed_mps: float  #: Standard deviation of an unknown velocity
    gate_m: float  #: Farthest that a detection may be from a prediction


GROUPS: Final = (
    MotionGroup(("car", "truck", "bus", "trailer", "construction_vehicle"), 2.0, 0.6, 6.0, 4.0),
    MotionGroup(("motorcycle", "bicycle"), 2.0, 0.4, 4.0, 2.5),
    MotionGroup(("pedestrian",), 1.2, 0.0, 1.5, 1.5),
    MotionGroup(("traffic_cone",), 0.02, 0.0, 0.05, 0.8),
    MotionGroup(("barrier",), 0.02, 0.0, 0.05, 1.2),
)
DAMPING_S: Final = 2.0  #: A turn rate is forgotten in this time: nobody turns for ever, and few know when it ends


def predict(
    states: FloatArray, covariances: FloatArray, groups: FloatArray, dt_s: float
) -> tuple[FloatArray, FloatArray]:
    """Return states and covariances, moved on by a time.

    Args:
        states: (N, 5).
        covariances: (N, 5, 5).
        groups: (N, 2) accelerations and turn noise, columns 1 and 2 of `GROUPS`.
        dt_s: Seconds, not negative.
    """
    x, y, vx, vy, rate = states.T
    angle = rate * dt_s
    sin, cos = np.sin(angle), np.cos(angle)
    turning = np.abs(rate) > 1e-4
    safe = np.where(turning, rate, 1.0)
    a = np.where(turning, sin / safe, dt_s)
    b = np.where(turning, (1.0 - cos) / safe, 0.5 * angle * dt_s)
    keep = np.exp(-dt_s / DAMPING_S)
    after_vx, after_vy = cos * vx - sin * vy, sin * vx + cos * vy
    after = np.stack([x + a * vx - b * vy, y + b * vx + a * vy, after_vx, after_vy, rate * keep], axis=1)
    f = np.zeros((len(states), 5, 5))
    f[:, 0, 0] = f[:, 1, 1] = 1.0
    f[:, 0, 2], f[:, 0, 3], f[:, 1, 2], f[:, 1, 3] = a, -b, b, a
    f[:, 2, 2], f[:, 2, 3], f[:, 3, 2], f[:, 3, 3] = cos, -sin, sin, cos
    f[:, 0, 4], f[:, 1, 4] = -0.5 * dt_s**2 * after_vy, 0.5 * dt_s**2 * after_vx
    f[:, 2, 4], f[:, 3, 4], f[:, 4, 4] = -dt_s * after_vy, dt_s * after_vx, keep
    q = np.zeros_like(f)
    power = groups[:, 0] ** 2
    for axis in (0, 1):
        q[:, axis, axis] = power * dt_s**4 / 4
        q[:, axis, axis + 2] = q[:, axis + 2, axis] = power * dt_s**3 / 2
        q[:, axis + 2, axis + 2] = power * dt_s**2
    q[:, 4, 4] = (groups[:, 1] * dt_s) ** 2
    return after, f @ covariances @ f.transpose(0, 2, 1) + q


@numba.njit(cache=True, nogil=True)
def update(
    states: FloatArray, covariances: FloatArray, measured: FloatArray, variances: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Correct objects by measurements of position and velocity, one value after the other, as their errors are apart.

    Args:
        states: (N, 5).
        covariances: (N, 5, 5).
        measured: (N, 4) x, y, vx, vy.
        variances: (N, 4) of each.
    """
    after, left = states.copy(), covariances.copy()
    gain, row = np.empty(5), np.empty(5)
    for n in range(len(after)):
        for k in range(4):
            spread = left[n, k, k] + variances[n, k]
            off = measured[n, k] - after[n, k]
            for i in range(5):
                row[i] = left[n, k, i]
                gain[i] = left[n, i, k] / spread
            for i in range(5):
                after[n, i] += gain[i] * off
                for j in range(5):
                    left[n, i, j] -= gain[i] * row[j]
    return after, left


def carried(states: FloatArray, covariances: FloatArray, now_SE3_then: SE3) -> tuple[FloatArray, FloatArray]:
    """Give states of an earlier `base_link` in the present one; velocities stay those over the ground."""
    turn = np.eye(5)
    turn[:2, :2] = turn[2:4, 2:4] = now_SE3_then.rotation[:2, :2]
    after = states @ turn.T
    after[:, :2] += now_SE3_then.translation[:2]
    return after, turn @ covariances @ turn.T
