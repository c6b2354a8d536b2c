# SPDX-License-Identifier: Apache-2.0
"""What training is not to see: whole modalities, or a modality together with a class.

A pair is withheld in one of two ways. Strictly: frames that hold the class lose the modality. Or without labels: they
keep it, but nothing that knows classes or boxes teaches the modality about those objects.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from peft_dml_ros.core.classes import CLASSES, MODALITIES
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_train.data.frame import Frame

UNLABELLED = "unlabelled"


class WithheldPair(NamedTuple):
    """A modality and a class that are not trained together.

    Attributes:
        modality: E.g. lidar.
        label: Of the class.
        unlabelled: Frames of the class keep the modality, unlabelled.
    """

    modality: str
    label: int
    unlabelled: bool = False


def parse_pairs(withheld: tuple[str, ...]) -> tuple[WithheldPair, ...]:
    """Return pairs from `modality:class` or `modality:class:unlabelled`.

    Raises:
        ConfigError: no such modality or class, or another third part.
    """
    pairs = []
    for text in withheld:
        modality, _, rest = text.partition(":")
        name, _, how = rest.partition(":")
        for value, known in ((modality, MODALITIES), (name, CLASSES), (how, ("", UNLABELLED))):
            if value not in known:
                msg = f"withheld '{text}' is not of the form modality:class[:{UNLABELLED}]; {nearest(value, known)}"
                raise ConfigError(msg)
        pairs.append(WithheldPair(modality, CLASSES.index(name), how == UNLABELLED))
    return tuple(pairs)


def without(frame: Frame, modalities: set[str]) -> Frame:
    """Return a frame as if these modalities had not been there."""
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


def withhold(frame: Frame, pairs: tuple[WithheldPair, ...], sensors: tuple[str, ...]) -> Frame:
    """Return a frame with the recipe's sensors alone, without modalities that must not meet one of its classes."""
    unseen = {m for m in MODALITIES if m not in sensors}
    strict = (pair for pair in pairs if not pair.unlabelled)
    return without(frame, unseen | {pair.modality for pair in strict if (frame.boxes.labels == pair.label).any()})


def learnt(mask: torch.Tensor, pairs: tuple[WithheldPair, ...]) -> torch.Tensor | None:
    """Return (B, classes) bool, false where a sample's modalities teach nothing of a class; none if all teach all.

    A frame that keeps a strictly withheld modality holds no object of the class: it would teach that there never is
    one.
    """
    if not pairs:
        return None
    known = torch.ones(len(mask), len(CLASSES), dtype=torch.bool, device=mask.device)
    for modality, label, _ in pairs:
        known[:, label] &= mask[:, MODALITIES.index(modality)] == 0
    return known
