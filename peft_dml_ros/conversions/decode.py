# SPDX-License-Identifier: Apache-2.0
"""Messages to measurements. Takes the messages of rclpy and of rosbags alike; malformed ones raise `DataError`."""

from typing import Any, Final

import cv2
import numpy as np

from peft_dml_ros.conversions.pointcloud import cloud_view, column
from peft_dml_ros.core.doppler import MOST_RETURNS, points_from_returns
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import (
    RADAR_DTYPE,
    CameraImage,
    GnssFix,
    ImuSample,
    LidarSweep,
    OdometrySample,
    RadarSweep,
)
from peft_dml_ros.core.rig import CameraModel
from peft_dml_ros.core.typing import Float32Array, FloatArray

NS_PER_S: Final = 1_000_000_000
UNKNOWN_SIGMA_M: Final = 10.0
"""Standard deviation assumed for a fix that states no covariance."""

_LIDAR_FIELDS: Final = ("x", "y", "z", "intensity", "ring", "channel")
_RADAR_NEEDED: Final = ("x", "y", "vx_comp", "vy_comp")
_RADAR_DEFAULTS: Final = {"is_quality_valid": 1, "ambig_state": 3}
_RADAR_FINITE: Final = ("x", "y", "z", "rcs", "vx", "vy", "vx_comp", "vy_comp")
_MOST_INTENSITY: Final = 65535.0
_MOST_RADAR: Final = 1e4
_MOST_ACCEL_MPS2: Final = 1e3
_MOST_GYRO_RADPS: Final = 1e2
_MOST_ALTITUDE_M: Final = 1e5
_MOST_DISTANCE_M: Final = 1e8
"""Beyond these no sensor measures: bytes were damaged on the way, and finite as they are, they overflow a network."""
_ONES: Final = np.ones(5, dtype=np.float32)
_SIGNATURES: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_TO_RGB: Final = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
}


def stamp_ns_from_msg(msg: Any) -> int:
    """Return `header.stamp` in nanoseconds."""
    return int(msg.header.stamp.sec) * NS_PER_S + int(msg.header.stamp.nanosec)


def lidar_from_msg(msg: Any) -> LidarSweep:
    """Convert a PointCloud2 to a sweep. Needs x, y, z; intensity and ring (or channel) are 0 when absent.

    Points that are not finite are dropped; `points_dropped` counts them.

    Raises:
        DataError: the cloud is malformed or lacks coordinates.
    """
    view = cloud_view(msg, _LIDAR_FIELDS)
    names = view.dtype.names or ()
    _need(msg, names, ("x", "y", "z"))
    points = np.zeros((view.size, 5), dtype=np.float32)
    ring = "ring" if "ring" in names else "channel"
    with np.errstate(over="ignore"):
        for index, name in enumerate(("x", "y", "z", "intensity", ring)):
            if name in names:
                points[:, index] = column(view, name)
    with np.errstate(over="ignore", invalid="ignore"):
        total = points @ _ONES
    if not np.isfinite(total).all():
        points = _without_broken(points)
    np.clip(points[:, 3], 0.0, _MOST_INTENSITY, out=points[:, 3])
    return LidarSweep(stamp_ns_from_msg(msg), points)


def radar_from_msg(msg: Any) -> RadarSweep:
    """Convert a PointCloud2 or RadarScan to a radar sweep; points that are not finite are dropped.

    A cloud needs x, y, vx_comp, vy_comp; other ARS408 fields get neutral values. `points_dropped` counts what is lost.

    Raises:
        DataError: the cloud is malformed or lacks needed fields, or the scan has too many returns.
    """
    if hasattr(msg, "returns"):
        return _radar_from_scan(msg)
    view = cloud_view(msg, RADAR_DTYPE.names or ())
    names = view.dtype.names or ()
    _need(msg, names, _RADAR_NEEDED)
    points = np.zeros(view.size, dtype=RADAR_DTYPE)
    with np.errstate(over="ignore", invalid="ignore"):
        for name in RADAR_DTYPE.names or ():
            source = {"vx": "vx_comp", "vy": "vy_comp"}.get(name, name) if name not in names else name
            points[name] = column(view, source) if source in names else _RADAR_DEFAULTS.get(name, 0)
    # What is not finite is not smaller either.
    finite = np.logical_and.reduce([np.abs(points[name]) < _MOST_RADAR for name in _RADAR_FINITE])
    return RadarSweep(stamp_ns_from_msg(msg), points if finite.all() else points[finite])


