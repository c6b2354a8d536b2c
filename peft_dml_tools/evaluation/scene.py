# SPDX-License-Identifier: Apache-2.0
"""What was around the vehicle at the time of a frame: points in `base_link`, and the way from there into each image."""

from typing import Final

import numpy as np

from peft_dml_ros.core.camera_view import decoded
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import CameraImage, LidarSweep, RadarSweep
from peft_dml_ros.core.rig import Sensor
from peft_dml_ros.core.typing import AnyArray, Float32Array, UInt8Array
from peft_dml_tools.evaluation.alignment import Alignment
from peft_dml_tools.evaluation.recording import Recording

FRESH_NS: Final = 120_000_000  #: A measurement belongs to a frame when it is at most this much older or younger
LARGEST_PX: Final = 1600  #: Wider pictures are shrunk while they are decoded
SELF_M: Final = 2.0  #: Returns nearer than this are the vehicle itself


def lidar_points_m(recording: Recording, alignment: Alignment, stamp_ns: int) -> Float32Array:
    """Return (N, 3) float32 x, y, z in m of the sweeps nearest to a time, in `base_link` at that time."""
    parts = [np.zeros((0, 3), np.float32)]
    for sensor in recording.rig.of("lidar"):
        sweep = recording.nearest(sensor.name, stamp_ns, FRESH_NS)
        if isinstance(sweep, LidarSweep):
            points = sensor.base_SE3_sensor.transform(sweep.points[:, :3])
            parts.append(alignment.now_SE3_then(stamp_ns, sweep.stamp_ns).transform(points))
    points = np.concatenate(parts)
    far: Float32Array = points[np.isfinite(points).all(axis=1) & (np.hypot(points[:, 0], points[:, 1]) > SELF_M)]
    return far


def radar_points(recording: Recording, alignment: Alignment, stamp_ns: int) -> Float32Array:
    """Return (N, 4) float32 x, y in m and compensated vx, vy in m/s, in `base_link` at a time."""
    parts = [np.zeros((0, 4), np.float32)]
    for sensor in recording.rig.of("radar"):
        sweep = recording.nearest(sensor.name, stamp_ns, FRESH_NS)
        if isinstance(sweep, RadarSweep):
            parts.append(_radar_rows(sweep.points, sensor, alignment, stamp_ns, sweep.stamp_ns))
    points = np.concatenate(parts)
    finite: Float32Array = points[np.isfinite(points).all(axis=1)]
    return finite


def _radar_rows(raw: AnyArray, sensor: Sensor, alignment: Alignment, now_ns: int, then_ns: int) -> Float32Array:
    now_SE3_sensor = alignment.now_SE3_then(now_ns, then_ns) @ sensor.base_SE3_sensor
    position = now_SE3_sensor.transform(np.stack([raw["x"], raw["y"], raw["z"]], axis=1))
    velocity = now_SE3_sensor.rotate(np.stack([raw["vx_comp"], raw["vy_comp"], np.zeros_like(raw["x"])], axis=1))
    rows: Float32Array = np.concatenate([position[:, :2], velocity[:, :2]], axis=1).astype(np.float32)
    return rows


def decode_rgb(image: CameraImage, sensor: Sensor) -> UInt8Array | None:
    """Return (H, W, 3) RGB pixels, undistorted where the camera has a lens; None when the bytes are no image."""
    try:
        return decoded(image, LARGEST_PX, sensor.camera)
    except DataError:
        return None
