# SPDX-License-Identifier: Apache-2.0
"""Augmentation: the mirrored world, other LiDARs, lost sweeps and cameras."""

from dataclasses import replace

import cv2
import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import BoolArray, Float32Array, Int32Array
from peft_dml_train.config import DropoutConfig, StageConfig
from peft_dml_train.data.frame import CameraFrame, Frame, Pillars
from peft_dml_train.data.points import lidar_points, to_lidar
from peft_dml_train.data.sensor_corruption import corrupt

LIDAR_Y, LIDAR_OFFSETS_Y, INTENSITY = 1, (6, 9), 3
BEAM_DEG = 1.33
INTENSITY_GAIN = (0.3, 2.5)
RADAR_MIRRORED = (1, 4, 7)
IMU_MIRRORED = (1, 3, 5)
GNSS_ACROSS = 2
AGE, RADAR_AGE = 4, 5
WORTHLESS_AGE_S = 0.4
CAMERA, LIDAR = MODALITIES.index("camera"), MODALITIES.index("lidar")


def mirror(frame: Frame, spec: ModelSpec) -> Frame:
    """Return the frame mirrored in the x-z plane: y becomes -y for points, cells, voxels, images, motion, boxes."""
    pillars = {}
    for modality, entry in frame.pillars.items():
        points = entry.points.copy()
        points[..., list(RADAR_MIRRORED if modality == "radar" else (LIDAR_Y, *LIDAR_OFFSETS_Y))] *= -1
        side = spec.lidar.pillar_grid if modality == "lidar" else spec.grid.size
        pillars[modality] = Pillars(points, (side - 1 - entry.cells // side) * side + entry.cells % side)
    windows = {m: w.copy() for m, w in frame.windows.items()}
    if "imu" in windows:
        windows["imu"][:, list(IMU_MIRRORED)] *= -1
    if "gnss" in windows:
        windows["gnss"][:, GNSS_ACROSS] *= -1
    b = frame.boxes
    flip = np.array([1.0, -1.0, 1.0])
    boxes = Boxes3D(
        b.centers_m * flip, b.sizes_m, -b.yaws_rad, b.velocities_mps * flip[:2], b.labels, b.scores, b.attributes,
        b.sigmas, b.ids,
    )  # fmt: skip
    camera = None if frame.camera is None else _mirror_camera(frame.camera, spec)
    return replace(frame, pillars=pillars, windows=windows, camera=camera, boxes=boxes)


def _mirror_camera(camera: CameraFrame, spec: ModelSpec) -> CameraFrame:
    """Mirror each image in place and point the mirrored voxels at the mirrored pixels; no camera changes its slot."""
    rows, columns = spec.camera.feature_hw
    size, bins, cameras = spec.grid.size, spec.camera.depth_bins, len(spec.camera.cameras)
    nothing = cameras * rows * columns

    def turn(table: Int32Array) -> Int32Array:
        return table.reshape(-1, size, size)[:, ::-1].reshape(-1)

    pixel, depth = turn(camera.voxel_pixel), turn(camera.voxel_depth)
    seen = pixel < nothing
    column = pixel % columns
    turned = np.where(seen, pixel - column + (columns - 1 - column), pixel).astype(np.int32)
    return CameraFrame(
        camera.images[:, :, ::-1],
        camera.present,
        turned,
        np.where(seen, turned * bins + depth % bins, nothing * bins).astype(np.int32),
        camera.depth_bins.reshape(cameras, rows, columns)[..., ::-1].reshape(cameras, -1),
        camera.picture,
    )


def degrade(frame: Frame, config: DropoutConfig, strength: float, spec: ModelSpec, draw: np.random.Generator) -> Frame:
    """Lose sweeps and single cameras, and corrupt modalities, each with its probability times the strength."""
    late = (frame.age_s + draw.uniform(0, config.late_s, len(MODALITIES)) * frame.mask).astype(np.float32)
    frame = replace(frame, age_s=late)
    for m in ("lidar", "radar"):
        if m in frame.pillars and draw.random() < config.sweep * strength:
            frame = _lose_sweeps(frame, m, draw)
    for m in frame.windows:
        if draw.random() < config.sweep * strength:
            frame = _lose_history(frame, m, draw)
    if draw.random() < config.stale * strength:
        frame = _make_stale(frame, config.stale_s, draw)
    if frame.camera is not None:
        frame = _lose_cameras(frame, config.single_camera * strength, draw)
    if draw.random() >= config.corruption * strength:
        return frame
    victim = str(draw.choice(MODALITIES, p=(0.25, 0.33, 0.36, 0.03, 0.03)))
    return corrupt(frame, victim, spec, draw)


def _lose_sweeps(frame: Frame, modality: str, draw: np.random.Generator) -> Frame:
    """Keep the newest sweeps only, as after a sensor's return; a pillar's lost points become its first kept one."""
    entry = frame.pillars[modality]
    ages = entry.points[..., AGE if modality == "lidar" else RADAR_AGE]
    # Radars do not fire together: their ages form no distinct sweeps.
    edges = np.unique(np.round(ages, 2)) if modality == "lidar" else np.linspace(0, ages.max(initial=0) + 1e-3, 7)
    if len(edges) < 2 or not len(entry.cells):
        return frame
    total = len(edges) if modality == "lidar" else len(edges) - 1
    kept_sweeps = int(draw.integers(1, total))
    kept = ages < edges[kept_sweeps] - 0.005
    alive = kept.any(axis=1)
    first = np.take_along_axis(entry.points, kept.argmax(axis=1)[:, None, None], axis=1)
    pillars = Pillars(np.where(kept[..., None], entry.points, first)[alive], entry.cells[alive])
    completeness = frame.completeness.copy()
    completeness[MODALITIES.index(modality)] *= kept_sweeps / total
    return replace(frame, pillars={**frame.pillars, modality: pillars}, completeness=completeness)


def _lose_history(frame: Frame, modality: str, draw: np.random.Generator) -> Frame:
    """Keep the newest part of a motion window."""
    window = frame.windows[modality].copy()
    lost = int(draw.integers(1, len(window)))
    window[:lost] = 0
    completeness = frame.completeness.copy()
    completeness[MODALITIES.index(modality)] *= 1 - lost / len(window)
    return replace(frame, windows={**frame.windows, modality: window}, completeness=completeness)


def _make_stale(frame: Frame, most_s: float, draw: np.random.Generator) -> Frame:
    """Tell that LiDAR, camera or radar is old: the gate learns what an age means, whatever the data look like."""
    place = int(draw.integers(len(DETECTING)))
    late_s = draw.uniform(WORTHLESS_AGE_S / 4, most_s)
    age_s, quality = frame.age_s.copy(), frame.quality.copy()
    age_s[place] += late_s * frame.mask[place]
    quality[place] *= max(0.0, 1 - late_s / WORTHLESS_AGE_S)
    return replace(frame, age_s=age_s, quality=quality)


def _lose_cameras(frame: Frame, probability: float, draw: np.random.Generator) -> Frame:
    camera = frame.camera
    if camera is None:
        return frame
    kept = camera.present * (draw.random(len(camera.present)) >= probability)
    if not kept.any() or (kept == camera.present).all():
        return frame
    completeness = frame.completeness.copy()
    completeness[CAMERA] = kept.mean()
    # The pixels stay: nothing of an absent camera counts, and features cached of black ones would outlast this sample.
    return replace(frame, camera=replace(camera, present=kept.astype(np.float32)), completeness=completeness)


def another_lidar(frame: Frame, stage: StageConfig, spec: ModelSpec, draw: np.random.Generator) -> Frame:
    """Vary what differs between LiDARs: gain, offset and absence of the intensity, and beams; not a corruption."""
    intensity, beams = draw.random() < stage.intensity, draw.random() < stage.beams
    if "lidar" not in frame.pillars or not (intensity or beams):
        return frame
    points = lidar_points(frame.pillars["lidar"])
    if intensity:
        gain, offset = draw.uniform(*INTENSITY_GAIN), draw.uniform(-0.05, 0.15)
        unknown = draw.random() < 0.2
        points[:, INTENSITY] = 0.0 if unknown else np.clip(points[:, INTENSITY] * gain + offset, 0, 1)
    if beams:
        points = points[_kept_beams(points, draw)]
    return replace(frame, pillars={**frame.pillars, "lidar": to_lidar(points, spec)})


def _kept_beams(points: Float32Array, draw: np.random.Generator) -> BoolArray:
    """Choose points of the beams that stay: every second one, or a random half or more.

    Frames hold no beam numbers: elevations from a LiDAR of usual height, in steps of a beam's, stand for them.
    """
    flat = np.hypot(points[:, 0], points[:, 1])
    elevation_deg = np.rad2deg(np.arctan2(points[:, 2] - draw.uniform(1.6, 2.4), flat))
    beam = np.floor(elevation_deg / BEAM_DEG).astype(np.int64) % 64
    if draw.random() < 0.5:
        every_second: BoolArray = beam % 2 == int(draw.integers(2))
        return every_second
    stays: BoolArray = ~(draw.random(64) < draw.uniform(0.1, 0.5))[beam]
    return stays


def tone(frame: Frame, look: int, draw: np.random.Generator) -> Frame:
    """Vary exposure, contrast and colour balance a little, and number the result's pixels; not a corruption."""
    if frame.camera is None:
        return frame
    table = np.arange(256, dtype=np.float32)
    table = ((table - 128) * draw.uniform(0.8, 1.2) + 128) * draw.uniform(0.8, 1.2) + draw.uniform(-10, 10)
    curves = [np.clip(table * gain, 0, 255).astype(np.uint8) for gain in draw.uniform(0.92, 1.08, 3)]
    images = frame.camera.images
    out = cv2.LUT(np.ascontiguousarray(images).reshape(1, -1, 3), np.stack(curves, axis=1)[None]).reshape(images.shape)
    return replace(frame, camera=replace(frame.camera, images=out, picture=look))
