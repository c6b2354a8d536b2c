# SPDX-License-Identifier: Apache-2.0
"""A tiny network and made-up frames."""

from pathlib import Path

import numpy as np
import pytest
import torch

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.config import TrainConfig, load_config
from peft_dml_train.data.frame import CameraFrame, Frame, Pillars
from peft_dml_train.data.synthetic import random_feeds
from peft_dml_train.loop.stages import new_network
from peft_dml_train.network import PeftDmlNetwork

CONFIG = Path(__file__).parents[2] / "train" / "configs" / "tiny.yaml"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def config() -> TrainConfig:
    return load_config(CONFIG)


@pytest.fixture
def network(config) -> PeftDmlNetwork:
    return new_network(config)


def some_boxes(count: int, seed: int) -> Boxes3D:
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


def some_frame(spec: ModelSpec, seed: int) -> Frame:
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
    return Frame(
        f"token{seed}",
        {"lidar": Pillars(lidar, cells), "radar": Pillars(radar, radar_cells)},
        camera,
        {m: feeds[m]["window"][0].numpy() for m in ("imu", "gnss")},
        ones,
        ones * 0.02,
        ones,
        ones,
        some_boxes(6, seed),
    )


@pytest.fixture(scope="session")
def make_boxes():
    return some_boxes


@pytest.fixture(scope="session")
def frames(config) -> list[Frame]:
    return [some_frame(config.spec, seed) for seed in range(4)]
