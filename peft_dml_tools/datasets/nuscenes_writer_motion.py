# SPDX-License-Identifier: Apache-2.0
"""CAN bus messages of a scene: inertial samples, fixes, poses, speed and yaw rate."""

from typing import Any

import numpy as np

from peft_dml_ros.core.measurements import GnssFix, ImuSample, Measurement
from peft_dml_tools.datasets.nuscenes_tables import NS_PER_US
from peft_dml_tools.datasets.nuscenes_writer_recording import SceneWork


def note_motion(work: SceneWork, measurement: Measurement) -> None:
    """Record the CAN bus rows of an inertial sample, a fix or a pose."""
    utime = measurement.stamp_ns // NS_PER_US
    pose = work.recording.global_SE3_base(measurement.stamp_ns)
    if isinstance(measurement, ImuSample):
        work.can["ms_imu"].append(
            {
                "linear_accel": measurement.accel_mps2.tolist(),
                "q": pose.quaternion_wxyz.tolist(),
                "rotation_rate": measurement.gyro_radps.tolist(),
                "utime": utime,
            }
        )
    elif isinstance(measurement, GnssFix):
        work.can["gnss"].append(
            {
                "utime": utime,
                "latitude_deg": measurement.latitude_deg,
                "longitude_deg": measurement.longitude_deg,
                "altitude_m": measurement.altitude_m,
                "sigma_m": measurement.sigma_m,
                "has_fix": measurement.has_fix,
            }
        )
    else:
        inertial = work.can["ms_imu"][-1] if work.can["ms_imu"] else {}
        work.can["pose"].append(
            {
                "accel": inertial.get("linear_accel", [0.0, 0.0, 0.0]),
                "orientation": pose.quaternion_wxyz.tolist(),
                "pos": pose.translation.tolist(),
                "rotation_rate": inertial.get("rotation_rate", [0.0, 0.0, 0.0]),
                "utime": utime,
                "vel": [_speed_mps(work, measurement.stamp_ns), 0.0, 0.0],
            }
        )


def _speed_mps(work: SceneWork, stamp_ns: int, step_ns: int = 50_000_000) -> float:
    """Return the forward speed by the pose a little later."""
    now, later = (work.recording.global_SE3_base(stamp_ns + d) for d in (0, step_ns))
    return float((now.inverse() @ later).translation[0] / (step_ns * 1e-9))


def vehicle_monitor(work: SceneWork) -> list[dict[str, Any]]:
    """Return two rows a second: speed in km/h, yaw rate in degrees/s."""
    rows = []
    for key in work.recording.keyframes_ns:
        now, later = (work.recording.global_SE3_base(key + d) for d in (0, 50_000_000))
        turn = float(np.rad2deg((now.inverse() @ later).yaw_rad) / 0.05)
        rows.append({"utime": key // NS_PER_US, "vehicle_speed": 3.6 * _speed_mps(work, key), "yaw_rate": turn})
    return rows
