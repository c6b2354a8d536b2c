# SPDX-License-Identifier: Apache-2.0
"""Boxes of any class, place, size, heading and speed."""

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES


def random_boxes(count, ids=()):
    """Boxes that are the same for the same count, and move in any direction."""
    rng = np.random.default_rng(count)
    return Boxes3D.make(
        rng.normal(0, 20, (count, 3)),
        rng.uniform(0.3, 9, (count, 3)),
        rng.uniform(-np.pi, np.pi, count),
        rng.integers(0, len(CLASSES), count),
        scores=rng.uniform(0, 1, count),
        velocities_mps=rng.normal(0, 2, (count, 2)),
        ids=ids,
    )
