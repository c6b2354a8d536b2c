# SPDX-License-Identifier: Apache-2.0
"""Made-up frames for the training's tests."""

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.data.frame import CameraFrame, Frame, Pillars
from peft_dml_train.data.synthetic import random_feeds


def some_boxes(count: int, seed: int) -> Boxes3D:
    """Boxes of random classes, sizes and speeds."""
    draw = np.random.default_rng(seed)
    # One box per 12.8 m block of the plane, so that no two share a peak.
    blocks = draw.permutation(49)[:count]
    centres = np.stack([(blocks % 7 - 3) * 12.8, (blocks // 7 - 3) * 12.8], axis=1) + draw.uniform(-3, 3, (count, 2))
    return Boxes3D.make(
        np.concatenate([centres, draw.uniform(0, 2, (count, 1))], axis=1),
        draw.uniform(1.0, 5.0, (count, 3)),
        draw.uniform(-3, 3, count),
        draw.integers(0, 10, count),
        velocities_mps=draw.normal(0, 4, (count, 2)),
        attributes=np.full(count, -1),
    )


def some_frame(spec: ModelSpec, seed: int, objects: int = 6, without: str = "") -> Frame:
    """A frame of random inputs, perhaps without one modality."""
    draw = np.random.default_rng(seed)
    feeds = random_feeds(spec, 1, seed)
    cells = np.sort(draw.choice(spec.lidar.pillar_grid**2, 300, replace=False)).astype(np.int32)
    lidar = draw.normal(size=(300, spec.lidar.points_per_pillar, spec.lidar.features)).astype(np.float32)
    lidar[..., 4] = draw.choice([0.0, 0.1, 0.2], size=lidar.shape[:2])
    radar = draw.normal(size=(50, spec.radar.points_per_pillar, spec.radar.features)).astype(np.float32)
    rows, columns = spec.camera.feature_hw
    camera = CameraFrame(
        *(feeds["camera"][n][0].numpy() for n in ("images", "present", "voxel_pixel", "voxel_depth")),
        draw.integers(0, spec.camera.depth_bins, (len(spec.camera.cameras), rows * columns)).astype(np.uint8),
    )
    ones = np.ones(5, dtype=np.float32)
    radar_cells = np.arange(50, dtype=np.int32) * 7
    mask = np.array([m != without for m in MODALITIES], dtype=np.float32)
    pillars = {"lidar": Pillars(lidar, cells), "radar": Pillars(radar, radar_cells)}
    return Frame(
        f"token{seed}",
        {m: entry for m, entry in pillars.items() if m != without},
        None if without == "camera" else camera,
        {m: feeds[m]["window"][0].numpy() for m in ("imu", "gnss") if m != without},
        mask,
        mask * np.float32(0.02),
        mask,
        ones,
        some_boxes(objects, seed),
    )
