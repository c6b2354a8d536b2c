# SPDX-License-Identifier: Apache-2.0
"""One keyframe as training holds it in memory: the vehicle's own inputs without their padding, and the truth."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.camera_view import network_intrinsics
from peft_dml_ros.core.classes import DETECTING, Modality
from peft_dml_ros.core.inputs import NetworkInputs
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import AnyArray, Float32Array, Int32Array

NO_DEPTH = 255
"""Depth bin of a feature pixel into which no LiDAR point falls."""


@dataclass(frozen=True, slots=True)
class Pillars:
    """Pillars that hold points.

    Attributes:
        points: (n, N, F) float32 features, as the assembler makes them.
        cells: (n,) int32 flat cell of each pillar.
    """

    points: Float32Array
    cells: Int32Array

    def take(self, index: AnyArray) -> "Pillars":
        """Return the pillars that an index array or mask selects."""
        return Pillars(self.points[index], self.cells[index])


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """Images and look-up tables; the tables are shared between frames of one calibration.

    Attributes:
        images: (n, H, W, 3) uint8.
        present: (n,) float32.
        voxel_pixel: (V,) int32.
        voxel_depth: (V,) int32.
        depth_bins: (n, rows · columns) uint8 depth bin by projected LiDAR points, `NO_DEPTH` where none.
        picture: Number of these very pixels within a stage, so that their features may be cached; -1 for none.
    """

    images: AnyArray
    present: Float32Array
    voxel_pixel: Int32Array
    voxel_depth: Int32Array
    depth_bins: AnyArray
    picture: int = -1


@dataclass(frozen=True, slots=True)
class Frame:
    """Inputs and truth of a keyframe.

    Attributes:
        token: Sample token.
        pillars: Of LiDAR and radar, where present.
        camera: Where present.
        windows: (steps, features) of IMU and GNSS, where present.
        mask, age_s, completeness: (5,) float32.
        quality: (5,) float32, 1 for an untouched modality, less the more it was degraded on purpose, down to 0.
        boxes: Truth in `base_link`.
    """

    token: str
    pillars: dict[str, Pillars]
    camera: CameraFrame | None
    windows: dict[str, Float32Array]
    mask: Float32Array
    age_s: Float32Array
    completeness: Float32Array
    quality: Float32Array
    boxes: Boxes3D


def make_frame(
    token: str,
    inputs: NetworkInputs,
    boxes: Boxes3D,
    rig: Rig,
    spec: ModelSpec,
    depth: Mapping[str, Float32Array] | None = None,
) -> Frame:
    """Return the compact form of one keyframe; `depth` as in `dense_depth`, where the data set has it."""
    pillars: dict[str, Pillars] = {}
    sweeping: tuple[Modality, ...] = ("lidar", "radar")
    for modality in sweeping:
        if modality in inputs.feeds:
            feed = inputs.feeds[modality]
            capacity = len(feed["pillars"])
            cells = np.flatnonzero(feed["index_map"] < capacity).astype(np.int32)
            pillars[modality] = Pillars(feed["pillars"][feed["index_map"][cells]].copy(), cells)
    camera = None
    if "camera" in inputs.feeds:
        feed = inputs.feeds["camera"]
        points = pillars["lidar"].points[..., :3].reshape(-1, 3) if "lidar" in pillars else np.zeros((0, 3))
        bins = project_depth(points, rig, spec)
        if depth:
            dense = dense_depth(depth, rig, spec)
            bins = np.where(dense == NO_DEPTH, bins, dense)
        camera = CameraFrame(feed["images"], feed["present"], feed["voxel_pixel"], feed["voxel_depth"], bins)
    windows: dict[str, Float32Array] = {str(m): feed["window"] for m, feed in inputs.feeds.items() if "window" in feed}
    ones = np.ones(5, dtype=np.float32)
    return Frame(token, pillars, camera, windows, inputs.mask, inputs.age_s, inputs.completeness, ones, boxes)


def project_depth(points_m: AnyArray, rig: Rig, spec: ModelSpec) -> AnyArray:
    """Return the depth bin that the nearest LiDAR point gives each feature pixel.

    Args:
        points_m: (N, 3) in `base_link`.
        rig: Calibrated cameras.
        spec: Image size, stride, bins.

    Returns:
        (cameras, rows · columns) uint8.
    """
    camera = spec.camera
    rows, columns = camera.feature_hw
    out = np.full((len(camera.cameras), rows * columns), NO_DEPTH, dtype=np.uint8)
    for slot, name in enumerate(camera.cameras):
        sensor = rig.sensors.get(name)
        if sensor is None or sensor.camera is None or not len(points_m):
            continue
        optical = sensor.base_SE3_sensor.inverse().transform(points_m)
        k = network_intrinsics(sensor.camera, camera)
        z = optical[:, 2]
        ahead = (z > camera.depth_min_m) & (z < camera.depth_max_m)
        safe = np.where(ahead, z, 1.0)
        u = np.floor((k[0, 0] * optical[:, 0] / safe + k[0, 2] + 0.5) / camera.stride)
        v = np.floor((k[1, 1] * optical[:, 1] / safe + k[1, 2] + 0.5) / camera.stride)
        seen = ahead & (u >= 0) & (u < columns) & (v >= 0) & (v < rows)
        pixel = (v[seen] * columns + u[seen]).astype(np.int64)
        bins = (np.searchsorted(camera.depth_edges_m, z[seen], side="right") - 1).astype(np.uint8)
        np.minimum.at(out[slot], pixel, bins)
    return out


def dense_depth(depth: Mapping[str, Float32Array], rig: Rig, spec: ModelSpec) -> AnyArray:
    """Return the depth bin of each feature pixel, of rendered depth.

    Args:
        depth: By camera, (h, w) depth along the optical axis in m over the whole picture; NaN where unknown.
        rig: Calibrated cameras.
        spec: Image size, stride, bins.

    Returns:
        (cameras, rows · columns) uint8, `NO_DEPTH` where unknown or out of the bins.
    """
    camera = spec.camera
    rows, columns = camera.feature_hw
    edges = camera.depth_edges_m
    out = np.full((len(camera.cameras), rows * columns), NO_DEPTH, dtype=np.uint8)
    for slot, name in enumerate(camera.cameras):
        sensor = rig.sensors.get(name)
        if name not in depth or sensor is None or sensor.camera is None:
            continue
        whole_px = round(sensor.camera.height_px * camera.width_px / sensor.camera.width_px)
        cropped_px = max(whole_px - camera.height_px, 0)
        image = depth[name]
        v = ((np.arange(rows) + 0.5) * camera.stride + cropped_px) / whole_px * image.shape[0]
        u = (np.arange(columns) + 0.5) / columns * image.shape[1]
        row = np.minimum(v.astype(np.int64), len(image) - 1)
        found = image[row[:, None], u.astype(np.int64)[None]].ravel()
        known = (found > edges[0]) & (found < edges[-1])
        out[slot, known] = np.searchsorted(edges, found[known], side="right") - 1
    return out


def detecting(mask: Float32Array) -> bool:
    """Return True when at least one modality that sees objects is there."""
    return bool(mask[: len(DETECTING)].any())
