# SPDX-License-Identifier: Apache-2.0
"""Detections of a bundle for any subset of sensors: the vehicle's own `Detector` on each keyframe."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.classes import DETECTING, MODALITIES, Modality
from peft_dml_ros.core.detector import Detections, Detector
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.core.params import DetectionParams
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.datasets.nuscenes import NuScenesReader
from peft_dml_ros.engines import load_engines
from peft_dml_train.data.dataset import scenes_of
from peft_dml_train.evaluation.official import open_devkit, result_rows, score

log = logging.getLogger(__name__)
ALL: tuple[Modality, ...] = MODALITIES
SUBSETS: dict[str, tuple[Modality, ...]] = {
    "all": ALL,
    "no lidar": ("camera", "radar", "imu", "gnss"),
    "no camera": ("lidar", "radar", "imu", "gnss"),
    "no radar": ("lidar", "camera", "imu", "gnss"),
    "no motion": ("lidar", "camera", "radar"),
    "lidar only": ("lidar",),
    "camera only": ("camera",),
    "radar only": ("radar",),
}
LOWEST_SCORE = 0.03


def parse_sensors(text: str) -> tuple[Modality, ...]:
    """Comma-separated modalities.

    Raises:
        ConfigError: an unknown one, or none that detects.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        if name not in MODALITIES:
            msg = f"unknown sensor '{name}'; {nearest(name, MODALITIES)}"
            raise ConfigError(msg)
    if not set(names) & set(DETECTING):
        msg = f"'{text}' holds none of {', '.join(DETECTING)}, which alone see objects"
        raise ConfigError(msg)
    return tuple(m for m in MODALITIES if m in names)


class BundleRunner:
    """A bundle's detector on keyframes of a nuScenes folder; one detector per calibration."""

    def __init__(self, bundle: Path, reader: NuScenesReader, threads: int = 2) -> None:
        self.bundle, self.reader = load_bundle(bundle), reader
        self.engines = load_engines(self.bundle, threads=threads)
        self.params = DetectionParams(score_threshold=LOWEST_SCORE, max_boxes=200)
        self._detectors: dict[int, tuple[Rig, Detector]] = {}

    def snapshots(self, scenes: Iterable[str]) -> Iterator[tuple[str, Snapshot]]:
        """Sample tokens and snapshots."""
        for scene in scenes:
            for token in self.reader.samples(scene):
                yield token, self.reader.snapshot(token, self.bundle.spec)

    def detect(self, token: str, snapshot: Snapshot, sensors: tuple[Modality, ...]) -> Detections:
        """Detections with these modalities only."""
        rig = self.reader.rig(token)
        if id(rig) not in self._detectors:
            self._detectors[id(rig)] = (rig, Detector(self.bundle, rig, self.engines, self.params, threads=1))
        return self._detectors[id(rig)][1](snapshot.without(*(m for m in MODALITIES if m not in sensors)))


def evaluate_bundle(
    bundle: Path, data: Path, splits: tuple[str, ...], subsets: dict[str, tuple[Modality, ...]], out: Path
) -> dict[str, dict[str, Any]]:
    """Official metrics of a bundle for each sensor subset.

    Args:
        bundle: Folder of the bundle.
        data: nuScenes folder.
        splits: Scenes to score.
        subsets: Modalities by name.
        out: Folder for results files and metrics.json.

    Returns:
        Metrics by subset name.
    """
    reader = NuScenesReader(data)
    runner = BundleRunner(bundle, reader)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in subsets}
    for token, snapshot in runner.snapshots(scenes_of(reader, splits)):
        pose = reader.global_SE3_base(token)
        for name, sensors in subsets.items():
            results[name][token] = result_rows(token, runner.detect(token, snapshot, sensors).boxes, pose)
    nusc = open_devkit(data, reader.version)
    metrics = {}
    for name, sensors in subsets.items():
        use = {f"use_{m}": m in sensors for m in DETECTING} | {"use_map": False, "use_external": False}
        metrics[name] = score(nusc, results[name], out / name.replace(" ", "_"), use)
        log.info("%s: mAP %.3f, car AP at 2 m %.3f", name, metrics[name]["mean_ap"], metrics[name]["ap"]["car"]["2.0"])
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    return metrics
