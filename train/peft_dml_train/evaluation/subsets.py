# SPDX-License-Identifier: Apache-2.0
"""Detections of a bundle for any subset of sensors: the vehicle's own `Detector` on each keyframe."""

import logging
import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from nuscenes import NuScenes

from peft_dml_ros.core.adapter_mix import DEFAULT
from peft_dml_ros.core.bundle import Bundle, load_bundle
from peft_dml_ros.core.classes import CLASSES, DETECTING, MODALITIES, Modality
from peft_dml_ros.core.detector import Detections, Detector
from peft_dml_ros.core.engine import Engine, EngineArray
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.params import DetectionParams
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.typing import AnyArray
from peft_dml_ros.engines import load_engines
from peft_dml_tools.atomic_files import write_json
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.nuscenes_scores import RANGES_M, open_devkit, result_rows, score
from peft_dml_train.data.cache import FrameCache
from peft_dml_train.data.dataset import scenes_of
from peft_dml_train.evaluation.conditions import CLEAR, Condition
from peft_dml_train.evaluation.prepared import PreparedFrames, PreparedSnapshot

log = logging.getLogger(__name__)
#: Metrics by condition and sensor subset, as `official.score` gives them
Scores: TypeAlias = dict[str, dict[str, dict[str, Any]]]

LOWEST_SCORE = 0.03
DEFAULT_ENGINE = "onnxruntime"


class RememberingEngine:
    """An encoder that gives its last answer again when asked the same: the subsets of a frame share their encoders."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._feeds: dict[str, AnyArray] = {}
        self._answer: dict[str, AnyArray] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __call__(self, feeds: Mapping[str, EngineArray]) -> dict[str, AnyArray]:
        """Run the engine, unless its inputs are those of the last run."""
        known = self._feeds.keys() == feeds.keys()
        if not (known and all(np.array_equal(np.asarray(feeds[name]), value) for name, value in self._feeds.items())):
            self._answer = self._engine(feeds)
            self._feeds = {name: np.array(value) for name, value in feeds.items()}
        return self._answer

    start = __call__


class BundleRunner:
    """A bundle's detector on keyframes of a nuScenes folder; one detector per calibration."""

    def __init__(
        self,
        bundle: Path,
        reader: NuScenesReader,
        threads: int = 2,
        engine: str = DEFAULT_ENGINE,
        cache: FrameCache | None = None,
        adapter: str = DEFAULT,
        precision: str = "",
    ) -> None:
        loaded = load_bundle(bundle, adapter=adapter)
        self.start(loaded, load_engines(loaded, engine, threads, precision), reader, cache)

    def start(
        self, bundle: Bundle, engines: Mapping[str, Engine], reader: NuScenesReader, cache: FrameCache | None = None
    ) -> None:
        """Take the parts, wherever they come from; with a cache, conditions of a frame are made once for all runs."""
        self.bundle, self.reader = bundle, reader
        self._prepared = PreparedFrames(reader, bundle.spec, cache) if cache else None
        self.engines = {name: e if name == "fusion" else RememberingEngine(e) for name, e in engines.items()}
        self.params = DetectionParams(score_threshold=LOWEST_SCORE, max_boxes=200)
        self._detectors: dict[int, tuple[Rig, Detector]] = {}

    def snapshots(
        self, scenes: Iterable[str], conditions: Iterable[Condition] = (CLEAR,), wanted: Container[str] | None = None
    ) -> Iterator[tuple[str, Condition, Snapshot | PreparedSnapshot]]:
        """Sample tokens and snapshots, each under every condition; only the wanted tokens, if some are named."""
        looks = tuple(conditions)
        for scene in scenes:
            previous: Any = None
            for token in self.reader.samples(scene):
                now = token if self._prepared else self.reader.snapshot(token, self.bundle.spec)
                if wanted is None or token in wanted:
                    yield from ((token, look, self._under(look, token, now, previous)) for look in looks)
                previous = now

    def _under(self, look: Condition, token: str, now: Any, previous: Any) -> Snapshot | PreparedSnapshot:
        """Return a keyframe under a condition: from the cache, by its token and the one before, or from snapshots."""
        if self._prepared:
            return self._prepared.snapshot(token, previous, look)
        return look.apply(now, self.reader.rig(token), previous, self.reader.truth(token, keep_unseen=True))

    def detect(self, token: str, snapshot: Snapshot | PreparedSnapshot, sensors: tuple[Modality, ...]) -> Detections:
        """Return detections with these modalities only."""
        rig = self.reader.rig(token)
        if id(rig) not in self._detectors:
            self._detectors[id(rig)] = (rig, Detector(self.bundle, rig, self.engines, self.params, threads=1))
        detector, seen = self._detectors[id(rig)][1], snapshot.without(*(m for m in MODALITIES if m not in sensors))
        return detector.detect(seen.inputs, seen.stamp_ns) if isinstance(seen, PreparedSnapshot) else detector(seen)


