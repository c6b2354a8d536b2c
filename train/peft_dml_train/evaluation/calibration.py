# SPDX-License-Identifier: Apache-2.0
"""Confidence calibration: one temperature per availability mask, fitted on validation scenes.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. A temperature keeps the order of the scores, so it
changes no AP, only what a threshold means when sensors are missing.
"""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import DETECTING, MODALITIES, Modality
from peft_dml_ros.datasets.nuscenes import NuScenesReader
from peft_dml_train.data.dataset import scenes_of
from peft_dml_train.evaluation.subsets import BundleRunner

MATCH_M = 2.0
FEWEST = 100
GRID = np.exp(np.linspace(np.log(0.25), np.log(6.0), 160))


def matched(boxes: Boxes3D, truth: Boxes3D) -> np.ndarray:
    """(N,) bool: which boxes, best first, find a truth box of their class within 2 m that none before them took."""
    taken = np.zeros(len(truth), dtype=bool)
    hits = np.zeros(len(boxes), dtype=bool)
    for i in range(len(boxes)):
        distance = np.hypot(*(truth.centers_m[:, :2] - boxes.centers_m[i, :2]).T)
        distance[taken | (truth.labels != boxes.labels[i])] = np.inf
        if len(distance) and distance.min() < MATCH_M:
            taken[distance.argmin()] = hits[i] = True
    return hits


def fit_temperature(scores: np.ndarray, hits: np.ndarray) -> float:
    """Temperature with the least negative log-likelihood."""
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    logits = np.log(clipped / (1 - clipped))[None] / GRID[:, None]
    loss = np.logaddexp(0, -logits) * hits + np.logaddexp(0, logits) * ~hits
    return float(GRID[loss.mean(axis=1).argmin()])


def expected_error(scores: np.ndarray, hits: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error."""
    place = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = [
        abs(scores[place == b].mean() - hits[place == b].mean()) * (place == b).mean()
        for b in range(bins)
        if (place == b).any()
    ]
    return float(np.sum(gaps))


def calibrate_bundle(bundle: Path, data: Path, splits: tuple[str, ...]) -> dict[str, Any]:
    """Temperatures by availability mask, as `calibration.json` holds them.

    IMU and GNSS do not detect: masks that differ in them alone share a temperature.
    """
    reader = NuScenesReader(data)
    runner = BundleRunner(bundle, reader)
    subsets: list[tuple[Modality, ...]] = [s for n in (1, 2, 3) for s in combinations(DETECTING, n)]
    found: dict[tuple[Modality, ...], list[tuple[np.ndarray, np.ndarray]]] = {s: [] for s in subsets}
    for token, snapshot in runner.snapshots(scenes_of(reader, splits)):
        truth = reader.truth(token, keep_unseen=True)
        for subset in subsets:
            boxes = runner.detect(token, snapshot, (*subset, "imu", "gnss")).boxes
            found[subset].append((boxes.scores, matched(boxes, truth)))
    temperatures, quality = {}, {}
    for subset, entries in found.items():
        scores = np.concatenate([s for s, _ in entries])
        hits = np.concatenate([h for _, h in entries])
        fitted = len(scores) >= FEWEST
        temperature = fit_temperature(scores, hits) if fitted else 1.0
        clipped = np.clip(scores, 1e-6, 1 - 1e-6)
        after = 1 / (1 + ((1 - clipped) / clipped) ** (1 / temperature))
        quality["+".join(subset)] = {
            "boxes": len(scores),
            "fitted": fitted,
            "ece_before": round(expected_error(scores, hits), 4) if fitted else None,
            "ece_after": round(expected_error(after, hits), 4) if fitted else None,
        }
        for imu, gnss in product("01", repeat=2):
            key = "".join("1" if m in subset else "0" for m in DETECTING) + imu + gnss
            temperatures[key] = round(temperature, 4)
    return {"method": "temperature", "order": list(MODALITIES), "temperature": temperatures, "measured": quality}
