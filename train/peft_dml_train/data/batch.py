# SPDX-License-Identifier: Apache-2.0
"""Frames to a batch of tensors, and availability masks drawn per sample."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES, DETECTING
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import AnyArray
from peft_dml_train.config import DropoutConfig, StageConfig, TrainConfig
from peft_dml_train.data.augment import another_lidar, degrade, mirror, tone
from peft_dml_train.data.cache import FrameCache
from peft_dml_train.data.dataset import truth_of
from peft_dml_train.data.frame import NO_DEPTH, Frame, Pillars
from peft_dml_train.data.paste import collect_objects, paste
from peft_dml_train.data.turn import WorldMotion, turn
from peft_dml_train.data.withheld import parse_pairs, withhold
from peft_dml_train.losses.targets import Targets, make_targets


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of B samples."""

    feeds: dict[str, dict[str, torch.Tensor]]  #: Encoder inputs by modality, B first; zeros where a sample lacks it
    mask: torch.Tensor  #: (B, 5) what each sample holds
    dropped: torch.Tensor  #: (B, 5) a random part of the mask, never without a detecting modality
    age_s: torch.Tensor  #: (B, 5)
    completeness: torch.Tensor  #: (B, 5)
    quality: torch.Tensor  #: (B, 5), 1 where untouched, 0 where worthless
    depth_bins: torch.Tensor  #: (B, cameras, rows · columns) int64, `NO_DEPTH` where unknown
    boxes: list[Boxes3D]  #: Truth per sample
    tokens: list[str]  #: Sample tokens
    pictures: list[int]  #: Number of each sample's pictures within the stage, -1 where seen once; see `CameraFrame`
    targets: Targets | None = None  #: Of the boxes, where whoever made the batch made them too

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with its tensors on another device."""
        return self._with(lambda x: x.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Return the batch in memory from which a GPU copies while it computes."""
        return self._with(torch.Tensor.pin_memory)

    def _with(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        feeds = {m: {name: change(value) for name, value in feed.items()} for m, feed in self.feeds.items()}
        names = ("mask", "dropped", "age_s", "completeness", "quality", "depth_bins")
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in names}
        return replace(self, feeds=feeds, targets=self.targets and self.targets.map(change), **changed)


