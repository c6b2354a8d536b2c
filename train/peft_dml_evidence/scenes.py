# SPDX-License-Identifier: Apache-2.0
"""Which scenes a cell means, and what identifies a data folder."""

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from nuscenes import NuScenes

from peft_dml_evidence.cells import Kind, ScenePick
from peft_dml_ros.core.errors import DataError
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.nuscenes_scores import open_devkit
from peft_dml_train.config import SplitConfig
from peft_dml_train.data.dataset import scenes_of
from peft_dml_train.data.digest import digest

FAST_MPS = 8.0  #: Mean speed of a scene from which on it counts as fast


def town(location: str) -> str:
    """Return the town of a nuScenes map: `singapore-onenorth` lies in `singapore`."""
    return location.partition("-")[0]


@dataclass
class SceneFolder:
    """A nuScenes folder, opened once for all cells."""

    root: Path  #: The folder
    _speeds: dict[str, float] = field(default_factory=dict)

    @cached_property
    def reader(self) -> NuScenesReader:
        """The vehicle's reader."""
        return NuScenesReader(self.root)

    @cached_property
    def devkit(self) -> NuScenes:
        """The devkit's tables."""
        return open_devkit(self.root, self.reader.version)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What tells this data from other data; holds no path."""
        about = next(iter(sorted(self.root.glob("*/simulate.json"))), None)
        settings = json.loads(about.read_text()) if about else {}
        scenes = {scene: len(self.reader.samples(scene)) for scene in self.reader.scenes}
        return {
            "folder": self.root.name,
            "version": self.reader.version,
            "seed": settings.get("seed"),
            "settings": settings,
            "simulated": bool(about),
            "scenes": len(scenes),
            "keyframes": sum(scenes.values()),
            "hash": digest([self.reader.version, settings, scenes, self.reader.splits]),
        }

    def speed_mps(self, scene: str) -> float:
        """Return the mean speed of the vehicle over a scene's keyframes."""
        if scene not in self._speeds:
            tokens = self.reader.samples(scene)
            places = np.array([self.reader.global_SE3_base(t).translation[:2] for t in tokens])
            seconds = (self.reader.stamp_ns(tokens[-1]) - self.reader.stamp_ns(tokens[0])) * 1e-9
            way = float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())
            self._speeds[scene] = way / seconds if seconds else 0.0
        return self._speeds[scene]

    def scenes(self, pick: ScenePick, splits: SplitConfig) -> tuple[str, ...]:
        """Return names of the picked scenes, in order. Raises DataError: there are none."""
        found = scenes_of(self.reader, getattr(splits, pick.split))
        if pick.kind != "any":
            home = self._home(splits) if pick.kind in {"city", "other_city"} else ""
            found = [s for s in found if self._is(s, pick.kind, home)]
        if not found:
            msg = f"{self.root} has no scenes of kind '{pick.kind}' in split '{pick.split}'; fix: simulate more scenes"
            raise DataError(msg)
        if pick.most and pick.most < len(found):
            found = [found[i] for i in np.linspace(0, len(found) - 1, pick.most).astype(int)]
        return tuple(found)

    def _home(self, splits: SplitConfig) -> str:
        """Return the town that most training scenes come from."""
        towns = Counter(town(self.reader.location(s)) for s in scenes_of(self.reader, splits.train))
        return towns.most_common(1)[0][0]

    def _is(self, scene: str, kind: Kind, home: str) -> bool:
        if kind in {"city", "other_city"}:
            return (town(self.reader.location(scene)) == home) == (kind == "city")
        return (self.speed_mps(scene) >= FAST_MPS) == (kind == "fast")


def keyframes(folder: SceneFolder, scenes: tuple[str, ...], most: int) -> frozenset[str]:
    """Sample tokens of these scenes, at most so many, taken evenly; 0 for all."""
    tokens = [token for scene in scenes for token in folder.reader.samples(scene)]
    if most and most < len(tokens):
        tokens = [tokens[i] for i in np.linspace(0, len(tokens) - 1, most).astype(int)]
    return frozenset(tokens)
