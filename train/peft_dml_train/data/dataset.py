# SPDX-License-Identifier: Apache-2.0
"""Frames of a nuScenes folder, read through the vehicle's own input path: kept in memory, or on disk with a cache."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
from nuscenes.utils.splits import create_splits_scenes

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.inputs import InputAssembler
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import Float32Array
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.sim.workers import begin_process
from peft_dml_train.data.cache import FrameCache, source_digest
from peft_dml_train.data.degradation import degraded, in_condition
from peft_dml_train.data.frame import Frame, make_frame
from peft_dml_train.evaluation.conditions import parse_condition

log = logging.getLogger(__name__)
MOST_NAMED = 4
Change: TypeAlias = Callable[[Snapshot, Rig, Boxes3D], tuple[Snapshot, Float32Array]]


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """A keyframe and what is to be done to it.

    Attributes:
        token: The sample.
        name: Of the change, with all that decides its result; empty for none.
        change: See `FrameReader.frame`.
    """

    token: str
    name: str = ""
    change: Change | None = None


def scenes_of(reader: NuScenesReader, names: tuple[str, ...]) -> list[str]:
    """Return scenes of the named splits; without a split of that name, nuScenes' own; else scenes whose name starts so.

    Raises:
        DataError: nothing fits.
    """
    found: list[str] = []
    official = create_splits_scenes()
    for name in names:
        known = [s for s in official.get(name, ()) if s in reader.scenes]
        found += reader.splits.get(name, ()) or known or [s for s in reader.scenes if s.startswith(name)]
    if not found:
        msg = f"{reader.root} has no scenes for {names}"
        raise DataError(f"{msg}; fix: take splits {sorted(reader.splits)}, scenes: {reader.scenes[:5]}")
    return list(dict.fromkeys(found))


class FrameReader:
    """Frames by sample token; one input assembler per calibration.

    Args:
        root: nuScenes folder.
        spec: Model facts.
        cache: Where prepared frames are kept; without it each is made when it is asked for.
        reader: Of the folder, where there is one already.
    """

    def __init__(
        self, root: Path, spec: ModelSpec, cache: FrameCache | None = None, reader: NuScenesReader | None = None
    ) -> None:
        self.reader, self.spec, self.cache = reader or NuScenesReader(root), spec, cache
        self._source = source_digest(root, spec, cache.sources) if cache else ""
        self._assemblers: dict[int, tuple[Rig, InputAssembler]] = {}

    def prepared(self, request: FrameRequest) -> Frame:
        """Return one keyframe, from the cache where it is there."""
        if self.cache is None:
            return self.frame(request.token, request.change)
        return self.cache.frame(self._key(request), lambda: self.frame(request.token, request.change))

    def truth(self, request: FrameRequest) -> Boxes3D:
        """Return the truth of a keyframe alone."""
        found = self.cache.boxes(self._key(request)) if self.cache else None
        return self.reader.truth(request.token) if found is None else found

    def kept(self, request: FrameRequest) -> bool:
        """Return whether the cache holds a keyframe; its content is not read."""
        return self.cache is not None and self.cache.holds(self._key(request))

    def _key(self, request: FrameRequest) -> str:
        return FrameCache.key(self._source, request.token, request.name)

    def frame(self, token: str, change: Change | None = None) -> Frame:
        """Read one keyframe.

        Args:
            token: The sample.
            change: Weather or a corruption: snapshot, rig and truth to another snapshot and the quality (5,) of each
                modality in it.
        """
        rig = self.reader.rig(token)
        _, assemble = self._assemblers.setdefault(id(rig), (rig, InputAssembler(self.spec, rig)))
        snapshot, boxes = self.reader.snapshot(token, self.spec), self.reader.truth(token)
        depth = self.reader.depth(token)
        if change is None:
            return make_frame(token, assemble(snapshot), boxes, rig, self.spec, depth)
        snapshot, quality = change(snapshot, rig, boxes)
        return replace(make_frame(token, assemble(snapshot), boxes, rig, self.spec, depth), quality=quality)

    def tokens(self, splits: tuple[str, ...]) -> list[str]:
        """Sample tokens of the named splits or scenes."""
        return [token for scene in scenes_of(self.reader, splits) for token in self.reader.samples(scene)]


class CachedFrames(Sequence[Frame]):
    """Frames that are read from the cache each time they are asked for: the process holds none of them.

    Args:
        reader: With a cache.
        requests: The frames, in order.
    """

    def __init__(self, reader: FrameReader, requests: list[FrameRequest]) -> None:
        self._reader, self._requests = reader, requests

    def __len__(self) -> int:
        return len(self._requests)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> "CachedFrames": ...

    def __getitem__(self, index: int | slice) -> "Frame | CachedFrames":
        if isinstance(index, slice):
            return CachedFrames(self._reader, self._requests[index])
        return self._reader.prepared(self._requests[index])

    def truth(self) -> list[Boxes3D]:
        """Return the boxes of all frames, without their inputs."""
        return [self._reader.truth(request) for request in self._requests]


def truth_of(frames: Sequence[Frame]) -> list[Boxes3D]:
    """Return boxes of all frames."""
    return frames.truth() if isinstance(frames, CachedFrames) else [frame.boxes for frame in frames]


_readers: list[FrameReader] = []
"""The reader of a worker process: inherited, because its tables are too large to be sent with every frame."""


def _prepared(request: FrameRequest) -> Frame:
    return _readers[-1].prepared(request)


def _frames(reader: FrameReader, requests: list[FrameRequest], workers: int) -> Sequence[Frame]:
    if reader.cache:
        return CachedFrames(reader, requests)
    if not workers:
        return [reader.prepared(one) for one in requests]
    with ProcessPoolExecutor(workers, get_context("fork"), begin_process, (_readers.append, (reader,))) as pool:
        return list(pool.map(_prepared, requests, chunksize=8))


def load_frames(
    root: Path,
    splits: tuple[str, ...],
    spec: ModelSpec,
    share: slice = slice(None),
    weather: tuple[str, ...] = (),
    seed: int = 0,
    cache: FrameCache | None = None,
    workers: int = 0,
) -> Sequence[Frame]:
    """Return frames of the named splits or scenes, or a `share` of them, in memory or on disk with a cache.

    Args:
        root: nuScenes folder.
        splits: Splits or scenes.
        spec: Model facts.
        share: Which of the frames.
        weather: Each frame is seen in one of these (`parse_condition`), drawn from the seed; none leaves it as it is.
        seed: Of the weather.
        cache: Keeps them on disk instead of in memory.
        workers: Processes that prepare them, where they are kept in memory.

    Raises:
        DataError: no such scenes.
        ConfigError: no such weather or corruption.
    """
    reader = FrameReader(root, spec, cache)
    frames = _frames(reader, weather_requests(reader.tokens(splits)[share], weather, seed), workers)
    log.info("%d frames of %s from %s", len(frames), _shortened(splits), root)
    return frames


def weather_requests(tokens: Sequence[str], weather: tuple[str, ...] = (), seed: int = 0) -> list[FrameRequest]:
    """Return what `load_frames` takes of samples: each as it is, or in a weather drawn from the seed."""
    choices = [(text, parse_condition(text)) for text in weather]
    requests = []
    for number, token in enumerate(tokens):
        one = FrameRequest(token)
        if choices:
            text, chosen = choices[int(np.random.default_rng((seed, number)).integers(len(choices)))]
            one = FrameRequest(token, f"weather {text} {seed + number}", partial(in_condition, chosen, seed + number))
        requests.append(one)
    return requests


def degraded_requests(tokens: Sequence[str], portion: float, seed: int) -> list[FrameRequest]:
    """Return what `load_degraded` takes of samples: a portion of them, each in some weather or under a corruption."""
    picked = np.random.default_rng((seed, 2)).permutation(len(tokens))[: round(portion * len(tokens))]
    return [
        FrameRequest(tokens[i], f"degraded {seed + int(i)}", partial(_degraded, seed + int(i))) for i in sorted(picked)
    ]


def _shortened(names: tuple[str, ...]) -> str:
    return "+".join(names) if len(names) <= MOST_NAMED else f"{names[0]}, {names[1]} ... ({len(names)})"


def load_degraded(
    root: Path,
    splits: tuple[str, ...],
    spec: ModelSpec,
    share: slice,
    portion: float,
    seed: int,
    cache: FrameCache | None = None,
    workers: int = 0,
) -> Sequence[Frame]:
    """Return a portion of the frames, each in some weather or under some corruption.

    They are made once: weather on six pictures takes many times as long as all other augmentation of a sample.
    """
    reader = FrameReader(root, spec, cache)
    frames = _frames(reader, degraded_requests(reader.tokens(splits)[share], portion, seed), workers)
    log.info("%d frames in weather or corrupted", len(frames))
    return frames


def _degraded(seed: int, snapshot: Snapshot, rig: Rig, boxes: Boxes3D) -> tuple[Snapshot, Float32Array]:
    return degraded(snapshot, rig, boxes, seed)