def refuse_other_classes(bundle: Bundle, wanted: tuple[str, ...], where: str) -> None:
    """Refuse a bundle with other classes, or in another order, than wanted. Raises ConfigError: names what differs."""
    mine = bundle.spec.classes
    if mine != wanted:
        lacks, adds = [c for c in wanted if c not in mine], [c for c in mine if c not in wanted]
        parts = [f"lacks {', '.join(lacks)}"] if lacks else []
        parts += [f"has {', '.join(adds)}"] if adds else []
        msg = f"bundle {bundle.path} has other classes than {where}: it {' and '.join(parts) or 'has another order'}"
        raise ConfigError(f"{msg}; fix: evaluate it with the recipe it was trained by")


def evaluate_bundle(
    bundle: Path,
    data: Path,
    splits: tuple[str, ...],
    subsets: dict[str, tuple[Modality, ...]],
    out: Path,
    conditions: tuple[Condition, ...] = (CLEAR,),
    engine: str = DEFAULT_ENGINE,
    cache: FrameCache | None = None,
    adapter: str = DEFAULT,
    precision: str = "",
    ranges_m: tuple[tuple[float, float], ...] = RANGES_M,
    every: int = 1,
) -> Scores:
    """Return the official metrics of a bundle by condition and sensor subset; results files go to `out`.

    `engine` runs the graphs in a `precision` that the bundle holds, its own when empty; `adapter` is as in
    `core.adapter_mix.parse_mix`. The figures of `ranges_m`, distances, take as long as all others together. With
    `every`, so many keyframes of a scene stand for one that is scored: neighbours are much alike.

    Raises ConfigError: the bundle detects other classes than the devkit scores.
    """
    reader = NuScenesReader(data)
    runner = BundleRunner(bundle, reader, engine=engine, cache=cache, adapter=adapter, precision=precision)
    refuse_other_classes(runner.bundle, CLASSES, "nuscenes-devkit")
    nusc = open_devkit(data, reader.version)
    scenes = scenes_of(reader, splits)
    wanted = None if every == 1 else {token for scene in scenes for token in reader.samples(scene)[::every]}
    scores = evaluate_runner(runner, nusc, scenes, subsets, out, conditions, wanted, ranges_m)
    write_json(out / "metrics.json", scores)
    return scores


def evaluate_runner(
    runner: BundleRunner,
    nusc: NuScenes,
    scenes: Iterable[str],
    subsets: dict[str, tuple[Modality, ...]],
    out: Path,
    conditions: tuple[Condition, ...] = (CLEAR,),
    wanted: Container[str] | None = None,
    ranges_m: tuple[tuple[float, float], ...] = RANGES_M,
    *,
    by_scene: bool = False,
    farthest_m: float = math.inf,
) -> Scores:
    """Return the official metrics of anything that detects in keyframes; more arguments are those of `evaluate_bundle`.

    `wanted` are the sample tokens to score, all without it. `by_scene` scores each scene alone as well, as `scenes` of
    the metrics: NDS by scene. Boxes beyond `farthest_m` do not count, where the class's own range is longer.
    """
    results: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {
        (str(condition), name): {} for condition in conditions for name in subsets
    }
    for token, condition, snapshot in runner.snapshots(scenes, conditions, wanted):
        pose = runner.reader.global_SE3_base(token)
        for name, sensors in subsets.items():
            boxes = runner.detect(token, snapshot, sensors).boxes
            results[str(condition), name][token] = result_rows(token, boxes, pose)
    scores: Scores = {str(condition): {} for condition in conditions}
    for (look, name), rows in results.items():
        use = {f"use_{m}": m in subsets[name] for m in DETECTING} | {"use_map": False, "use_external": False}
        folder = out / re.sub(r"[^\w.=-]+", "_", look) / name.replace(" ", "_")
        scores[look][name] = m = score(nusc, rows, folder, use, ranges_m, farthest_m)
        if by_scene:
            m["scenes"] = _by_scene(runner.reader, nusc, rows, folder, use, farthest_m)
        log.info("%s, %s: mAP %.3f, NDS %.3f", look, name, m["mean_ap"], m["nd_score"])
    return scores


def _by_scene(
    reader: NuScenesReader,
    nusc: NuScenes,
    rows: dict[str, list[dict[str, Any]]],
    folder: Path,
    use: dict[str, bool],
    farthest_m: float,
) -> dict[str, float]:
    scenes: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for token, found in rows.items():
        scenes.setdefault(reader.scene_of(token), {})[token] = found
    return {
        name: float(score(nusc, part, folder / name, use, (), farthest_m)["nd_score"]) for name, part in scenes.items()
    }
