# SPDX-License-Identifier: Apache-2.0
"""The world turned about the vehicle and scaled: points, velocities, motion windows, camera tables and boxes alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import wrap_angle
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import AnyArray, Float32Array
from peft_dml_train.data.frame import CameraFrame, Frame
from peft_dml_train.data.points import lidar_points, radar_points, to_lidar, to_radar

IMU_ACCEL, IMU_GYRO = slice(0, 2), slice(3, 5)
GNSS_LENGTHS = slice(1, 5)


def turn(frame: Frame, angle_rad: float, scale: float, spec: ModelSpec) -> Frame:
    """A frame as if base_link's axes were turned by minus the angle and its metres were 1 / scale long.

    Heights of the camera's voxels are not scaled: over a few percent they move by less than half their spacing.
    """
    rotation = np.array([[np.cos(angle_rad), -np.sin(angle_rad)], [np.sin(angle_rad), np.cos(angle_rad)]])

    def turned(xy: AnyArray) -> AnyArray:
        return (xy @ rotation.T * scale).astype(xy.dtype)

    pillars = {}
    if "lidar" in frame.pillars:
        points = lidar_points(frame.pillars["lidar"])
        points[:, :2] = turned(points[:, :2])
        points[:, 2] *= scale
        pillars["lidar"] = to_lidar(points, spec)
    if "radar" in frame.pillars:
        points = radar_points(frame.pillars["radar"])
        points[:, :2], points[:, 3:5] = turned(points[:, :2]), turned(points[:, 3:5])
        pillars["radar"] = to_radar(points, spec)
    windows = {m: _turn_window(m, w, rotation, scale) for m, w in frame.windows.items()}
    b = frame.boxes
    centers = np.concatenate([turned(b.centers_m[:, :2]), b.centers_m[:, 2:] * scale], axis=1)
    boxes = Boxes3D(
        centers, b.sizes_m * scale, wrap_angle(b.yaws_rad + angle_rad), turned(b.velocities_mps), b.labels, b.scores,
        b.attributes, b.sigmas, b.ids,
    )  # fmt: skip
    camera = None if frame.camera is None else _turn_camera(frame.camera, rotation, scale, spec)
    return replace(frame, pillars=pillars, windows=windows, camera=camera, boxes=boxes)


def _turn_window(modality: str, window: Float32Array, rotation: AnyArray, scale: float) -> Float32Array:
    out = window.copy()
    if modality == "imu":
        out[:, IMU_ACCEL] = out[:, IMU_ACCEL] @ rotation.T * scale
        out[:, IMU_GYRO] = out[:, IMU_GYRO] @ rotation.T
    else:
        # Along and across the course: turning changes nothing.
        out[:, GNSS_LENGTHS] *= scale
    return out


def _turn_camera(camera: CameraFrame, rotation: AnyArray, scale: float, spec: ModelSpec) -> CameraFrame:
    """Each voxel looks up what the voxel at its place before the turn looked up."""
    size, cell_m, half = spec.grid.size, spec.grid.cell_m, spec.grid.half_range_m
    rows, columns = spec.camera.feature_hw
    nothing = len(spec.camera.cameras) * rows * columns
    centre = (np.arange(size) + 0.5) * cell_m - half
    x, y = np.meshgrid(centre, centre)
    before = np.stack([x.ravel(), y.ravel()], axis=1) @ rotation / scale
    index = np.floor((before + half) / cell_m).astype(np.int64)
    inside = ((index >= 0) & (index < size)).all(axis=1)
    source = np.where(inside, index[:, 1] * size + index[:, 0], 0)

    def moved(table: AnyArray, empty: int) -> AnyArray:
        return np.where(inside, table.reshape(-1, size * size)[:, source], empty).reshape(-1).astype(np.int32)

    return replace(
        camera,
        voxel_pixel=moved(camera.voxel_pixel, nothing),
        voxel_depth=moved(camera.voxel_depth, nothing * spec.camera.depth_bins),
    )
