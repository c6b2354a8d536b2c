# SPDX-License-Identifier: Apache-2.0
"""Ego motion for sweep compensation, and the relative motion windows that the IMU and GNSS encoders see."""

import math
from collections.abc import Sequence

import numpy as np

from peft_dml_ros.core.geometry import SE3, rotation_from_rotvec, rotvec_from_rotation
from peft_dml_ros.core.measurements import GnssFix, ImuSample
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import GnssSpec, ImuSpec
from peft_dml_ros.core.typing import Float32Array, FloatArray

EARTH_RADIUS_M = 6378137.0
GRAVITY_MPS2 = 9.81
#: Odometry this far before or after the wanted time is still extrapolated at constant velocity
MAX_EXTRAPOLATION_NS = 150_000_000
#: Between poses further apart nothing is interpolated: odometry was away, and the vehicle may have turned meanwhile
MAX_GAP_NS = 300_000_000


class EgoMotion:
    """Where the vehicle was, seen from where it is: odometry first, else IMU with GNSS speed, else unknown."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._stamp_ns = snapshot.stamp_ns
        self._odometry = sorted(snapshot.odometry, key=lambda o: o.stamp_ns)
        self._stamps_ns = np.array([o.stamp_ns for o in self._odometry], dtype=np.int64)
        self._imu, self._gnss = snapshot.imu, snapshot.gnss
        self._now = self._pose_at(snapshot.stamp_ns)

    def now_SE3_then(self, then_ns: int) -> SE3 | None:
        """Transform from `base_link` at a past time to `base_link` at the reference time; `None` when unknown."""
        if then_ns == self._stamp_ns:
            return SE3.identity()
        if self._now is None:
            return self._dead_reckoned(then_ns)
        # Two ways of knowing in one frame would shift its sweeps against each other.
        then = self._pose_at(then_ns)
        return None if then is None else self._now.inverse() @ then

    def _pose_at(self, stamp_ns: int) -> SE3 | None:
        """Return odom_SE3_base at a time, interpolated; None when the odometry does not reach it."""
        poses = self._odometry
        if not poses:
            return None
        stamps = self._stamps_ns
        after = int(np.searchsorted(stamps, stamp_ns))
        if after < len(poses) and stamps[after] == stamp_ns:
            return poses[after].odom_SE3_base
        low = min(max(after - 1, 0), max(len(poses) - 2, 0))
        gap_ns = max(int(stamps[0]) - stamp_ns, stamp_ns - int(stamps[-1]), 0)
        if gap_ns > MAX_EXTRAPOLATION_NS:
            return None
        if len(poses) == 1:
            return poses[0].odom_SE3_base if gap_ns == 0 else None
        first, second = poses[low], poses[low + 1]
        if second.stamp_ns - first.stamp_ns > MAX_GAP_NS:
            return None
        fraction = (stamp_ns - first.stamp_ns) / (second.stamp_ns - first.stamp_ns)
        return interpolate(first.odom_SE3_base, second.odom_SE3_base, fraction)

    def _dead_reckoned(self, then_ns: int) -> SE3 | None:
        """Return the motion by yaw rate from the IMU and ground speed from GNSS, held constant over the gap."""
        fixes = [f for f in self._gnss if f.has_fix]
        if not self._imu or len(fixes) < 2:
            return None
        first, last = fixes[0], fixes[-1]
        elapsed_s = (last.stamp_ns - first.stamp_ns) * 1e-9
        if elapsed_s <= 0:
            return None
        speed_mps = float(np.linalg.norm(enu_offset_m(last, first)[:2])) / elapsed_s
        yaw_rate = float(np.mean([s.gyro_radps[2] for s in self._imu]))
        back_s = (then_ns - self._stamp_ns) * 1e-9
        yaw = yaw_rate * back_s
        middle = yaw / 2
        along = speed_mps * back_s
        return SE3.from_yaw(yaw, (along * np.cos(middle), along * np.sin(middle), 0.0))


def interpolate(first: SE3, second: SE3, fraction: float) -> SE3:
    """Return the pose between (or a little beyond) two poses: linear in position, constant rate in rotation."""
    rotvec = rotvec_from_rotation(first.rotation.T @ second.rotation) * fraction
    translation = first.translation + fraction * (second.translation - first.translation)
    return SE3(first.rotation @ rotation_from_rotvec(rotvec), translation)


def enu_offset_m(fix: GnssFix, origin: GnssFix) -> FloatArray:
    """Return (3,) east, north, up of one fix from another, in m; flat-earth, good to a millimetre over the window."""
    north = np.deg2rad(fix.latitude_deg - origin.latitude_deg) * EARTH_RADIUS_M
    around = math.remainder(fix.longitude_deg - origin.longitude_deg, 360.0)  # the short way, over 180 degrees as well
    east = np.deg2rad(around) * EARTH_RADIUS_M * np.cos(np.deg2rad(origin.latitude_deg))
    return np.array([east, north, fix.altitude_m - origin.altitude_m])


def imu_window(samples: Sequence[ImuSample], stamp_ns: int, spec: ImuSpec) -> tuple[Float32Array, float]:
    """Return the inertial samples resampled to equal steps that end at a time.

    Returns:
        (steps, 7) float32 (`ImuSpec`; rows without a sample within two steps are zero), and the share of filled rows.
    """
    window = np.zeros((spec.steps, spec.features), dtype=np.float32)
    if not samples:
        return window, 0.0
    stamps = np.array([s.stamp_ns for s in samples])
    values = np.stack([np.concatenate([s.accel_mps2 / GRAVITY_MPS2, s.gyro_radps]) for s in samples])
    step_ns = spec.window_s * 1e9 / spec.steps
    wanted = stamp_ns - np.arange(spec.steps)[::-1] * step_ns
    order = np.clip(np.searchsorted(stamps, wanted), 0, len(stamps) - 1)
    before = np.clip(order - 1, 0, None)
    nearer = np.where(np.abs(stamps[before] - wanted) < np.abs(stamps[order] - wanted), before, order)
    valid = np.abs(stamps[nearer] - wanted) <= 2 * step_ns
    window[valid, :6] = values[nearer[valid]]
    window[valid, 6] = 1.0
    return window, float(valid.mean())


def gnss_window(fixes: Sequence[GnssFix], stamp_ns: int, spec: GnssSpec) -> tuple[Float32Array, float]:
    """Return the relative motion by the last fixes, in axes turned to the course over ground.

    Returns:
        (steps, 6) float32 (`GnssSpec`), newest last, and the share of filled rows.
    """
    window = np.zeros((spec.steps, spec.features), dtype=np.float32)
    oldest_ns = stamp_ns - int(spec.window_s * 1e9)
    valid = [f for f in fixes if f.has_fix and f.stamp_ns >= oldest_ns][-spec.steps :]
    if not valid:
        return window, 0.0
    offsets = np.stack([enu_offset_m(f, valid[-1]) for f in valid])
    course = -offsets[0, :2]
    angle = np.arctan2(course[1], course[0]) if np.linalg.norm(course) > 0.1 else 0.0
    cos, sin = np.cos(angle), np.sin(angle)
    rows = window[-len(valid) :]
    rows[:, 0] = [(stamp_ns - f.stamp_ns) * 1e-9 for f in valid]
    rows[:, 1] = (offsets[:, 0] * cos + offsets[:, 1] * sin) / 10.0
    rows[:, 2] = (-offsets[:, 0] * sin + offsets[:, 1] * cos) / 10.0
    rows[:, 3] = offsets[:, 2] / 10.0
    rows[:, 4] = [f.sigma_m / 10.0 for f in valid]
    rows[:, 5] = 1.0
    return window, len(valid) / spec.steps