def _radar_from_scan(msg: Any) -> RadarSweep:
    if len(msg.returns) > MOST_RETURNS:
        count = len(msg.returns)
        text = f"RadarScan in frame '{msg.header.frame_id}' has {count} returns, at most {MOST_RETURNS} are taken"
        raise DataError(text)
    rows = [(r.range, r.azimuth, r.elevation, r.doppler_velocity, r.amplitude) for r in msg.returns]
    returns = np.array(rows, dtype=np.float64).reshape(-1, 5)
    finite = (np.abs(returns) < _MOST_RADAR).all(axis=1) & (returns[:, 0] >= 0)
    return RadarSweep(stamp_ns_from_msg(msg), points_from_returns(returns[finite]))


def points_dropped(msg: Any, sweep: LidarSweep | RadarSweep) -> int:
    """Return how many points of the cloud, or returns of the scan, were not finite and are not in the sweep."""
    if hasattr(msg, "returns"):
        return len(msg.returns) - len(sweep.points)
    return int(msg.height) * int(msg.width) - len(sweep.points)


def image_from_msg(msg: Any) -> CameraImage:
    """Convert a CompressedImage or Image to an image. Compressed bytes stay compressed.

    Raises:
        DataError: not JPEG or PNG, an unknown encoding, or sizes that contradict each other.
    """
    stamp_ns = stamp_ns_from_msg(msg)
    if not hasattr(msg, "encoding"):
        data = memoryview(msg.data).tobytes()
        if not data.startswith(_SIGNATURES):
            text = f"CompressedImage in frame '{msg.header.frame_id}' ({len(data)} bytes) is neither JPEG nor PNG"
            raise DataError(text)
        return CameraImage(stamp_ns, jpeg=data)
    if msg.encoding not in _TO_RGB:
        text = f"Image in frame '{msg.header.frame_id}' has encoding '{msg.encoding}'; known: {', '.join(_TO_RGB)}"
        raise DataError(text)
    channels, code = _TO_RGB[msg.encoding]
    height, width, step, size = int(msg.height), int(msg.width), int(msg.step), len(msg.data)
    if height <= 0 or width <= 0 or step < width * channels or height * step != size:
        text = (
            f"malformed Image in frame '{msg.header.frame_id}': {width} x {height} {msg.encoding} with step {step} "
            f"does not agree with {size} bytes"
        )
        raise DataError(text)
    rows = np.frombuffer(msg.data, dtype=np.uint8).reshape(height, step)
    pixels = rows[:, : width * channels].reshape(height, width, channels)
    if code is not None:
        pixels = cv2.cvtColor(np.ascontiguousarray(pixels), code)
    return CameraImage(stamp_ns, pixels=pixels)


def imu_from_msg(msg: Any) -> ImuSample:
    """Convert a sensor_msgs/Imu to a sample in the axes of the message's frame; the caller turns it to `base_link`.

    Raises:
        DataError: acceleration or rate is declared absent, is not finite, or beyond what any vehicle bears.
    """
    for name in ("linear_acceleration", "angular_velocity"):
        if getattr(msg, f"{name}_covariance")[0] == -1:
            text = f"Imu in frame '{msg.header.frame_id}' declares its {name} absent (covariance[0] is -1)"
            raise DataError(text)
    accel, gyro = _vector(msg, msg.linear_acceleration), _vector(msg, msg.angular_velocity)
    if np.abs(accel).max() > _MOST_ACCEL_MPS2 or np.abs(gyro).max() > _MOST_GYRO_RADPS:
        text = f"Imu in frame '{msg.header.frame_id}' measures {accel.tolist()} m/s2 and {gyro.tolist()} rad/s"
        raise DataError(text)
    return ImuSample(stamp_ns_from_msg(msg), accel, gyro)


