# SPDX-License-Identifier: Apache-2.0
"""Which cells of the common grid a sensor sees at all, by what it was given."""

import torch
from torch.nn import functional

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.data.batch import Batch


def seen_cells(batch: Batch, spec: ModelSpec) -> dict[str, torch.Tensor]:
    """Return the cells in which LiDAR, camera and radar see something.

    LiDAR and radar: a point in the cell or next to it. Camera: within some picture, and not hidden from the LiDAR where
    there is one, because what a LiDAR of the same vehicle cannot reach is mostly hidden from its cameras too.

    Args:
        batch: Inputs of B samples.
        spec: Model facts.

    Returns:
        (B, cells) bool by modality, cells row by row as in the latents.
    """
    size = spec.grid.size
    found = {m: _occupied(batch.feeds[m], size) for m in ("lidar", "radar")}
    camera = batch.feeds["camera"]
    pixels = len(spec.camera.cameras) * spec.camera.feature_hw[0] * spec.camera.feature_hw[1]
    heights = len(spec.camera.voxel_heights_m)
    pictured = (camera["voxel_pixel"].view(len(batch.boxes), heights, -1) < pixels).any(dim=1)
    without_lidar = batch.mask[:, MODALITIES.index("lidar"), None] == 0
    return found | {"camera": pictured & (found["lidar"] | without_lidar)}


def _occupied(feed: dict[str, torch.Tensor], size: int) -> torch.Tensor:
    """Return (B, cells): the 3 x 3 cells around one hold a pillar."""
    index = feed["index_map"]
    side = round(index.shape[1] ** 0.5)
    filled = (index < feed["pillars"].shape[1]).float().view(len(index), 1, side, side)
    coarse = functional.max_pool2d(filled, side // size)
    return functional.max_pool2d(coarse, 3, 1, 1).flatten(1) > 0
