# SPDX-License-Identifier: Apache-2.0
"""Accuracy against truth by the nuscenes-devkit's own matching and averaging, at its official detection settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import ATTRIBUTES, CLASSES
from peft_dml_ros.core.geometry import SE3
from peft_dml_tools.evaluation.recording import RecordedFrame

SETTINGS = "detection_cvpr_2019"  #: The devkit's settings of the official nuScenes detection benchmark


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy over a set of frames."""

    frames: int  #: Frames with truth
    mean_ap: float | None  #: Mean over classes with truth and over matching distances; None when it cannot be computed
    ap: dict[str, dict[float, float]]  #: Average precision by class, then by matching distance in metres
    recall_2m: dict[str, float]  #: Share of true boxes matched within 2 m by a box of any score, by class
    truth: dict[str, int]  #: Number of true boxes by class, inside the class's range
    absent: tuple[str, ...]  #: Classes without any true box, left out of the mean
    reason: str = ""  #: Why `mean_ap` is None; empty otherwise


def score(frames: Sequence[RecordedFrame]) -> Score:
    """Score frames that have truth; each frame is matched on its own, in its own `base_link`."""
    known = [(str(i), frame) for i, frame in enumerate(frames) if frame.truth is not None]
    if not known:
        return Score(0, None, {}, {}, {}, CLASSES, "no frame of this kind has true boxes")
    try:
        devkit = _Devkit()
    except ModuleNotFoundError as error:
        reason = f"the Python module '{error.name}' is missing; install it: pip install 'peft_dml_ros[demo]'"
        return Score(len(known), None, {}, {}, {}, (), reason)
    truth = devkit.boxes({token: frame.truth or Boxes3D.empty() for token, frame in known})
    found = devkit.boxes({token: frame.boxes for token, frame in known})
    counts = {name: sum(box.detection_name == name for box in truth.all) for name in CLASSES}
    present = [name for name in CLASSES if counts[name]]
    ap, recall = {}, {}
    for name in present:
        ap[name], recall[name] = devkit.average_precision(truth, found, name)
    mean_ap = float(np.mean([list(by_distance.values()) for by_distance in ap.values()])) if ap else None
    return Score(
        frames=len(known),
        mean_ap=mean_ap,
        ap=ap,
        recall_2m=recall,
        truth={name: counts[name] for name in present},
        absent=tuple(name for name in CLASSES if not counts[name]),
        reason="" if ap else "no true box is inside its class's range",
    )


class _Devkit:
    """The few functions of nuscenes-devkit that match and average boxes; imported late, since it takes seconds."""

    def __init__(self) -> None:
        self._algo: Any = import_module("nuscenes.eval.detection.algo")
        self._distance: Any = import_module("nuscenes.eval.common.utils").center_distance
        self._box: Any = import_module("nuscenes.eval.detection.data_classes").DetectionBox
        self._many: Any = import_module("nuscenes.eval.common.data_classes").EvalBoxes
        self._config: Any = import_module("nuscenes.eval.common.config").config_factory(SETTINGS)

    def boxes(self, by_token: dict[str, Boxes3D]) -> Any:
        """Return the devkit boxes per sample, those outside their class's range left out as the devkit does."""
        many = self._many()
        for token, boxes in by_token.items():
            many.add_boxes(token, [self._convert(token, boxes, i) for i in range(len(boxes)) if self._near(boxes, i)])
        return many

    def average_precision(self, truth: Any, found: Any, name: str) -> tuple[dict[float, float], float]:
        """Average precision of a class by matching distance, and the recall it reaches at 2 m."""
        by_distance, recall = {}, 0.0
        for distance_m in self._config.dist_ths:
            data = self._algo.accumulate(truth, found, name, self._distance, distance_m)
            by_distance[distance_m] = self._algo.calc_ap(data, self._config.min_recall, self._config.min_precision)
            if distance_m == 2.0:
                recall = data.max_recall_ind / (len(data.recall) - 1)
        return by_distance, recall

    def _near(self, boxes: Boxes3D, i: int) -> bool:
        limit_m: float = self._config.class_range.get(CLASSES[boxes.labels[i]], 0.0)  # it refuses classes not its own
        return bool(np.hypot(*boxes.centers_m[i, :2]) < limit_m)

    def _convert(self, token: str, boxes: Boxes3D, i: int) -> Any:
        length, width, height = (float(v) for v in boxes.sizes_m[i])
        center = tuple(float(v) for v in boxes.centers_m[i])
        attribute = int(boxes.attributes[i])
        return self._box(
            sample_token=token,
            translation=center,
            size=(width, length, height),
            rotation=tuple(SE3.from_yaw(float(boxes.yaws_rad[i])).quaternion_wxyz),
            velocity=tuple(float(v) for v in boxes.velocities_mps[i]),
            ego_translation=center,
            num_pts=1,
            detection_name=CLASSES[boxes.labels[i]],
            detection_score=float(boxes.scores[i]),
            attribute_name=ATTRIBUTES[attribute] if attribute >= 0 else "",
        )
