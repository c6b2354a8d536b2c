# SPDX-License-Identifier: Apache-2.0
"""Ranges of inputs that a network met in training, so that the vehicle can say when a sensor lies outside."""

from pathlib import Path

import numpy as np

from peft_dml_ros.core.measurements import LidarSweep
from peft_dml_ros.core.pillars import MAXIMUM, MEDIAN, Levels
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.config import TrainConfig
from peft_dml_train.data.augment import INTENSITY_GAIN
from peft_dml_train.data.dataset import scenes_of

SWEEPS = 64


def trained_ranges(config: TrainConfig, data: Path) -> dict[str, tuple[float, float]]:
    """Return the least and greatest of inputs in the training scenes, by the names of `pillars.TRAINED`.

    Augmentation widens them by its gains. Keyframes are drawn, up to `SWEEPS` of them. Raises DataError: the folder
    lacks the scenes, or a file is damaged.
    """
    reader, splits = NuScenesReader(data), tuple(dict.fromkeys((*config.splits.train, *config.splits.finetune)))
    tokens = [token for scene in scenes_of(reader, splits) for token in reader.samples(scene)]
    drawn = np.random.default_rng(0).permutation(len(tokens))[:SWEEPS]
    records = [r for i in drawn for n, r in reader.keyframes(tokens[i]).items() if n.startswith("LIDAR")]
    sweeps = [sweep for r in records if isinstance(sweep := reader.load(r), LidarSweep) and len(sweep.points)]
    if not sweeps:
        return {}
    augmented = max(config.pretrain.intensity, config.finetune.intensity) > 0
    low, high = INTENSITY_GAIN if augmented else (1.0, 1.0)
    found = [Levels.of(sweep.points) for sweep in sweeps]
    values = {MEDIAN: [levels.median for levels in found], MAXIMUM: [levels.maximum for levels in found]}
    return {name: (round(min(of) * low, 2), round(min(max(of) * high, 255.0), 2)) for name, of in values.items()}
