# SPDX-License-Identifier: Apache-2.0
"""Frames of a nuScenes folder, read once through the vehicle's own input path and kept in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from nuscenes.utils.splits import create_splits_scenes

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.inputs import InputAssembler
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import Float32Array
from peft_dml_ros.datasets.nuscenes import NuScenesReader
from peft_dml_ros.sim.weather import Weather
from peft_dml_train.data.frame import Frame, make_frame
from peft_dml_train.data.harm import harmed, in_weather

log = logging.getLogger(__name__)
Change: TypeAlias = Callable[[Snapshot, Rig, Boxes3D], tuple[Snapshot, Float32Array]]


def scenes_of(reader: NuScenesReader, names: tuple[str, ...]) -> list[str]:
    """Scenes of the named splits; without a split of that name, nuScenes' own; else scenes whose name starts so.

    Raises:
        DataError: nothing fits.
    """
    found: list[str] = []
    official = create_splits_scenes()
    for name in names:
        known = [s for s in official.get(name, ()) if s in reader.scenes]
        found += reader.splits.get(name, ()) or known or [s for s in reader.scenes if s.startswith(name)]
    if not found:
        msg = f"{reader.root} has no scenes for {names}; splits: {sorted(reader.splits)}, scenes: {reader.scenes[:5]}"
        raise DataError(msg)
    return list(dict.fromkeys(found))


class FrameReader:
    """Frames by sample token; one input assembler per calibration."""

    def __init__(self, root: Path, spec: ModelSpec) -> None:
        self.reader, self.spec = NuScenesReader(root), spec
        self._assemblers: dict[int, tuple[Rig, InputAssembler]] = {}

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
        if change is None:
            return make_frame(token, assemble(snapshot), boxes, rig, self.spec)
        snapshot, quality = change(snapshot, rig, boxes)
        return replace(make_frame(token, assemble(snapshot), boxes, rig, self.spec), quality=quality)

    def tokens(self, splits: tuple[str, ...]) -> list[str]:
        """Sample tokens of the named splits or scenes."""
        return [token for scene in scenes_of(self.reader, splits) for token in self.reader.samples(scene)]


def load_frames(
    root: Path,
    splits: tuple[str, ...],
    spec: ModelSpec,
    share: slice = slice(None),
    weather: tuple[str, ...] = (),
    seed: int = 0,
) -> list[Frame]:
    """Frames of the named splits, or every n-th of them.

    Args:
        root: nuScenes folder.
        splits: Splits or scenes.
        spec: Model facts.
        share: Which of the frames.
        weather: Each frame is seen in one of these (`Weather.parse`), drawn from the seed; none leaves it as it is.
        seed: Of the weather.

    Raises:
        DataError: no such scenes.
        ConfigError: no such weather.
    """
    reader = FrameReader(root, spec)
    choices = [Weather.parse(text) for text in weather]
    frames = []
    for number, token in enumerate(reader.tokens(splits)[share]):
        change: Change | None = None
        if choices:
            chosen = choices[int(np.random.default_rng((seed, number)).integers(len(choices)))]
            change = partial(_seen_in, chosen, seed + number)
        frames.append(reader.frame(token, change))
    log.info("%d frames of %s from %s", len(frames), "+".join(splits), root)
    return frames


def _seen_in(weather: Weather, seed: int, snapshot: Snapshot, rig: Rig, _: Boxes3D) -> tuple[Snapshot, Float32Array]:
    return in_weather(snapshot, rig, weather, seed)


def load_harmed(
    root: Path, splits: tuple[str, ...], spec: ModelSpec, share: slice, portion: float, seed: int
) -> list[Frame]:
    """A portion of the frames, each in some weather or under some corruption.

    They are made once, before the training: weather on six pictures takes a hundred times as long as all other
    augmentation of a sample.
    """
    reader = FrameReader(root, spec)
    tokens = reader.tokens(splits)[share]
    picked = np.random.default_rng((seed, 2)).permutation(len(tokens))[: round(portion * len(tokens))]
    frames = [
        reader.frame(tokens[i], lambda s, r, b, number=int(i): harmed(s, r, b, seed + number)) for i in sorted(picked)
    ]
    log.info("%d frames in weather or corrupted", len(frames))
    return frames