def draw_mask(mask: AnyArray, config: DropoutConfig, strength: float, draw: np.random.Generator) -> AnyArray:
    """Return the part of a mask: each modality is dropped with its probability, but one that detects always stays.

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


def collate(frames: list[Frame], spec: ModelSpec, dropped: list[AnyArray] | None = None) -> Batch:
    """Collate frames to a batch; without drawn masks, `dropped` equals `mask`."""
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

    def rows(values: list[AnyArray]) -> torch.Tensor:
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
        [-1 if f.camera is None else f.camera.picture for f in frames],
    )


def frame_weights(frames: Sequence[Frame], balance: float) -> AnyArray:
    """Return the chance of each frame to be drawn: rare classes come more often (Zhu et al., "CBGS", 2019).

    Args:
        frames: Their truth counts.
        balance: 0 draws all frames alike; 1 gives every class the same share of its frames' draws.

    Returns:
        (frames,) float64 that sums to 1.
    """
    present = np.array([np.bincount(b.labels, minlength=len(CLASSES)) for b in truth_of(frames)], dtype=np.float64)
    rarity = (present.sum(axis=0).max() / np.maximum(present.sum(axis=0), 1)) ** 0.5
    worth = (np.sqrt(present) * rarity).sum(axis=1)
    even = np.full(len(frames), 1 / len(frames))
    return even if not worth.sum() else (1 - balance) * even + balance * worth / worth.sum()


class BatchStream:
    """Endless drawn, augmented batches, made ahead; the n-th batch depends on seed and n alone.

    Args:
        frames: Of this process.
        config: Recipe.
        stage: Batch size and augmentation.
        seed: Of all draws.
        degraded: Frames in weather or corrupted; half as many samples as `corruption` says come from here.
        cache: Of the frames, where one keeps them on disk.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        config: TrainConfig,
        stage: StageConfig,
        *,
        seed: int,
        degraded: Sequence[Frame] = (),
        cache: FrameCache | None = None,
    ) -> None:
        if not frames:
            raise DataError("this process has no frames to train on; fix: give more scenes, or start fewer processes")
        self.frames, self.config, self.stage, self.seed, self.degraded = frames, config, stage, seed, degraded
        self.cache = cache
        self.store = collect_objects(frames) if stage.paste else []
        self.weights = frame_weights(frames, stage.balance)
        self.withheld = parse_pairs(config.withheld)
        self._order: tuple[int, AnyArray] = (-1, np.zeros(0, dtype=np.int64))

    def _picked(self, step: int) -> AnyArray:
        """Return frames of a step; over an epoch each comes as often as its weight says, give or take one."""
        size = self.stage.batch
        epoch, place = divmod(step, max(len(self.frames) // size, 1))
        if self._order[0] != epoch:
            draw = np.random.default_rng((self.seed, 1_000_003, epoch))
            marks = (np.arange(len(self.frames)) + draw.random()) / len(self.frames)
            drawn = np.searchsorted(np.cumsum(self.weights), marks, side="right").clip(max=len(self.frames) - 1)
            self._order = (epoch, draw.permutation(drawn))
        return np.resize(self._order[1][place * size : (place + 1) * size], size)

    def make(self, step: int, strength: float) -> Batch:
        """Return the batch of one step.

        Args:
            step: Its number.
            strength: 0 to 1, scales every probability of loss and corruption.
        """
        draw = np.random.default_rng((self.seed, step))
        dropout = self.config.dropout
        picked, dropped = [], []
        for i in self._picked(step):
            frame, number = self.frames[i], int(i)
            if self.degraded and draw.random() < dropout.corruption * strength / 2:
                number = int(draw.integers(len(self.degraded)))
                frame, number = self.degraded[number], len(self.frames) + number
            frame = withhold(self._augmented(frame, number, draw), self.withheld, self.config.sensors)
            frame = degrade(frame, dropout, strength, self.config.spec, draw)
            picked.append(frame)
            whole = not self.config.losses.compares(step) and draw.random() < dropout.whole
            dropped.append(frame.mask if whole else draw_mask(frame.mask, dropout, strength, draw))
        batch = collate(picked, self.config.spec, dropped)
        return replace(batch, targets=make_targets(batch.boxes, self.config.spec))

    def _augmented(self, frame: Frame, number: int, draw: np.random.Generator) -> Frame:
        stage, spec = self.stage, self.config.spec
        # Pictures come in two looks, so that the features of either are computed once: as they are, and mirrored.
        flipped = stage.flip and draw.random() < 0.5
        look = 2 * number + int(flipped)
        frame = tone(frame, look, np.random.default_rng((self.seed, 2_000_003, look)))
        if draw.random() < stage.paste:
            frame = paste(frame, self.store, stage.pasted, spec, draw)
        frame = another_lidar(frame, stage, spec, draw)
        if draw.random() < stage.turn:
            frame = turn(frame, _drawn_pose(stage, draw), spec)
        return mirror(frame, spec) if flipped else frame

    def run(self, first: int, last: int, ramp_steps: int) -> Iterator[tuple[int, Batch]]:
        """Yield batches of the steps first to last - 1, with the strength rising over `ramp_steps`."""

        def make(step: int) -> Batch:
            return self.make(step, min(1.0, step / max(ramp_steps, 1)))

        if self.config.workers:
            steps = range(first, last)
            made = DataLoader(
                _StepBatches(make),
                batch_size=None,
                sampler=steps,
                num_workers=self.config.workers,
                collate_fn=_as_it_is,
                multiprocessing_context="fork",
                pin_memory=torch.cuda.is_available(),
            )
            yield from zip(steps, made, strict=True)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="batch") as pool:
            ahead = pool.submit(make, first)
            for step in range(first, last):
                batch = ahead.result()
                if step + 1 < last:
                    ahead = pool.submit(make, step + 1)
                yield step, batch


class _StepBatches(Dataset[Batch]):
    """Batches by the number of their step, for worker processes."""

    def __init__(self, make: Callable[[int], Batch]) -> None:
        self._make = make

    def __getitem__(self, step: int) -> Batch:
        return self._make(step)


def _as_it_is(batch: Any) -> Any:
    return batch


def _drawn_pose(stage: StageConfig, draw: np.random.Generator) -> WorldMotion:
    yaw, pitch, roll = np.deg2rad(
        [draw.uniform(-1, 1) * most for most in (stage.turn_deg, stage.tilt_deg, stage.tilt_deg)]
    )
    rise_m, scale = draw.uniform(-stage.rise_m, stage.rise_m), 1 + draw.uniform(-stage.scale, stage.scale)
    return WorldMotion(float(yaw), float(pitch), float(roll), float(rise_m), float(scale))
