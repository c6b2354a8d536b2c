# SPDX-License-Identifier: Apache-2.0
"""Scores by nuscenes-devkit's own detection evaluation, on any set of keyframes."""

import contextlib
import io
import json
import math
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from nuscenes import NuScenes
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import (
    add_center_dist,
    filter_eval_boxes,
    load_gt_of_sample_tokens,
    load_prediction_of_sample_tokens,
)
from nuscenes.eval.detection.algo import accumulate, calc_ap
from nuscenes.eval.detection.data_classes import DETECTION_NAMES, DetectionBox
from nuscenes.eval.detection.evaluate import DetectionEval

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import ATTRIBUTES, CLASSES
from peft_dml_ros.core.geometry import SE3

CONFIG = "detection_cvpr_2019"
MOST_BOXES = 500
#: Distances from the vehicle; the devkit itself ends at 30 to 50 m, by class
RANGES_M = ((0.0, 20.0), (20.0, 30.0), (30.0, 50.0))


_TRUTH: WeakKeyDictionary[NuScenes, dict[tuple[float, tuple[str, ...]], EvalBoxes]] = WeakKeyDictionary()


class SampleEval(DetectionEval):
    """The devkit's evaluation of given keyframes: what it does for a custom split, without a file in the data set."""

    def __init__(
        self, nusc: NuScenes, result_path: Path, tokens: list[str], folder: Path, farthest_m: float = math.inf
    ) -> None:
        self.nusc, self.result_path, self.eval_set, self.output_dir = nusc, str(result_path), "given", str(folder)
        self.verbose, self.cfg, self._farthest_m = False, config_factory(CONFIG), farthest_m
        self.cfg.class_range = {name: min(own, farthest_m) for name, own in self.cfg.class_range.items()}
        self.plot_dir = str(folder / "plots")
        self.pred_boxes, self.meta = load_prediction_of_sample_tokens(
            self.result_path, self.cfg.max_boxes_per_sample, DetectionBox, sample_tokens=tokens, verbose=False
        )
        self.pred_boxes, self.gt_boxes = self._filtered(self.pred_boxes), self._truth(tokens)
        self.sample_tokens = self.gt_boxes.sample_tokens

    def _truth(self, tokens: list[str]) -> EvalBoxes:
        """Return the truth of these keyframes; kept for the next set of results, which mostly has the same ones."""
        known = _TRUTH.setdefault(self.nusc, {})
        wanted = (self._farthest_m, tuple(sorted(tokens)))
        if wanted not in known:
            known.clear()
            known[wanted] = self._filtered(load_gt_of_sample_tokens(self.nusc, tokens, DetectionBox, verbose=False))
        return known[wanted]

    def _filtered(self, boxes: EvalBoxes) -> EvalBoxes:
        # The devkit cannot filter an empty set.
        return (
            filter_eval_boxes(self.nusc, add_center_dist(self.nusc, boxes), self.cfg.class_range)
            if boxes.all
            else boxes
        )

    def within(self, nearest_m: float, farthest_m: float) -> dict[str, Any]:
        """Return AP by class among the truth and the predictions at these distances; only classes that occur there.

        The vehicle's distance decides for a prediction too: one on the other side of the border counts as missing.
        """
        truth, found = (_part(boxes, nearest_m, farthest_m) for boxes in (self.gt_boxes, self.pred_boxes))
        names = [box.detection_name for box in truth.all]
        ap = {}
        for name in [c for c in CLASSES if c in names]:
            curves = [accumulate(truth, found, name, self.cfg.dist_fcn_callable, d) for d in self.cfg.dist_ths]
            ap[name] = float(np.mean([calc_ap(c, self.cfg.min_recall, self.cfg.min_precision) for c in curves]))
        mean = float(np.mean(list(ap.values()))) if ap else None
        return {"mean_ap": mean, "ap": ap, "objects": {c: names.count(c) for c in CLASSES}}


def _part(boxes: EvalBoxes, nearest_m: float, farthest_m: float) -> EvalBoxes:
    part = EvalBoxes()
    for token in boxes.sample_tokens:
        part.add_boxes(token, [b for b in boxes[token] if nearest_m <= b.ego_dist < farthest_m])
    return part


def result_rows(token: str, boxes: Boxes3D, global_SE3_base: SE3) -> list[dict[str, Any]]:
    """Return boxes of one keyframe, of the devkit's classes, as it wants them: global frame, (w, l, h), wxyz."""
    turned = boxes[:MOST_BOXES].transform(global_SE3_base)
    rows = []
    for i in (i for i, label in enumerate(turned.labels) if CLASSES[label] in DETECTION_NAMES):
        length, width, height = turned.sizes_m[i]
        half = turned.yaws_rad[i] / 2
        attribute = int(turned.attributes[i])
        rows.append(
            {
                "sample_token": token,
                "translation": [float(v) for v in turned.centers_m[i]],
                "size": [float(width), float(length), float(height)],
                "rotation": [float(np.cos(half)), 0.0, 0.0, float(np.sin(half))],
                "velocity": [float(v) for v in turned.velocities_mps[i]],
                "detection_name": CLASSES[int(turned.labels[i])],
                "detection_score": float(turned.scores[i]),
                "attribute_name": ATTRIBUTES[attribute] if attribute >= 0 else "",
            }
        )
    return rows


def open_devkit(root: Path, version: str) -> NuScenes:
    """Return the devkit's tables."""
    return NuScenes(version=version, dataroot=str(root), verbose=False)


def score(
    nusc: NuScenes,
    results: dict[str, list[dict[str, Any]]],
    folder: Path,
    modalities: dict[str, bool],
    ranges_m: tuple[tuple[float, float], ...] = RANGES_M,
    farthest_m: float = math.inf,
) -> dict[str, Any]:
    """Return the official metrics.

    Args:
        nusc: Tables with the truth.
        results: Rows by sample token; a keyframe without boxes has an empty list.
        folder: Where the results file is written.
        modalities: `use_lidar`, `use_camera` ... of the results' meta data.
        ranges_m: Distances for `ranges`.
        farthest_m: Boxes farther away do not count, where the class's own range is longer.

    Returns:
        mean_ap, nd_score, tp_errors, ap (class -> distance -> AP), class_errors (class -> error, None where the devkit
        defines none), ranges (see `SampleEval.within`), objects (class -> number of truth boxes).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    path.write_text(json.dumps({"meta": modalities, "results": results}))
    # The devkit shows progress bars even with verbose=False.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        evaluation = SampleEval(nusc, path, list(results), folder, farthest_m)
        metrics, _ = evaluation.evaluate()
        ranges = {f"{near:g}-{far:g} m": evaluation.within(near, far) for near, far in ranges_m}
    summary = metrics.serialize()
    names = [box.detection_name for box in evaluation.gt_boxes.all]
    return {
        "mean_ap": summary["mean_ap"],
        "nd_score": summary["nd_score"],
        "tp_errors": summary["tp_errors"],
        "ap": {c: {str(d): float(ap) for d, ap in by.items()} for c, by in summary["label_aps"].items()},
        "class_errors": {
            c: {e: None if np.isnan(v) else float(v) for e, v in errors.items()}
            for c, errors in summary["label_tp_errors"].items()
        },
        "ranges": ranges,
        "objects": {c: names.count(c) for c in CLASSES},
    }
