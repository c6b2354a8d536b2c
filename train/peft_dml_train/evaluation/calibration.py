# SPDX-License-Identifier: Apache-2.0
"""Confidence calibration: one temperature per availability mask, fitted on validation scenes.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. A temperature keeps the order of the scores, so it
changes no AP, only what a threshold means when sensors are missing.
"""

from collections.abc import Callable
from itertools import combinations, cycle, product
from pathlib import Path
from typing import Any

import numpy as np

from peft_dml_ros.core.adapter_mix import DEFAULT
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import DETECTING, MODALITIES, Modality
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.typing import AnyArray, BoolArray
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.data.dataset import scenes_of
from peft_dml_train.evaluation.conditions import CLEAR, parse_condition
from peft_dml_train.evaluation.subsets import BundleRunner

MATCH_M = 2.0
FEWEST = 100
GRID = np.exp(np.linspace(np.log(0.25), np.log(6.0), 160))


def assigned(boxes: Boxes3D, truth: Boxes3D, within_m: float = MATCH_M) -> AnyArray:
    """Assign to each box, best first, the nearest truth box of its class within a distance that none before it took.

    Returns:
        (N,) int64 row of the truth, -1 for none.
    """
    taken = np.zeros(len(truth), dtype=bool)
    found = np.full(len(boxes), -1, dtype=np.int64)
    for i in range(len(boxes)):
        distance = np.hypot(*(truth.centers_m[:, :2] - boxes.centers_m[i, :2]).T)
        distance[taken | (truth.labels != boxes.labels[i])] = np.inf
        if len(distance) and distance.min() < within_m:
            found[i] = distance.argmin()
            taken[found[i]] = True
    return found


def matched(boxes: Boxes3D, truth: Boxes3D) -> BoolArray:
    """Return (N,) bool: which boxes `assigned` gives a truth box."""
    hits: BoolArray = assigned(boxes, truth) >= 0
    return hits


def fit_temperature(scores: AnyArray, hits: BoolArray) -> float:
    """Return the temperature with the least negative log-likelihood."""
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    logits = np.log(clipped / (1 - clipped))[None] / GRID[:, None]
    loss = np.logaddexp(0, -logits) * hits + np.logaddexp(0, logits) * ~hits
    return float(GRID[loss.mean(axis=1).argmin()])


def expected_error(scores: AnyArray, hits: BoolArray, bins: int = 15) -> float:
    """Return the expected calibration error."""
    place = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = [
        abs(scores[place == b].mean() - hits[place == b].mean()) * (place == b).mean()
        for b in range(bins)
        if (place == b).any()
    ]
    return float(np.sum(gaps))


def calibrate_bundle(
    bundle: Path,
    data: Path,
    splits: tuple[str, ...],
    weathers: tuple[str, ...] = (),
    adapter: str = DEFAULT,
    watch: Callable[[Snapshot], None] = lambda _: None,
) -> dict[str, Any]:
    """Return temperatures by availability mask, as `calibration.json` holds them.

    IMU and GNSS do not detect: masks that differ in them alone share a temperature, which gives 28; the other three of
    the 31 masks hold nothing that detects, and there are no boxes to weigh. A subset with too few boxes takes the
    temperature of the one that differs in the fewest sensors.

    Args:
        bundle: Folder of the bundle.
        data: nuScenes folder.
        splits: Validation scenes.
        adapter: With which of its adapters.
        weathers: The frames take these in turn, weather or corruptions, as in the fine-tuning; clear air without any.
        watch: Called with every frame, in its weather.
    """
    reader = NuScenesReader(data)
    runner = BundleRunner(bundle, reader, adapter=adapter)
    subsets: list[tuple[Modality, ...]] = [s for n in (1, 2, 3) for s in combinations(DETECTING, n)]
    found: dict[tuple[Modality, ...], list[tuple[AnyArray, BoolArray]]] = {s: [] for s in subsets}
    turns = cycle([parse_condition(text) for text in weathers] or [CLEAR])
    for token, _, clear in runner.snapshots(scenes_of(reader, splits)):
        truth = reader.truth(token, keep_unseen=True)
        assert isinstance(clear, Snapshot), "the runner has no cache"  # noqa: S101
        snapshot = next(turns).apply(clear, reader.rig(token), None, truth)
        watch(snapshot)
        for subset in subsets:
            boxes = runner.detect(token, snapshot, (*subset, "imu", "gnss")).boxes
            found[subset].append((boxes.scores, matched(boxes, truth)))
    temperatures, quality = {}, {}
    for subset, entries in found.items():
        scores, hits = (np.concatenate(column) for column in zip(*entries, strict=True))
        temperatures[subset], quality["+".join(subset)] = _fit(scores, hits)
    given = {m: t for m, t in temperatures.items() if t is not None}
    masks = {}
    for subset in temperatures:
        # Its own, or where none was found that of the subset that differs in the fewest sensors.
        near = min(given, key=lambda other: len({*subset} ^ {*other}), default=subset)
        for imu, gnss in product("01", repeat=2):
            masks["".join("1" if m in subset else "0" for m in DETECTING) + imu + gnss] = round(given.get(near, 1.0), 4)
    return {"method": "temperature", "order": list(MODALITIES), "temperature": masks, "measured": quality}


def _fit(scores: AnyArray, hits: BoolArray) -> tuple[float | None, dict[str, Any]]:
    """Return the temperature, none for too few boxes, and how well the scores fit without and with it."""
    if len(scores) < FEWEST:
        return None, {"boxes": len(scores), "fitted": False, "ece_before": None, "ece_after": None}
    temperature = fit_temperature(scores, hits)
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    after = 1 / (1 + ((1 - clipped) / clipped) ** (1 / temperature))
    before, fitted = (round(expected_error(s, hits), 4) for s in (scores, after))
    return temperature, {"boxes": len(scores), "fitted": True, "ece_before": before, "ece_after": fitted}
