# SPDX-License-Identifier: Apache-2.0
"""Losses pull where they should, cost nothing when off, and bear what training meets."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_train.data.batch import collate
from peft_dml_train.losses.alignment import AlignmentLoss, EmbeddingMemory, Embeddings, embed
from peft_dml_train.losses.auxiliary import gate_loss
from peft_dml_train.losses.targets import make_targets
from peft_dml_train.losses.total import TotalLoss


def total(network, batch, losses):
    latents, passes = network(batch.feeds, (batch.mask, batch.dropped), batch.age_s, batch.completeness, batch.mask)
    return TotalLoss(network.spec, losses)(network, batch, latents, passes)


BOXES = {"box", "heading", "variance", "attribute"}
TERMS = {*BOXES, "heatmap", "alignment", "instance", "consistency", "gate", "depth", "single"}


def test_a_loss_of_weight_0_is_not_computed(network, frames, config):
    batch = collate(frames[:2], config.spec)
    network.train()
    _, parts = total(network, batch, config.losses)
    assert {name.rpartition("/")[2] if "single" not in name else "single" for name in parts} == TERMS
    # Quantities that a loss of weight 0 would stumble over if it looked at them.
    blind = replace(batch, quality=None, depth_bins=batch.depth_bins)
    losses = config.losses.model_copy(update=dict.fromkeys(("gate", "alignment", "instance", "single", "depth"), 0.0))
    _, parts = total(network, blind, losses)
    assert {name.rpartition("/")[2] for name in parts} == {*BOXES, "heatmap", "consistency"}


def test_empty_annotations_and_a_missing_sensor_train(network, frames, config):
    empty = [replace(f, boxes=Boxes3D.empty()) for f in frames[:2]]
    no_lidar = [
        replace(f, pillars={"radar": f.pillars["radar"]}, mask=np.array([0, 1, 1, 1, 1], np.float32)) for f in empty
    ]
    network.train()
    for some in (empty, no_lidar):
        loss, _ = total(network, collate(some, config.spec), config.losses)
        network.zero_grad()
        loss.backward()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        assert torch.isfinite(loss)
        assert all(torch.isfinite(g).all() for g in gradients)
    names = dict(network.named_parameters())
    assert all(p.grad is None or not p.grad.any() for n, p in names.items() if n.startswith("encoders.lidar"))
    # Every process must have a gradient for all that another may train.
    assert names["projections.lidar.0.weight"].grad is not None


@pytest.mark.parametrize("bad", range(3))
def test_gate_loss_moves_the_weight_off_what_is_harmed(bad):
    logits = torch.zeros(2, 5, 4, 4, requires_grad=True)
    heat = torch.zeros(2, 10, 4, 4)
    heat[:, 0, 1, 1] = 1
    quality = torch.ones(2, 5)
    quality[:, bad] = 0.2
    mask = torch.ones(2, 5)
    optimizer = torch.optim.SGD([logits], lr=20.0)
    for _ in range(100):
        optimizer.zero_grad()
        gate_loss(logits.softmax(1), mask, quality, heat).backward()
        optimizer.step()
    weight = logits.softmax(1)[:, :, 1, 1]
    assert (weight[:, bad] < 0.05).all()
    assert (weight[:, 3:].sum(dim=1) < 0.16).all()


def test_gate_loss_asks_nothing_where_all_is_alike():
    gates = torch.full((1, 5, 2, 2), 0.2)
    gates[:, 3:] = 0.05
    heat = torch.ones(1, 10, 2, 2)
    for value in (1.0, 0.5):
        assert gate_loss(gates, torch.ones(1, 5), torch.full((1, 5), value), heat) == 0


def test_an_object_is_nearer_to_itself_than_to_its_like(make_boxes, config):
    boxes = make_boxes(8, 3)
    boxes.labels[:] = 0
    targets = make_targets([boxes], config.spec)
    size = config.spec.grid.size
    draw = torch.Generator().manual_seed(0)
    maps = {m: torch.randn(1, 16, size, size, generator=draw).requires_grad_() for m in ("lidar", "camera", "radar")}
    mask = torch.ones(1, 5)
    mask[:, 2] = 0
    loss = AlignmentLoss(0.2)
    optimizer = torch.optim.Adam(maps.values(), lr=0.05)
    for _ in range(120):
        optimizer.zero_grad()
        unit = {m: torch.nn.functional.normalize(x, dim=1) for m, x in maps.items()}
        embeddings = embed(unit, mask, targets)
        value = loss(embeddings.vectors, embeddings.instance)
        value.backward()
        optimizer.step()
    assert maps["radar"].grad is None or not maps["radar"].grad.any()
    centre = targets.cell[targets.central]
    a, b = (torch.nn.functional.normalize(maps[m], dim=1)[0].flatten(1)[:, centre].T for m in ("lidar", "camera"))
    likeness = (a @ b.T).detach()
    others = likeness - 2 * torch.eye(len(centre))
    assert (likeness.diagonal() > others.amax(dim=1)).all()
    assert set(embeddings.label.tolist()) == {0, len(config.spec.classes)}


def test_the_memory_gives_negatives_and_forgets_the_oldest():
    memory, eye = EmbeddingMemory(3), torch.eye(4)
    for first in (0, 2, 4):
        memory.push(Embeddings(eye[:2], torch.tensor([0, 1]), torch.arange(2) + first))
    assert memory.kept.instance.tolist() == [3, 4, 5]
    assert memory.instances == 6
    loss, vectors, label = AlignmentLoss(0.3, temperature=0.1), eye[[0, 0, 2, 2]], torch.tensor([0, 0, 2, 2])
    alone, crowded = loss(vectors, label), loss(vectors, label, eye[[0, 2]], torch.tensor([5, 6]))
    assert crowded - alone > 0.5, "others that look alike in the memory cost"
    assert loss(vectors, label, eye[[0, 2]], torch.tensor([0, 2])) < 0.01 + alone + np.log(2)


def test_contrast_pulls_sensors_together_and_does_not_collapse():
    def one_class_each(loss):
        torch.manual_seed(0)
        label = torch.arange(4).repeat(12)
        # Two sensors: the classes lie apart in each, in other directions, with a larger part in common.
        seen = [torch.nn.functional.one_hot((label + turn) % 4, 8).float() + 2 for turn in (0, 1)]
        maps = [torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)]
        optimiser = torch.optim.Adam([p for m in maps for p in m.parameters()], 0.01)
        for _ in range(300):
            noisy = [x + 0.3 * torch.randn_like(x) for x in seen]
            vectors = torch.cat([torch.nn.functional.normalize(m(x), dim=1) for m, x in zip(maps, noisy, strict=True)])
            value = loss(vectors, label.repeat(2))
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
        with torch.no_grad():
            one, other = (torch.nn.functional.normalize(m(x), dim=1) for m, x in zip(maps, seen, strict=True))
        near = (one @ other.T).argmax(dim=1)
        return float((label[near] == label).float().mean()), float((one @ one.T).mean())

    found, cosine = one_class_each(AlignmentLoss(0.3, temperature=0.1))
    assert found == 1
    assert cosine < 0.8
    # Why there is a choice: triplets of the hardest pairs end with all vectors alike.
    assert one_class_each(AlignmentLoss(0.3))[1] > 0.99
