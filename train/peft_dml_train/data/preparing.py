# SPDX-License-Identifier: Apache-2.0
"""Prepares the frames of a recipe ahead of its training, on one machine or on a Ray cluster, into a shared cache."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from peft_dml_ros.core.spec import ModelSpec
from peft_dml_tools.fleet.cluster import every_result
from peft_dml_train.config import StageConfig, TrainConfig
from peft_dml_train.data.cache import FrameCache
from peft_dml_train.data.dataset import FrameReader, FrameRequest, degraded_requests, weather_requests

log = logging.getLogger(__name__)

FRAMES_A_JOB: Final = 32
"""Enough that a job takes longer than to send it, few enough that all cores are busy to the end."""


def process_seed(seed: int, number: int) -> int:
    """Return the seed of one process of a training."""
    return seed + 1000 * number


def corrupted_portion(config: TrainConfig, stage: StageConfig) -> float:
    """Return the portion of a stage's frames that are seen in weather or under a corruption as well."""
    return config.dropout.degraded_portion if config.dropout.corruption and not stage.weather else 0.0


@dataclass(frozen=True, slots=True)
class PreparingJob:
    """Frames that one worker prepares.

    Attributes:
        root: nuScenes folder, under the same path on every node.
        spec: Model facts.
        cache: Where frames are kept; a folder that every node sees.
        requests: Which frames.
    """

    root: Path
    spec: ModelSpec
    cache: FrameCache
    requests: tuple[FrameRequest, ...]


class PreparedCount(NamedTuple):
    """How many frames were made, and how many were there."""

    made: int
    kept: int


def stage_frames(config: TrainConfig, reader: FrameReader) -> list[FrameRequest]:
    """Return all frames that the stages and the evaluation of a recipe read, each once.

    Args:
        config: Recipe.
        reader: Of the nuScenes folder.

    Raises:
        DataError: the folder has no scenes of a split.
    """
    requests: list[FrameRequest] = []
    stages = ((config.pretrain, config.splits.train, 0), (config.finetune, config.splits.finetune, 1))
    for stage, splits, later in stages:
        tokens = reader.tokens(splits)
        for number in range(config.processes):
            mine, seed = tokens[number :: config.processes], process_seed(config.seed + later, number)
            requests += weather_requests(mine, stage.weather, seed)
            requests += degraded_requests(mine, corrupted_portion(config, stage), seed)
    for splits in (config.splits.val, config.splits.test):
        requests += weather_requests(reader.tokens(splits))
    return list({(one.token, one.name): one for one in requests}.values())


def prepare(config: TrainConfig, data: Path, cache: FrameCache, address: str, workers: int) -> Iterator[PreparedCount]:
    """Prepare the frames that the cache lacks; yield what each job did, first what was there.

    Args:
        config: Recipe.
        data: nuScenes folder.
        cache: Where frames are kept.
        address: Ray cluster: local, auto or HOST:PORT.
        workers: Cores to use with `local`; 0 takes all.

    Raises:
        ConfigError: there is no cluster at the address.
        DataError: no scenes of a split, or a frame cannot be read; the others are made.
    """
    reader = FrameReader(data, config.spec, cache)
    requests = stage_frames(config, reader)
    missing = [one for one in requests if not reader.kept(one)]
    yield PreparedCount(0, len(requests) - len(missing))
    root, folder = data.resolve(), FrameCache(cache.folder.resolve(), cache.most_gb, cache.sources)
    parts = [tuple(missing[i : i + FRAMES_A_JOB]) for i in range(0, len(missing), FRAMES_A_JOB)]
    jobs = [PreparingJob(root, config.spec, folder, part) for part in parts]
    if jobs:
        yield from every_result(prepare_frames, jobs, address, workers)


def prepare_frames(job: PreparingJob) -> PreparedCount:
    """Prepare the frames of one job; those that another one made meanwhile count as there."""
    reader, made = _reader(job.root, job.spec.model_dump_json(), job.cache.folder, job.cache.most_gb), 0
    for one in job.requests:
        if not reader.kept(one):
            reader.prepared(one)
            made += 1
    return PreparedCount(made, len(job.requests) - made)


@lru_cache(maxsize=2)
def _reader(root: Path, spec: str, folder: Path, most_gb: float) -> FrameReader:
    """Return the reader of a worker process, which reads the tables of a folder once."""
    return FrameReader(root, ModelSpec.model_validate_json(spec), FrameCache(folder, most_gb))
