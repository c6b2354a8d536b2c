# SPDX-License-Identifier: Apache-2.0
"""Corruptions of single modalities that the gate has to notice: each lowers the victim's quality to nothing."""

from dataclasses import replace

import cv2
import numpy as np

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import UInt8Array
from peft_dml_train.data.frame import Frame, Pillars
from peft_dml_train.data.points import radar_points, to_radar


def corrupt(frame: Frame, victim: str, spec: ModelSpec, draw: np.random.Generator) -> Frame:
    """Return a frame with one modality corrupted in a way drawn at random."""
    quality = frame.quality.copy()
    quality[MODALITIES.index(victim)] = 0
    if victim == "lidar" and victim in frame.pillars:
        return replace(frame, pillars={**frame.pillars, victim: _blinded(frame.pillars[victim], draw)}, quality=quality)
    if victim == "radar" and victim in frame.pillars:
        return replace(
            frame, pillars={**frame.pillars, victim: _radar_noise(frame.pillars[victim], spec, draw)}, quality=quality
        )
    if victim == "camera" and frame.camera is not None:
        images = _degraded_images(frame.camera.images, draw)
        return replace(frame, camera=replace(frame.camera, images=images, picture=-1), quality=quality)
    if victim in frame.windows:
        window = frame.windows[victim]
        noisy = (window + draw.normal(0, 0.5, window.shape)).astype(np.float32)
        return replace(frame, windows={**frame.windows, victim: noisy}, quality=quality)
    return frame


def _blinded(entry: Pillars, draw: np.random.Generator) -> Pillars:
    """Keep what lies near, or a random part."""
    if draw.random() < 0.5:
        return entry.take(np.hypot(entry.points[:, 0, 0], entry.points[:, 0, 1]) < draw.uniform(6, 20))
    return entry.take(draw.random(len(entry.cells)) > draw.uniform(0.5, 0.9))


def _radar_noise(entry: Pillars, spec: ModelSpec, draw: np.random.Generator) -> Pillars:
    """Make a radar lie in one of four ways: echoes lost, invented, moved, or with another speed and strength.

    The four noises of RobuRCDet (Wang et al., 2025).
    """
    points = radar_points(entry)
    kind = int(draw.choice(4, p=(0.2, 0.4, 0.2, 0.2)))
    if kind == 0:
        points = points[draw.random(len(points)) > draw.uniform(0.5, 0.95)]
    elif kind == 1:
        points = np.concatenate([points, _clutter(int(draw.integers(60, 600)), spec, draw)])
    elif kind == 2:
        points[:, :2] += draw.normal(0, draw.uniform(1.0, 4.0), (len(points), 2))
    else:
        points[:, 2] += draw.normal(0, 8.0, len(points))
        points[:, 3:5] += draw.normal(0, draw.uniform(2.0, 6.0), (len(points), 2))
    return to_radar(points.astype(np.float32), spec)


def _clutter(count: int, spec: ModelSpec, draw: np.random.Generator) -> UInt8Array:
    """Return the radar points (M, 6) that nothing reflected; some in lumps, as behind spray or a grating."""
    half = spec.grid.half_range_m
    centre = draw.uniform(-half, half, (max(count // 4, 1), 2))
    place = centre[draw.integers(len(centre), size=count)] + draw.normal(0, 1.2, (count, 2))
    lone = draw.random(count) < 0.5
    place[lone] = draw.uniform(-half, half, (int(lone.sum()), 2))
    rcs, speed = draw.normal(6.0, 8.0, (count, 1)), draw.normal(0, 6.0, (count, 2))
    speed[draw.random(count) < 0.5] = 0.0
    return np.concatenate([place, rcs, speed, draw.uniform(0, 0.4, (count, 1))], axis=1)


def _degraded_images(images: UInt8Array, draw: np.random.Generator) -> UInt8Array:
    """Return dark and noisy, foggy, out of focus, or one grey: a camera that sees nothing."""
    kind = draw.integers(4)
    if kind == 0:
        noise = draw.normal(0, 10, images.shape[1:]).astype(np.float32)
        return np.clip(images * np.float32(draw.uniform(0.02, 0.3)) + noise, 0, 255).astype(np.uint8)
    if kind == 1:
        clear = np.float32(draw.uniform(0.1, 0.4))
        return (images * clear + 190 * (1 - clear)).astype(np.uint8)
    if kind == 2:
        return np.full_like(images, draw.integers(0, 256))
    width = int(draw.integers(4, 10))
    return np.stack([cv2.blur(np.ascontiguousarray(image), (width, width)) for image in images])
