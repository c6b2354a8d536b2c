# SPDX-License-Identifier: Apache-2.0
"""What training is not to see: whole modalities, or a modality together with a class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from peft_dml_ros.core.classes import CLASSES, MODALITIES
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_train.data.frame import Frame


def parse_pairs(withheld: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """Modality and label of each `modality:class`.

    Raises:
        ConfigError: no such modality or class.
    """
    pairs = []
    for text in withheld:
        modality, _, name = text.partition(":")
        for value, known in ((modality, MODALITIES), (name, CLASSES)):
            if value not in known:
                msg = f"withheld '{text}' is not of the form modality:class; {nearest(value, known)}"
                raise ConfigError(msg)
        pairs.append((modality, CLASSES.index(name)))
    return tuple(pairs)


def without(frame: Frame, modalities: set[str]) -> Frame:
    """A frame as if these modalities had not been there."""
    if not modalities:
        return frame
    kept = np.array([m not in modalities for m in MODALITIES], dtype=np.float32)
    return replace(
        frame,
        pillars={m: p for m, p in frame.pillars.items() if m not in modalities},
        camera=None if "camera" in modalities else frame.camera,
        windows={m: w for m, w in frame.windows.items() if m not in modalities},
        mask=frame.mask * kept,
        age_s=frame.age_s * kept,
        completeness=frame.completeness * kept,
    )


def withhold(frame: Frame, pairs: tuple[tuple[str, int], ...], sensors: tuple[str, ...]) -> Frame:
    """A frame with the recipe's sensors only, and without the modalities that must not meet one of its classes."""
    unseen = {m for m in MODALITIES if m not in sensors}
    return without(frame, unseen | {m for m, label in pairs if (frame.boxes.labels == label).any()})


def learnt(mask: torch.Tensor, pairs: tuple[tuple[str, int], ...]) -> torch.Tensor | None:
    """(B, classes) bool, false where a sample's modalities teach nothing about a class; none where all teach all.

    A frame that keeps a withheld modality holds no object of the class: it would teach that there never is one.
    """
    if not pairs:
        return None
    known = torch.ones(len(mask), len(CLASSES), dtype=torch.bool, device=mask.device)
    for modality, label in pairs:
        known[:, label] &= mask[:, MODALITIES.index(modality)] == 0
    return known
