# SPDX-License-Identifier: Apache-2.0
"""Modalities and classes that are not trained together, strictly or without labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from peft_dml_ros.core.classes import CLASSES, DETECTING, MODALITIES
from peft_dml_ros.core.errors import ConfigError
from peft_dml_train.data.withheld import learnt, parse_pairs, withhold, without
from peft_dml_train.losses.alignment import UNNAMED, embed
from peft_dml_train.losses.detection import focal
from peft_dml_train.losses.targets import make_targets


def test_withheld_pairs_never_meet(frames):
    pairs = parse_pairs(("radar:truck", "camera:bus"))
    truck, bus = CLASSES.index("truck"), CLASSES.index("bus")
    boxes = frames[0].boxes
    labelled = replace(frames[0], boxes=replace(boxes, labels=np.full(len(boxes), truck)))
    kept = withhold(labelled, pairs, MODALITIES)
    assert kept.mask.tolist() == [1, 1, 0, 1, 1]
    assert "radar" not in kept.pillars
    assert kept.camera is not None
    assert withhold(frames[0], (), ("lidar",)).mask.tolist() == [1, 0, 0, 0, 0]
    assert without(frames[0], set()) is frames[0]
    known = learnt(torch.tensor([[1.0, 1, 0, 1, 1], [1, 0, 1, 1, 1]]), pairs)
    assert known[:, truck].tolist() == [True, False]
    assert known[:, bus].tolist() == [False, True]
    assert known.sum() == 2 * len(CLASSES) - 2
    with pytest.raises(ConfigError, match="did you mean 'truck'"):
        parse_pairs(("radar:truk",))


def test_unlabelled_pairs_meet_but_nothing_names_them(config, frames):
    pairs = parse_pairs(("radar:truck:unlabelled",))
    truck, radar = CLASSES.index("truck"), MODALITIES.index("radar")
    labelled = replace(frames[0], boxes=replace(frames[0].boxes, labels=np.full(len(frames[0].boxes), truck)))
    assert withhold(labelled, pairs, MODALITIES) is labelled
    mask = torch.ones(1, len(MODALITIES))
    targets = make_targets([labelled.boxes], config.spec)
    assert targets.weight.sum() > 0
    hidden = targets.only(learnt(mask, pairs))
    assert hidden.weight.sum() == 0
    assert (hidden.attribute == -1).all()
    # Where the radar is away, the other sensors learn the class.
    assert targets.only(learnt(mask.index_fill(1, torch.tensor(radar), 0), pairs)).weight.sum() == targets.weight.sum()
    latents = {m: torch.zeros(1, 4, config.spec.grid.size, config.spec.grid.size) for m in DETECTING}
    found = embed(latents, mask, targets, pairs)
    objects = int((embed(latents, mask, targets).label == truck).sum()) // len(DETECTING)
    assert objects > 0
    assert (found.label == UNNAMED).sum() == objects
    assert (found.label == truck).sum() == (len(DETECTING) - 1) * objects
    with pytest.raises(ConfigError, match="did you mean 'unlabelled'"):
        parse_pairs(("radar:truck:unlabeled",))


def test_classes_that_are_not_learnt_get_no_gradient():
    logits = torch.zeros(2, 3, 4, 4, requires_grad=True)
    heat = torch.zeros(2, 3, 4, 4)
    heat[:, 1, 2, 2] = 1
    known = torch.tensor([[True, False, True], [True, True, True]])
    focal(logits, heat, rows=known).backward()
    assert logits.grad[0, 1].abs().max() == 0
    assert logits.grad[1, 1].abs().min() > 0
