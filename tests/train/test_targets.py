# SPDX-License-Identifier: Apache-2.0
"""Targets are what the vehicle decodes: a head that says exactly the target yields the truth."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from peft_dml_ros.core.boxes import decode_candidates, non_maximum_suppression
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.spec import REGRESSION, ModelSpec
from peft_dml_train.head.candidates import top_candidates
from peft_dml_train.head.center import GROUPS, BoxValues
from peft_dml_train.losses.detection import HEADING, box_losses, focal
from peft_dml_train.losses.targets import VALUES, gaussian_radius, make_targets


def dense(regression):
    """A head that has said all boxes already: (columns, cells)."""

    def boxes_at(sample, cell, label):
        rows = regression[:, cell.long()].T
        return BoxValues(rows, torch.zeros(len(rows), 8))

    return boxes_at


@pytest.mark.parametrize("central_only", [True, False])
def test_perfect_head_decodes_to_the_truth(central_only, make_boxes):
    spec = ModelSpec()
    truth = make_boxes(20, 5)
    targets = make_targets([truth], spec)
    regression = torch.zeros(len(REGRESSION), spec.grid.size**2)
    # Written in reverse, so that the centre's value is not simply the last one.
    order = targets.central.nonzero()[:, 0] if central_only else torch.arange(len(targets.cell)).flip(0)
    regression[:VALUES, targets.cell[order]] = targets.values[order].T
    found = top_candidates(torch.logit(targets.heat.clamp(1e-6, 1 - 1e-6)), dense(regression), spec)
    outputs = {k: v.numpy() for k, v in found._asdict().items()}
    boxes = decode_candidates(outputs, spec, 0.99)
    assert len(boxes) == len(truth)
    distance = np.linalg.norm(boxes.centers_m[:, None] - truth.centers_m[None], axis=2)
    match = distance.argmin(axis=1)
    assert distance.min(axis=1).max() < 1e-3
    assert (boxes.labels == truth.labels[match]).all()
    np.testing.assert_allclose(boxes.sizes_m, truth.sizes_m[match], rtol=1e-4)
    np.testing.assert_allclose(np.cos(boxes.yaws_rad - truth.yaws_rad[match]), 1, atol=1e-5)
    np.testing.assert_allclose(boxes.velocities_mps, truth.velocities_mps[match], atol=1e-4)


def side_by_side(first, second, label, make_boxes):
    """Two boxes of a class, centres in metres."""
    truth = make_boxes(2, 1)
    truth.centers_m[:, :2] = first, second
    truth.labels[:] = CLASSES.index(label)
    truth.sizes_m[:] = 1.0, 0.6, 1.5
    truth.yaws_rad[:] = 0.0, np.pi / 2
    return truth


def test_a_cell_between_two_objects_describes_the_nearer_one(make_boxes):
    spec = ModelSpec()
    # Centres of cells two apart; the cell between them is as far from both, so one of them is moved a little.
    truth = side_by_side((0.4, 0.4), (1.9, 0.4), "pedestrian", make_boxes)
    targets = make_targets([truth], spec)
    assert len(targets.cell) == len(targets.cell.unique()) == 15
    between = spec.grid.size // 2 * (spec.grid.size + 1) + 1
    values = targets.values[targets.cell == between][0]
    np.testing.assert_allclose(values[6:10], (0.0, -1.0, 0.0, 1.0), atol=1e-6)
    np.testing.assert_allclose(values[0] * spec.grid.cell_m, 0.7, atol=1e-5)


@pytest.mark.parametrize(("label", "survive"), [("motorcycle", 2), ("pedestrian", 2), ("car", 1)])
def test_only_classes_finer_than_the_grid_keep_neighbouring_cells(label, survive, make_boxes):
    spec = ModelSpec()
    truth = side_by_side((0.4, 0.4), (1.1, 0.4), label, make_boxes)
    targets = make_targets([truth], spec)
    heat = torch.full((1, len(CLASSES), spec.grid.size**2), -9.0)
    heat[0, CLASSES.index(label), targets.cell[targets.central]] = torch.tensor([4.0, 3.9])
    regression = torch.zeros(len(REGRESSION), spec.grid.size**2)
    regression[:VALUES, targets.cell] = targets.values.T
    found = top_candidates(heat.view(1, -1, spec.grid.size, spec.grid.size), dense(regression), spec)
    boxes = decode_candidates({k: v.numpy() for k, v in found._asdict().items()}, spec, 0.5)
    assert len(boxes) == survive
    # The suppression by decoded centres lets neighbours live that stand as far apart as these.
    assert len(non_maximum_suppression(boxes, spec.classes)) == survive


def test_boxes_outside_the_grid_make_no_targets(make_boxes):
    boxes = make_boxes(3, 1)
    boxes.centers_m[:, 0] = 60.0
    targets = make_targets([boxes], ModelSpec())
    assert targets.heat.max() == 0
    assert len(targets.cell) == 0


def test_gaussian_radius_grows_with_the_box():
    assert gaussian_radius(2, 2) < gaussian_radius(6, 3) < gaussian_radius(15, 4)


def test_focal_loss_equals_its_formula():
    logits = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    heat = torch.rand(2, 3, 8, 8, dtype=torch.float64) * 0.9
    heat[0, 0, 3, 3] = heat[1, 2, 2, 2] = 1
    p = logits.sigmoid()
    hit = (functional.logsigmoid(logits) * (1 - p) ** 2)[heat == 1].sum()
    miss = (functional.logsigmoid(-logits) * p**2 * (1 - heat) ** 4)[heat < 1].sum()
    formula = -(hit + miss) / 2
    loss = focal(logits, heat)
    torch.testing.assert_close(loss, formula)
    own, wanted = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (loss, formula))
    torch.testing.assert_close(own, wanted)


def test_classes_of_a_group_share_a_regression_and_others_do_not(network):
    head, zero = network.head, torch.zeros(1, dtype=torch.int64)
    found = head(torch.randn(1, network.spec.latent_dim, 32, 32))
    head.boxes_at(found, zero, zero + 40, zero + CLASSES.index("bus")).regression.sum().backward()
    touched = head.box.weight.grad.view(len(GROUPS), -1).any(dim=1)
    assert touched.tolist() == ["bus" in names for names in GROUPS]


def test_the_front_is_a_loss_apart_from_the_axis(config, make_boxes):
    def losses(sign, turn=0.0):
        truth = make_boxes(6, 1)
        truth.labels[:] = 0
        said = make_targets([truth], config.spec).values.clone()
        said[:, HEADING] *= sign
        truth.yaws_rad[:] += turn
        targets = make_targets([truth], config.spec)
        counts = {"weight": targets.weight.sum(), "attribute": targets.weight.sum()}
        boxes = BoxValues(functional.pad(said, (0, 15 - VALUES)), torch.zeros(len(said), 8))
        return box_losses(boxes, targets, config.losses, counts)

    right, wrong, opposite = losses(9.0), losses(-9.0), losses(9.0, np.pi)
    assert right["heading"] < 0.01
    assert min(wrong["heading"], opposite["heading"]) > 8
    assert max(loss["box"] for loss in (right, wrong, opposite)) < 1e-4
