# SPDX-License-Identifier: Apache-2.0
"""Frames of a nuScenes folder, read once through the vehicle's own input path and kept in memory."""

from __future__ import annotations

import logging
from pathlib import Path

from nuscenes.utils.splits import create_splits_scenes

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.inputs import InputAssembler
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.datasets.nuscenes import NuScenesReader
from peft_dml_train.data.frame import Frame, make_frame

log = logging.getLogger(__name__)


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

    def frame(self, token: str) -> Frame:
        """Read one keyframe."""
        rig = self.reader.rig(token)
        _, assemble = self._assemblers.setdefault(id(rig), (rig, InputAssembler(self.spec, rig)))
        inputs = assemble(self.reader.snapshot(token, self.spec))
        return make_frame(token, inputs, self.reader.truth(token), rig, self.spec)

    def tokens(self, splits: tuple[str, ...]) -> list[str]:
        """Sample tokens of the named splits or scenes."""
        return [token for scene in scenes_of(self.reader, splits) for token in self.reader.samples(scene)]


def load_frames(root: Path, splits: tuple[str, ...], spec: ModelSpec, share: slice = slice(None)) -> list[Frame]:
    """Frames of the named splits, or every n-th of them.

    Raises:
        DataError: no such scenes.
    """
    reader = FrameReader(root, spec)
    frames = [reader.frame(token) for token in reader.tokens(splits)[share]]
    log.info("%d frames of %s from %s", len(frames), "+".join(splits), root)
    return frames