def gnss_from_msg(msg: Any) -> GnssFix:
    """Convert a NavSatFix to a fix; an unknown altitude (NaN) becomes 0, an unknown covariance `UNKNOWN_SIGMA_M`.

    Raises:
        DataError: it claims a fix without a finite, possible position.
    """
    has_fix = int(msg.status.status) >= 0
    latitude, longitude, altitude = (float(v) for v in (msg.latitude, msg.longitude, msg.altitude))
    if has_fix and not (abs(latitude) <= 90 and abs(longitude) <= 180):
        text = f"NavSatFix claims a fix at latitude {latitude}, longitude {longitude}"
        raise DataError(text)
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

    Raises:
        DataError: the pose is not finite or not on Earth, or its quaternion is no rotation.
    """
    pose = se3_from_msg(msg, msg.pose.pose.position, msg.pose.pose.orientation)
    if np.abs(pose.translation).max() > _MOST_DISTANCE_M:
        text = f"Odometry in frame '{msg.header.frame_id}' is at {pose.translation.tolist()} m"
        raise DataError(text)
    return OdometrySample(stamp_ns_from_msg(msg), pose)


def camera_model_from_msg(msg: Any) -> CameraModel:
    """Convert a CameraInfo to the projection of the rectified image, with binning and region of interest applied.

    K is taken for images without distortion, else the left part of P, which belongs to the rectified image.

    Raises:
        DataError: the camera is uncalibrated (K[0] = 0), or the size is not positive.
    """
    distorted = any(value != 0 for value in msg.d)
    matrix = np.array(msg.p, dtype=np.float64).reshape(3, 4)[:, :3] if distorted else np.array(msg.k, dtype=np.float64)
    intrinsics = matrix.reshape(3, 3).copy()
    if not np.isfinite(intrinsics).all() or intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0:
        text = f"camera '{msg.header.frame_id}' is not calibrated: {'P' if distorted else 'K'} is {matrix.tolist()}"
        raise DataError(text)
    width, height = int(msg.roi.width) or int(msg.width), int(msg.roi.height) or int(msg.height)
    intrinsics[0, 2] -= int(msg.roi.x_offset)
    intrinsics[1, 2] -= int(msg.roi.y_offset)
    for row, binning in enumerate((max(int(msg.binning_x), 1), max(int(msg.binning_y), 1))):
        intrinsics[row] /= binning
    return CameraModel(intrinsics, width // max(int(msg.binning_x), 1), height // max(int(msg.binning_y), 1))


def transforms_from_msg(msg: Any) -> list[tuple[str, str, SE3]]:
    """Convert a tf2_msgs/TFMessage to (parent frame, child frame, `parent_SE3_child`) of each transform.

    Raises:
        DataError: a transform is not finite or its quaternion is no rotation.
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
    """Return the rigid transform of a Point or Vector3 and a Quaternion.

    Raises:
        DataError: it is not finite or the quaternion has no length.
    """
    return SE3.from_quaternion_xyzw((quaternion.x, quaternion.y, quaternion.z, quaternion.w), _vector(msg, translation))


def _vector(msg: Any, vector: Any) -> FloatArray:
    values = np.array([vector.x, vector.y, vector.z], dtype=np.float64)
    if not np.isfinite(values).all():
        text = f"{type(msg).__name__.split('__')[-1]} in frame '{msg.header.frame_id}' holds {values.tolist()}"
        raise DataError(text)
    return values


def _without_broken(points: Float32Array) -> Float32Array:
    """Return points with finite coordinates; intensity and ring that are not finite become 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        keep = np.isfinite(points[:, 0] + points[:, 1] + points[:, 2])
    kept = points.take(np.flatnonzero(keep), axis=0)
    for column_values in (kept[:, 3], kept[:, 4]):
        column_values[~np.isfinite(column_values)] = 0.0
    return kept


def _need(msg: Any, names: tuple[str, ...], needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in names]
    if missing and len(msg.data):
        there = ", ".join(field.name for field in msg.fields)
        text = f"PointCloud2 in frame '{msg.header.frame_id}' lacks the fields {', '.join(missing)}; it has: {there}"
        raise DataError(text)
