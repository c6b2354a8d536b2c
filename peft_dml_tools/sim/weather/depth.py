# SPDX-License-Identifier: Apache-2.0
"""How far each part of a picture is: LiDAR where there is any, else flat ground and a far sky."""

from functools import lru_cache
from typing import Final

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import CameraModel, Sensor
from peft_dml_ros.core.typing import BoolArray, Float32Array, FloatArray

GRID_COLUMNS: Final = 200
#: Distance of what the ground plane does not reach and no LiDAR saw: sky, or houses that stand this side of it
SKY_M: Final = 300.0

FILL_CELLS: Final = 2.3  #: A LiDAR point speaks for its neighbours this far: half of the gap between two rings
OWN_RETURNS_M: Final = 2.5
#: Sine of the elevation above which a return is the LiDAR's uppermost ring: what is seen there goes on above
TOP_RING_SINE: Final = 0.155

WALL_COLUMNS: Final = 15
#: So much of this many columns has to reach the top for that: a wall does, a lamp post does not
WALL_SHARE: Final = 0.7


def ground_depth(camera: CameraModel, base_SE3_camera: SE3) -> Float32Array:
    """Return the range of a flat ground at z = 0 of base_link, and `SKY_M` above the horizon.

    Returns:
        (h, w) float32 in m along the ray; the whole picture in w <= 200 columns.
    """
    slope = _rays(camera, base_SE3_camera)[..., 2]
    height_m = max(float(base_SE3_camera.translation[2]), 0.1)
    falling = np.minimum(slope, -height_m / SKY_M)
    depth: Float32Array = np.where(slope < 0, height_m / -falling, SKY_M).astype(np.float32)
    return depth


def lidar_depth(camera: CameraModel, base_SE3_camera: SE3, base_points: FloatArray) -> Float32Array:
    """Return the range by the nearest LiDAR point of each cell and its neighbours; `ground_depth` elsewhere.

    Args:
        camera: Projection.
        base_SE3_camera: Mounting.
        base_points: (N, 3) points in base_link; the vehicle's own motion between sweep and picture is neglected.

    Returns:
        (h, w) float32 in m along the ray, as `ground_depth`.
    """
    import cv2  # noqa: PLC0415

    depth = ground_depth(camera, base_SE3_camera)
    height, width = depth.shape
    scale = width / camera.width_px
    optical = base_SE3_camera.inverse().transform(base_points)
    range_m = np.linalg.norm(optical, axis=1)
    ahead = (optical[:, 2] > 0.1) & (range_m > OWN_RETURNS_M)
    optical, range_m = optical[ahead], range_m[ahead]
    k = camera.intrinsics
    column = np.floor((k[0, 0] * optical[:, 0] / optical[:, 2] + k[0, 2] + 0.5) * scale).astype(np.int64)
    row = np.floor((k[1, 1] * optical[:, 1] / optical[:, 2] + k[1, 2] + 0.5) * scale).astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    # Far ones first: the nearest point of a cell is written last.
    order = np.argsort(-range_m[inside])
    cell = (row * width + column)[inside][order]
    seen = np.full(height * width, np.inf, np.float32)
    seen[cell] = range_m[inside][order]
    known: BoolArray = np.isfinite(seen).reshape(height, width)
    if not known.any():
        return depth
    distance, label = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros(int(label.max()) + 1, np.float32)
    of_label[label[known]] = seen.reshape(height, width)[known]
    filled = np.where(distance <= FILL_CELLS, of_label[label], depth)
    return _continued_above(filled, known, _rays(camera, base_SE3_camera)[..., 2])


def depth_of(sensor: Sensor, base_points: FloatArray | None = None) -> Float32Array | None:
    """Return the depth seen by a camera of the rig; `None` when it is not calibrated."""
    if sensor.camera is None:
        return None
    if base_points is None or not len(base_points):
        return ground_depth(sensor.camera, sensor.base_SE3_sensor)
    return lidar_depth(sensor.camera, sensor.base_SE3_sensor, base_points)


def _continued_above(depth: Float32Array, known: BoolArray, slope: FloatArray) -> Float32Array:
    """Return a depth image where a wall that the LiDAR's top ring met goes on above it."""
    top, columns = known.argmax(axis=0), np.arange(depth.shape[1])
    reaches = known.any(axis=0) & (slope[top, columns] > TOP_RING_SINE)
    side = WALL_COLUMNS // 2
    near = np.lib.stride_tricks.sliding_window_view(
        np.pad(np.where(reaches, depth[top, columns], np.nan), side, mode="edge"), WALL_COLUMNS
    )
    wall = np.isfinite(near).mean(axis=1) >= WALL_SHARE
    if not wall.any():
        return depth
    wall_m = np.full(len(columns), SKY_M, np.float32)
    wall_m[wall] = _median_of_known(near[wall])
    uppermost = int(top[reaches].max())
    limit = np.where(reaches, top, uppermost)
    above = (np.arange(depth.shape[0])[:, None] < limit) & wall
    continued: Float32Array = np.where(above, np.where(reaches, depth[top, columns], wall_m), depth).astype(np.float32)
    return continued


def _median_of_known(rows: FloatArray) -> FloatArray:
    """Return the median (N,) of each row but its NaNs, of which no row is full; numpy's takes 20 times as long."""
    ordered, count = np.sort(rows, axis=1), np.isfinite(rows).sum(axis=1)
    row = np.arange(len(rows))
    middle: FloatArray = (ordered[row, (count - 1) // 2] + ordered[row, count // 2]) / 2
    return middle


def _rays(camera: CameraModel, base_SE3_camera: SE3) -> FloatArray:
    """Return unit directions (h, w, 3) of cell centres in base_link; not to be written to."""
    size = (camera.width_px, camera.height_px)
    return _rays_of(camera.intrinsics.tobytes(), size, np.ascontiguousarray(base_SE3_camera.rotation).tobytes())


@lru_cache(maxsize=32)
def _rays_of(intrinsics: bytes, size_px: tuple[int, int], rotation: bytes) -> FloatArray:
    """Return unit directions; they are asked for twice in each picture of a camera."""
    k, turn = (np.frombuffer(matrix).reshape(3, 3) for matrix in (intrinsics, rotation))
    width = min(GRID_COLUMNS, size_px[0])
    height = max(round(size_px[1] * width / size_px[0]), 1)
    scale = width / size_px[0]
    u, v = np.meshgrid((np.arange(width) + 0.5) / scale - 0.5, (np.arange(height) + 0.5) / scale - 0.5)
    rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u)], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    return np.asarray(rays @ turn.T)
