# SPDX-License-Identifier: Apache-2.0
"""Scores of a network as it is in memory, by the vehicle's own detector and the devkit's own evaluation."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from peft_dml_evidence.cells import Cell, subsets_of
from peft_dml_evidence.frame_conditions import parse_frame_condition
from peft_dml_evidence.scenes import SceneFolder, keyframes
from peft_dml_evidence.training import CellBench
from peft_dml_ros.core.classes import CLASSES
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.data.cache import FrameCache
from peft_dml_train.evaluation.report import summary
from peft_dml_train.evaluation.subsets import BundleRunner, evaluate_runner
from peft_dml_train.evaluation.torch_engine import bundle_in_memory, torch_engines
from peft_dml_train.network import PeftDmlNetwork


class NetworkRunner(BundleRunner):
    """A network's detector on keyframes of a nuScenes folder."""

    def __init__(
        self, network: PeftDmlNetwork, reader: NuScenesReader, device: str = "cpu", cache: FrameCache | None = None
    ) -> None:
        self.start(bundle_in_memory(network), torch_engines(network, device), reader, cache)


#: Looks times subsets of a cell up to which each scene is scored alone, for the intervals of comparisons
MOST_BY_SCENE = 12


def score_cell(
    cell: Cell, network: PeftDmlNetwork, folder: SceneFolder, scenes: tuple[str, ...], bench: CellBench
) -> dict[str, Any]:
    """Return the official figures of a cell.

    Returns:
        `scores` by look and subset (map, nds, the five errors, and AP by class as its mean over the four distances),
        `scenes` likewise (NDS by scene; empty where there are too many),
        `keyframes` that were scored, `objects` by class in them.
    """
    runner = NetworkRunner(network, folder.reader, bench.setting.device, bench.cache)
    wanted = keyframes(folder, scenes, bench.setting.frames)
    looks = tuple(parse_frame_condition(text) for text in cell.looks)
    with tempfile.TemporaryDirectory() as out:
        found = evaluate_runner(
            runner,
            folder.devkit,
            scenes,
            subsets_of(cell.subsets),
            Path(out),
            looks,  # type: ignore[arg-type]
            wanted,
            ranges_m=(),
            farthest_m=network.spec.grid.half_range_m,
            by_scene=len(looks) * len(cell.subsets) <= MOST_BY_SCENE,
        )
    first = next(iter(next(iter(found.values())).values()))
    scores = {look: {subset: figures(m) for subset, m in by.items()} for look, by in found.items()}
    apart = {
        look: {s: {k: round(v, 4) for k, v in m["scenes"].items()} for s, m in by.items() if "scenes" in m}
        for look, by in found.items()
    }
    return {"scores": scores, "scenes": apart, "keyframes": len(wanted), "objects": first["objects"]}


def figures(metrics: dict[str, Any]) -> dict[str, Any]:
    """Round the devkit's figures: `map`, `nds`, the five errors, `ap` by class as its mean over the distances."""
    ap = {c: round(float(np.mean(list(metrics["ap"][c].values()))), 5) for c in CLASSES}
    return {**{name: round(value, 5) for name, value in summary(metrics).items()}, "ap": ap}
