# SPDX-License-Identifier: Apache-2.0
"""Messages to measurements. Takes the messages of rclpy and of rosbags alike; malformed ones raise `DataError`."""

from typing import Any, Final

import numpy as np

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import GnssFix, ImuSample, OdometrySample
from peft_dml_ros.core.typing import FloatArray

NS_PER_S: Final = 1_000_000_000
UNKNOWN_SIGMA_M: Final = 10.0  #: Standard deviation assumed for a fix that states no covariance
_MOST_ACCEL_MPS2: Final = 1e3
_MOST_GYRO_RADPS: Final = 1e2
_MOST_ALTITUDE_M: Final = 1e5
#: Beyond these no sensor measures: bytes were damaged on the way, and finite as they are, they overflow a network
_MOST_DISTANCE_M: Final = 1e8


def stamp_ns_from_msg(msg: Any) -> int:
    """Return `header.stamp` in nanoseconds."""
    return int(msg.header.stamp.sec) * NS_PER_S + int(msg.header.stamp.nanosec)


def imu_from_msg(msg: Any) -> ImuSample:
    """Convert a sensor_msgs/Imu to a sample in the axes of the message's frame; the caller turns it to `base_link`.

    Raises DataError: acceleration or rate is declared absent, is not finite, or beyond what any vehicle bears.
    """
    for name in ("linear_acceleration", "angular_velocity"):
        if getattr(msg, f"{name}_covariance")[0] == -1:
            text = f"Imu in frame '{msg.header.frame_id}' has no {name} (covariance[0] is -1)"
            raise DataError(f"{text}; fix: leave it out of 'sensors'")
    accel, gyro = _vector(msg, msg.linear_acceleration), _vector(msg, msg.angular_velocity)
    if np.abs(accel).max() > _MOST_ACCEL_MPS2 or np.abs(gyro).max() > _MOST_GYRO_RADPS:
        text = f"Imu in frame '{msg.header.frame_id}' measures {accel.tolist()} m/s2 and {gyro.tolist()} rad/s"
        raise DataError(f"{text}; fix: check its driver's units")
    return ImuSample(stamp_ns_from_msg(msg), accel, gyro)


def gnss_from_msg(msg: Any) -> GnssFix:
    """Convert a NavSatFix to a fix; an unknown altitude (NaN) becomes 0, an unknown covariance `UNKNOWN_SIGMA_M`.

    Raises DataError: it claims a fix without a finite, possible position.
    """
    has_fix = int(msg.status.status) >= 0
    latitude, longitude, altitude = (float(v) for v in (msg.latitude, msg.longitude, msg.altitude))
    if has_fix and not (abs(latitude) <= 90 and abs(longitude) <= 180):
        text = f"NavSatFix claims a fix at latitude {latitude}, longitude {longitude}"
        raise DataError(f"{text}; fix: check its driver's units")
    if not np.isfinite([latitude, longitude]).all():
        latitude = longitude = 0.0
    variance = (float(msg.position_covariance[0]) + float(msg.position_covariance[4])) / 2
    known = int(msg.position_covariance_type) > 0 and 0 <= variance <= _MOST_ALTITUDE_M**2
    return GnssFix(
        stamp_ns_from_msg(msg),
        latitude,
        longitude,
        altitude if abs(altitude) <= _MOST_ALTITUDE_M else 0.0,
        float(np.sqrt(variance)) if known else UNKNOWN_SIGMA_M,
        has_fix,
    )


def odometry_from_msg(msg: Any) -> OdometrySample:
    """Convert a nav_msgs/Odometry to the pose of `child_frame_id` in `header.frame_id`.

    Raises DataError: the pose is not finite or not on Earth, or its quaternion is no rotation.
    """
    pose = se3_from_msg(msg, msg.pose.pose.position, msg.pose.pose.orientation)
    if np.abs(pose.translation).max() > _MOST_DISTANCE_M:
        text = f"Odometry in frame '{msg.header.frame_id}' is at {pose.translation.tolist()} m"
        raise DataError(f"{text}; fix: start it again at the origin")
    return OdometrySample(stamp_ns_from_msg(msg), pose)


def transforms_from_msg(msg: Any) -> list[tuple[str, str, SE3]]:
    """Convert a tf2_msgs/TFMessage to (parent frame, child frame, `parent_SE3_child`) of each transform.

    Raises DataError: a transform is not finite or its quaternion is no rotation.
    """
    return [
        (
            t.header.frame_id.removeprefix("/"),
            t.child_frame_id.removeprefix("/"),
            se3_from_msg(t, t.transform.translation, t.transform.rotation),
        )
        for t in msg.transforms
    ]


def se3_from_msg(msg: Any, translation: Any, quaternion: Any) -> SE3:
    """Return the SE3 of a Point or Vector3 and a Quaternion. Raises DataError: one is not finite or has no length."""
    return SE3.from_quaternion_xyzw((quaternion.x, quaternion.y, quaternion.z, quaternion.w), _vector(msg, translation))


def _vector(msg: Any, vector: Any) -> FloatArray:
    values = np.array([vector.x, vector.y, vector.z], dtype=np.float64)
    if not np.isfinite(values).all():
        text = f"{type(msg).__name__.split('__')[-1]} in frame '{msg.header.frame_id}' holds {values.tolist()}"
        raise DataError(f"{text}; fix: check its driver")
    return values
