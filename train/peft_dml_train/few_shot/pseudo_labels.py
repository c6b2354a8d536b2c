# SPDX-License-Identifier: Apache-2.0
"""Labels that the model makes itself: what it is sure of with all sensors, and finds again in the frame next to it.

They teach the sensors that are weak alone; Lee, "Pseudo-Label", ICML workshop 2013.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.typing import BoolArray
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.few_shot.labels import RelabelledReader

SURE: Final = 0.35
NEAR_M: Final = 2.0
"""How far from where its velocity leads it an object may be found again."""


class PseudoLabelledReader(RelabelledReader):
    """A nuScenes folder whose truth is what a model finds in it; its own annotations are not read.

    Args:
        root: nuScenes folder.
        find: Boxes of a keyframe, in `base_link`.

    Raises:
        DataError: nothing is found that stays.
    """

    def __init__(self, root: Path, find: Callable[[str], Boxes3D]) -> None:
        super().__init__(root)
        for scene in self.scenes:
            found = _confirmed(self, NuScenesReader.samples(self, scene), find)
            self.boxes |= {token: boxes for token, boxes in found.items() if len(boxes)}
        if not self.boxes:
            msg = f"{root}: the model is sure of nothing there"
            raise DataError(f"{msg}; fix: label some frames and leave --unlabelled out")


def _confirmed(reader: NuScenesReader, tokens: list[str], find: Callable[[str], Boxes3D]) -> dict[str, Boxes3D]:
    """Return boxes of a scene's keyframes that the keyframe before or behind has as well."""
    sure = {token: (boxes := find(token))[boxes.scores >= SURE] for token in tokens}
    placed = {token: boxes.transform(reader.global_SE3_base(token)) for token, boxes in sure.items()}
    kept = {}
    for number, token in enumerate(tokens):
        again = np.zeros(len(sure[token]), dtype=bool)
        for other in (tokens[i] for i in (number - 1, number + 1) if 0 <= i < len(tokens)):
            seconds = (reader.stamp_ns(other) - reader.stamp_ns(token)) * 1e-9
            again |= _found_again(placed[token], placed[other], seconds)
        boxes = sure[token][again]
        kept[token] = Boxes3D.make(
            boxes.centers_m, boxes.sizes_m, boxes.yaws_rad, boxes.labels, velocities_mps=boxes.velocities_mps,
            attributes=boxes.attributes,
        )  # fmt: skip
    return kept


def _found_again(boxes: Boxes3D, others: Boxes3D, seconds: float) -> BoolArray:
    """Return (N,) which boxes have one of their class where their velocity leads them."""
    if not len(boxes) or not len(others):
        return np.zeros(len(boxes), dtype=bool)
    led = boxes.centers_m[:, :2] + seconds * np.nan_to_num(boxes.velocities_mps)
    apart = np.linalg.norm(led[:, None] - others.centers_m[None, :, :2], axis=2)
    apart[boxes.labels[:, None] != others.labels[None]] = np.inf
    near: BoolArray = apart.min(axis=1) < NEAR_M
    return near
