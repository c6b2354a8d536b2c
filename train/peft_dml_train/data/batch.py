# SPDX-License-Identifier: Apache-2.0
"""Frames to a batch of tensors, and availability masks drawn per sample."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import DETECTING
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.config import DropoutConfig, TrainConfig
from peft_dml_train.data.augment import degrade, mirror, tone
from peft_dml_train.data.frame import NO_DEPTH, Frame, Pillars


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of B samples.

    Attributes:
        feeds: Encoder inputs by modality, with a leading batch axis; zeros where a sample lacks the modality.
        mask: (B, 5) what each sample holds.
        dropped: (B, 5) a random part of the mask, never without a detecting modality.
        age_s: (B, 5).
        completeness: (B, 5).
        quality: (B, 5), 0 where corrupted.
        depth_bins: (B, cameras, rows · columns) int64, `NO_DEPTH` where unknown.
        boxes: Truth per sample.
        tokens: Sample tokens.
    """

    feeds: dict[str, dict[str, torch.Tensor]]
    mask: torch.Tensor
    dropped: torch.Tensor
    age_s: torch.Tensor
    completeness: torch.Tensor
    quality: torch.Tensor
    depth_bins: torch.Tensor
    boxes: list[Boxes3D]
    tokens: list[str]


def draw_mask(mask: np.ndarray, config: DropoutConfig, strength: float, draw: np.random.Generator) -> np.ndarray:
    """Part of a mask: each modality is dropped with its probability, but one that detects always stays.

    Together with the full pass that every sample also gets, half of all passes see all sensors.
    """
    rates = np.array([config.lidar, config.camera, config.radar, config.imu, config.gnss]) * strength
    for _ in range(20):
        kept = mask * (draw.random(5) >= rates)
        if kept[: len(DETECTING)].any():
            return kept.astype(np.float32)
    return mask


def _stack_pillars(entries: list[Pillars | None], side: int, points: int, features: int) -> dict[str, torch.Tensor]:
    capacity = max([len(e.cells) for e in entries if e is not None] + [1])
    pillars = np.zeros((len(entries), capacity, points, features), dtype=np.float32)
    index_map = np.full((len(entries), side * side), capacity, dtype=np.int32)
    for row, entry in enumerate(entries):
        if entry is not None:
            pillars[row, : len(entry.cells)] = entry.points
            index_map[row, entry.cells] = np.arange(len(entry.cells), dtype=np.int32)
    return {"pillars": torch.from_numpy(pillars), "index_map": torch.from_numpy(index_map)}


def _stack_cameras(frames: list[Frame], spec: ModelSpec) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    camera, n = spec.camera, len(spec.camera.cameras)
    rows, columns = camera.feature_hw
    voxels, pixels = len(camera.voxel_heights_m) * spec.grid.size**2, n * rows * columns
    images = np.zeros((len(frames), n, camera.height_px, camera.width_px, 3), dtype=np.uint8)
    present = np.zeros((len(frames), n), dtype=np.float32)
    voxel_pixel = np.full((len(frames), voxels), pixels, dtype=np.int32)
    voxel_depth = np.full((len(frames), voxels), pixels * camera.depth_bins, dtype=np.int32)
    depth = np.full((len(frames), n, rows * columns), NO_DEPTH, dtype=np.int64)
    for row, frame in enumerate(frames):
        if frame.camera is not None:
            images[row], present[row] = frame.camera.images, frame.camera.present
            voxel_pixel[row], voxel_depth[row] = frame.camera.voxel_pixel, frame.camera.voxel_depth
            depth[row] = np.where(frame.camera.present[:, None] > 0, frame.camera.depth_bins, NO_DEPTH)
    feeds = {"images": images, "present": present, "voxel_pixel": voxel_pixel, "voxel_depth": voxel_depth}
    return {name: torch.from_numpy(value) for name, value in feeds.items()}, torch.from_numpy(depth)


def collate(frames: list[Frame], spec: ModelSpec, dropped: list[np.ndarray] | None = None) -> Batch:
    """Frames to a batch; without drawn masks, `dropped` equals `mask`."""
    camera, depth = _stack_cameras(frames, spec)
    lidar, radar = spec.lidar, spec.radar
    shapes = {"imu": (spec.imu.steps, spec.imu.features), "gnss": (spec.gnss.steps, spec.gnss.features)}
    feeds = {
        "lidar": _stack_pillars(
            [f.pillars.get("lidar") for f in frames], lidar.pillar_grid, lidar.points_per_pillar, lidar.features
        ),
        "camera": camera,
        "radar": _stack_pillars(
            [f.pillars.get("radar") for f in frames], spec.grid.size, radar.points_per_pillar, radar.features
        ),
    }
    for m, shape in shapes.items():
        window = np.stack([f.windows.get(m, np.zeros(shape, dtype=np.float32)) for f in frames])
        feeds[m] = {"window": torch.from_numpy(window.astype(np.float32))}

    def rows(values: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(values).astype(np.float32))

    mask = rows([f.mask for f in frames])
    return Batch(
        feeds,
        mask,
        mask if dropped is None else rows(dropped),
        rows([f.age_s for f in frames]),
        rows([f.completeness for f in frames]),
        rows([f.quality for f in frames]),
        depth,
        [f.boxes for f in frames],
        [f.token for f in frames],
    )


class BatchStream:
    """Endless shuffled, augmented batches, made one ahead in a thread; the n-th batch depends on seed and n alone."""

    def __init__(self, frames: list[Frame], config: TrainConfig, batch: int, *, flip: bool, seed: int) -> None:
        self.frames, self.config, self.size, self.flip, self.seed = frames, config, batch, flip, seed

    def make(self, step: int, strength: float) -> Batch:
        """Batch of one step.

        Args:
            step: Its number.
            strength: 0 to 1, scales every probability of loss and corruption.
        """
        draw = np.random.default_rng((self.seed, step))
        per_epoch = max(len(self.frames) // self.size, 1)
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng((self.seed, 1_000_003, epoch)).permutation(len(self.frames))
        picked, dropped = [], []
        for i in np.resize(order[place * self.size : (place + 1) * self.size], self.size):
            frame = tone(self.frames[i], draw)
            if self.flip and draw.random() < 0.5:
                frame = mirror(frame, self.config.spec)
            frame = degrade(frame, self.config.dropout, strength, draw)
            picked.append(frame)
            dropped.append(draw_mask(frame.mask, self.config.dropout, strength, draw))
        return collate(picked, self.config.spec, dropped)

    def run(self, first: int, last: int, ramp_steps: int) -> Iterator[tuple[int, Batch]]:
        """Batches of the steps first to last - 1, with the strength rising over `ramp_steps`."""

        def make(step: int) -> Batch:
            return self.make(step, min(1.0, step / max(ramp_steps, 1)))

        with ThreadPoolExecutor(1, thread_name_prefix="batch") as pool:
            ahead = pool.submit(make, first)
            for step in range(first, last):
                batch = ahead.result()
                if step + 1 < last:
                    ahead = pool.submit(make, step + 1)
                yield step, batch
