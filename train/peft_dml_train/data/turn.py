# SPDX-License-Identifier: Apache-2.0
"""The world turned, tilted, raised and scaled about the vehicle: points, speeds, motion, camera tables and boxes."""

from dataclasses import dataclass, replace

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import wrap_angle
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import AnyArray, Float32Array, FloatArray
from peft_dml_train.data.frame import CameraFrame, Frame
from peft_dml_train.data.points import lidar_points, radar_points, to_lidar, to_radar

IMU_ACCEL, IMU_GYRO = slice(0, 2), slice(3, 5)
GNSS_LENGTHS = slice(1, 5)


@dataclass(frozen=True, slots=True)
class WorldMotion:
    """How the world is moved under the vehicle.

    Attributes:
        yaw_rad: Turn about +z.
        pitch_rad: Tilt about +y, after the turn.
        roll_rad: Tilt about +x, after the turn.
        rise_m: Added to every height.
        scale: Factor on every length.
    """

    yaw_rad: float = 0.0
    pitch_rad: float = 0.0
    roll_rad: float = 0.0
    rise_m: float = 0.0
    scale: float = 1.0

    @property
    def plane(self) -> FloatArray:
        """(2, 2) rotation of the ground plane."""
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return np.array([[c, -s], [s, c]])

    def heights(self, xy: AnyArray) -> AnyArray:
        """Rise (N,) of moved points (N, 2): tilts are small, so that they move heights alone."""
        lifted: AnyArray = self.rise_m - np.tan(self.pitch_rad) * xy[:, 0] + np.tan(self.roll_rad) * xy[:, 1]
        return lifted


def turn(frame: Frame, pose: WorldMotion, spec: ModelSpec) -> Frame:
    """Return a frame as if base_link's axes were moved the other way, and its metres were 1 / scale long."""

    def turned(xy: AnyArray) -> AnyArray:
        return (xy @ pose.plane.T * pose.scale).astype(xy.dtype)

    pillars = {}
    if "lidar" in frame.pillars:
        points = lidar_points(frame.pillars["lidar"])
        points[:, :2] = turned(points[:, :2])
        points[:, 2] = points[:, 2] * pose.scale + pose.heights(points[:, :2])
        pillars["lidar"] = to_lidar(points, spec)
    if "radar" in frame.pillars:
        points = radar_points(frame.pillars["radar"])
        points[:, :2], points[:, 3:5] = turned(points[:, :2]), turned(points[:, 3:5])
        pillars["radar"] = to_radar(points, spec)
    windows = {m: _turn_window(m, w, pose) for m, w in frame.windows.items()}
    b = frame.boxes
    plane = turned(b.centers_m[:, :2])
    height = b.centers_m[:, 2] * pose.scale + pose.heights(plane)
    boxes = Boxes3D(
        np.concatenate([plane, height[:, None]], axis=1), b.sizes_m * pose.scale,
        wrap_angle(b.yaws_rad + pose.yaw_rad), turned(b.velocities_mps), b.labels, b.scores, b.attributes, b.sigmas,
        b.ids,
    )  # fmt: skip
    camera = None if frame.camera is None else _turn_camera(frame.camera, pose, spec)
    return replace(frame, pillars=pillars, windows=windows, camera=camera, boxes=boxes)


def _turn_window(modality: str, window: Float32Array, pose: WorldMotion) -> Float32Array:
    out = window.copy()
    if modality == "imu":
        out[:, IMU_ACCEL] = out[:, IMU_ACCEL] @ pose.plane.T * pose.scale
        out[:, IMU_GYRO] = out[:, IMU_GYRO] @ pose.plane.T
    else:
        # Along and across the course: turning changes nothing.
        out[:, GNSS_LENGTHS] *= pose.scale
    return out


def _turn_camera(camera: CameraFrame, pose: WorldMotion, spec: ModelSpec) -> CameraFrame:
    """Let each voxel look up what the voxel nearest to its place before the move looked up."""
    size, cell_m, half = spec.grid.size, spec.grid.cell_m, spec.grid.half_range_m
    rows, columns = spec.camera.feature_hw
    nothing = len(spec.camera.cameras) * rows * columns
    levels = np.array(spec.camera.voxel_heights_m)
    centre = (np.arange(size) + 0.5) * cell_m - half
    x, y = np.meshgrid(centre, centre)
    after = np.stack([x.ravel(), y.ravel()], axis=1)
    before = after @ pose.plane / pose.scale
    index = np.floor((before + half) / cell_m).astype(np.int64)
    inside = ((index >= 0) & (index < size)).all(axis=1)
    source = np.where(inside, index[:, 1] * size + index[:, 0], 0)
    height = (levels[:, None] - pose.heights(after)[None]) / pose.scale
    level = np.abs(height[..., None] - levels).argmin(axis=2)
    # A voxel that came from far below or above every level saw nothing that is kept.
    kept = inside & (np.abs(height - levels[level]) < 1.0)

    def moved(table: AnyArray, empty: int) -> AnyArray:
        found = table.reshape(-1, size * size)[level, source]
        return np.where(kept, found, empty).reshape(-1).astype(np.int32)

    return replace(
        camera,
        voxel_pixel=moved(camera.voxel_pixel, nothing),
        voxel_depth=moved(camera.voxel_depth, nothing * spec.camera.depth_bins),
    )
