# SPDX-License-Identifier: Apache-2.0
"""The method's mechanisms, each in a way that fails without it: attention, shared space, gate, turning, velocity."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_train.adapters.lora import adapt, weights_digest
from peft_dml_train.data.batch import BatchStream, collate
from peft_dml_train.data.points import lidar_points, radar_points, to_lidar, to_radar
from peft_dml_train.data.turn import WorldMotion, turn
from peft_dml_train.fusion.attention import NEIGHBOURS, Fusion, NeighbourAttention
from peft_dml_train.fusion.gate import ABSENT
from peft_dml_train.head.center import BoxValues
from peft_dml_train.head.prototypes import PrototypeClassifier
from peft_dml_train.loop.stages import new_network
from peft_dml_train.loop.trainer import Trainer
from peft_dml_train.losses import detection
from peft_dml_train.losses.auxiliary import gate_loss
from peft_dml_train.losses.targets import VALUES, Targets, make_targets
from peft_dml_train.losses.total import TotalLoss

DIM, SIDE = 16, 12


@torch.no_grad()
def test_attention_weights_follow_the_keys():
    torch.manual_seed(0)
    near = NeighbourAttention(DIM, DIM // 2, 2)
    query, keys = torch.randn(1, DIM // 2, SIDE, SIDE), torch.randn(1, DIM // 2, SIDE + 2, SIDE + 2)
    weights = near.weights(query, keys)
    assert weights.shape == (9, 1, 2, SIDE, SIDE)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(1, 2, SIDE, SIDE))
    # Neighbours that change places take their weights with them; another question gets another answer.
    mirrored = near.weights(query.flip(3), keys.flip(3)).flip(4)
    places = [NEIGHBOURS.index((row, 2 - column)) for row, column in NEIGHBOURS]
    torch.testing.assert_close(mirrored, weights[places])
    assert (near.weights(query, keys.flip(3)) - weights).abs().mean() > 0.01
    assert (near.weights(-query, keys) - weights).abs().mean() > 0.01


@torch.no_grad()
def test_modalities_are_weighed_by_the_product_of_query_and_key():
    torch.manual_seed(1)
    fusion = Fusion(DIM, 2)
    query, tokens = torch.randn(1, DIM, SIDE, SIDE), torch.randn(1, DIM, 2, 1)
    maps = [torch.randn(1, DIM, SIDE, SIDE) for _ in DETECTING]
    logits = fusion._match(query, maps, tokens)
    other = [2, 0, 1]
    permuted = fusion._match(query, [maps[i] for i in other], tokens)
    torch.testing.assert_close(permuted[:, :3], logits[:, other])
    assert (permuted[:, :3] - logits[:, :3]).abs().mean() > 0.05
    torch.testing.assert_close(fusion._match(2 * query, maps, tokens), 2 * logits)


def test_one_classifier_and_one_value_serve_every_sensor(network, frames, config):
    base = adapt(network, config.adapters).get_base_model()
    base.train()
    batch = collate(frames[:2], config.spec)
    latents, passes = base(batch.feeds, (batch.mask,), batch.age_s, batch.completeness)
    parts = TotalLoss(config.spec, config.losses)(base, batch, latents, passes)[1]
    assert {f"single/{m}" for m in DETECTING} <= parts.keys()
    prototypes = [p for n, p in base.named_parameters() if n.endswith("prototypes") and "original_module" not in n]
    values = [p for n, p in base.named_parameters() if ".value.weight" in n and "original_module" not in n]
    values = [p for p in values if p.shape[:2] == (config.spec.latent_dim,) * 2]
    assert len(prototypes) == len(values) == 1, "one set of each, whatever the sensor"
    losses = TotalLoss(config.spec, config.losses).parts(base, batch, latents, passes)
    for m in DETECTING:
        (found,) = torch.autograd.grad(losses[f"single/{m}"], prototypes, retain_graph=True)
        assert found.any(), m
        (through,) = torch.autograd.grad(passes[0].fused.features.sum(), latents.by_modality[m], retain_graph=True)
        assert through.any(), m


@torch.no_grad()
def test_gated_concatenation_tells_sensors_apart_and_opens_no_way_around_the_gate():
    torch.manual_seed(3)
    latents, evidence = world(torch.zeros(2), 0)
    swapped = latents | {"lidar": latents["radar"], "radar": latents["lidar"]}
    ones = torch.ones(2, len(MODALITIES))
    for concatenate in (False, True):
        fusion = Fusion(DIM, 2, attend=False, trust=False, concatenate=concatenate).eval()
        for layer in filter(None, [fusion.concatenated]):
            nn.init.normal_(layer.weight)
        before, after = (fusion(x, ones, 0 * ones, ones, evidence).features for x in (latents, swapped))
        assert ((before - after).abs().mean() > 0.01) == concatenate, "a sum of equal weights is blind to whose it is"
    # What the gate gives no weight to does not come in by the concatenation either.
    nearly = ones.scatter(1, torch.full((2, 1), MODALITIES.index("radar")), 1 - 30 / -ABSENT)
    shut, shut_too = (fusion(latents | {"radar": x}, nearly, 0 * ones, ones, evidence).features for x in latents_of(2))
    torch.testing.assert_close(shut, shut_too, atol=1e-4, rtol=0)


def latents_of(count):
    """Other radar latents, unit vectors."""
    return [functional.normalize(torch.randn(2, DIM, SIDE, SIDE), dim=1) for _ in range(count)]


def world(liar, seed):
    """Latents of three sensors that see the same objects, but for one in each sample, which sees as many elsewhere."""
    draw, samples = torch.Generator().manual_seed(seed), len(liar)
    kinds = functional.normalize(torch.randn(2, DIM, generator=torch.Generator().manual_seed(5)), dim=1)
    seen, moved = (torch.rand(samples, SIDE, SIDE, generator=draw) < 0.06 for _ in range(2))
    latents, evidence = {}, {}
    for i, m in enumerate(DETECTING):
        there = torch.where((liar == i)[:, None, None], moved, seen)
        noise = 0.1 * torch.randn(samples, SIDE, SIDE, DIM, generator=draw)
        latents[m] = functional.normalize(kinds[there.long()] + noise, dim=3).permute(0, 3, 1, 2)
        evidence[m] = 6.0 * there[:, None] - 4.0
    latents |= {m: functional.normalize(torch.randn(samples, DIM, generator=draw), dim=1) for m in ("imu", "gnss")}
    return latents, evidence


def gates_of(fusion, liar, seed):
    latents, evidence = world(liar, seed)
    ones = torch.ones(len(liar), len(MODALITIES))
    return fusion(latents, ones, 0 * ones, ones, evidence).gates


def lowered(fusion, liar):
    """Mean weight of each sensor where it lies, over that where another does."""
    with torch.no_grad():
        weights = gates_of(fusion, liar, 999).mean(dim=(2, 3))
    return [float(weights[liar == i, i].mean() / weights[liar != i, i].mean()) for i in range(len(DETECTING))]


def test_the_gate_finds_the_sensor_that_lies_by_its_disagreement():
    torch.manual_seed(2)
    fusion, liar = Fusion(DIM, 2).eval(), torch.arange(18) % len(DETECTING)
    quality = torch.ones(len(liar), len(MODALITIES)).scatter(1, liar[:, None], 0.0)
    optimizer = torch.optim.Adam(fusion.gate.parameters(), 0.02)
    for step in range(80):
        gates, everywhere = gates_of(fusion, liar, step), torch.ones(len(liar), 1, SIDE, SIDE)
        loss = gate_loss(gates, torch.ones_like(quality), quality, everywhere) / len(liar)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert max(lowered(fusion, liar)) < 0.6
    # Alone, a sensor that lies looks like an honest one: without the comparison nothing tells them apart.
    for parts in (fusion.gate.agreement, fusion.gate.local):
        for layers in parts.values():
            nn.init.zeros_(layers[-1].weight)
    assert min(lowered(fusion, liar)) > 0.75


def spread_frame(frame, spec):
    """The frame with points all over the plane, so that no pillar is too full for one of them."""
    draw = np.random.default_rng(0)
    place = draw.uniform(-45, 45, (200, 2))
    lidar = np.concatenate([place, draw.uniform(0, 2, (200, 1)), draw.random((200, 1)), np.zeros((200, 1))], axis=1)
    radar = np.concatenate([place[:40], draw.normal(size=(40, 3)), np.zeros((40, 1))], axis=1)
    pillars = {"lidar": to_lidar(lidar.astype(np.float32), spec), "radar": to_radar(radar.astype(np.float32), spec)}
    return replace(frame, pillars=pillars)


def rows_of(values):
    """Rows in an order that depends on them alone."""
    return values[np.lexsort(values.round(2).T)]


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_turning_the_world_turns_targets_points_and_velocities_alike(frames, config, degrees):
    frame, spec, angle = spread_frame(frames[0], config.spec), config.spec, np.deg2rad(degrees)
    turned = turn(frame, WorldMotion(float(angle)), spec)
    plane = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    before, after = (make_targets([f.boxes], spec) for f in (frame, turned))
    torch.testing.assert_close(after.heat, torch.rot90(before.heat, degrees // 90, (3, 2)), atol=1e-5, rtol=0)
    was, now = (t.values[t.central].double().numpy()[:, 2:] for t in (before, after))
    twice = np.array([[np.cos(2 * angle), np.sin(2 * angle)], [-np.sin(2 * angle), np.cos(2 * angle)]])
    # Height and size stay; sin 2θ and cos 2θ turn twice as far; the heading and the velocity turn with the world.
    wanted = [was[:, :4], was[:, 4:6] @ twice.T, was[:, 6:8] @ plane.T, was[:, 8:10] @ plane.T]
    np.testing.assert_allclose(rows_of(now), rows_of(np.concatenate(wanted, axis=1)), atol=1e-4)
    radar, lidar = radar_points(frame.pillars["radar"]), lidar_points(frame.pillars["lidar"])
    wanted = [radar[:, :2] @ plane.T, radar[:, 2:3], radar[:, 3:5] @ plane.T, radar[:, 5:]]
    found = radar_points(turned.pillars["radar"])
    np.testing.assert_allclose(rows_of(found), rows_of(np.concatenate(wanted, axis=1)), atol=1e-4)
    found = lidar_points(turned.pillars["lidar"])
    assert len(found) > 150
    np.testing.assert_allclose(rows_of(found), rows_of(np.c_[lidar[:, :2] @ plane.T, lidar[:, 2:]]), atol=1e-4)


def fit_speeds(config, steps=250):
    """Mean speed along the true direction that a small network says of movers, over their true speed."""
    draw = torch.Generator().manual_seed(3)
    count = 2000
    moves = torch.rand(count, 1, generator=draw) < 0.16
    angle = torch.rand(count, generator=draw) * 2 * torch.pi
    velocity = torch.stack([angle.cos(), angle.sin()], dim=1) * 8.0 * moves
    # Blurred so far that a still object is the likelier explanation of every single input.
    inputs = velocity / 8 + 0.8 * torch.randn(count, 2, generator=draw)
    values = torch.zeros(count, VALUES)
    values[:, detection.VELOCITY] = velocity
    none = torch.zeros(count, dtype=torch.int64)
    weight = torch.ones(count)
    targets = Targets(torch.zeros(1), none, none, values, weight, none - 1, none, none.bool())
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(steps):
        regression = torch.zeros(count, 15)
        regression[:, detection.VELOCITY] = network(inputs)
        losses = detection.box_losses(
            BoxValues(regression, torch.zeros(count, 8)),
            targets,
            config,
            {"weight": weight.sum(), "attribute": weight.sum()},
        )
        optimizer.zero_grad()
        losses["box"].backward()
        optimizer.step()
    said = network(inputs).detach()[moves[:, 0]]
    true = velocity[moves[:, 0]]
    return float((said * true).sum(dim=1).mean() / 64)


def test_movers_are_learnt_where_the_plain_absolute_error_stays_at_zero(config, monkeypatch):
    assert fit_speeds(config.losses) > 0.15
    monkeypatch.setattr(detection, "KNEE_MPS", 1e-6)
    assert abs(fit_speeds(config.losses.model_copy(update={"moving": 1.0}))) < 0.05


def test_the_same_seed_gives_the_same_weights(config, frames, tmp_path):
    def digest(seed):
        recipe = config.model_copy(update={"seed": seed})
        stage = config.pretrain.model_copy(update={"steps": 2})
        trainer = Trainer(recipe, stage, new_network(recipe), tmp_path / str(seed))
        trainer.run(BatchStream(frames, recipe, stage, seed=seed))
        return weights_digest(trainer.network.state_dict())

    assert digest(3) == digest(3) != digest(4)


@torch.no_grad()
def test_prototypes_count_by_their_direction_alone():
    classifier = PrototypeClassifier(DIM, 3)
    latent = functional.normalize(torch.randn(1, DIM, 2, 2), dim=1)
    before = classifier(latent)
    classifier.prototypes.mul_(torch.tensor([[0.5], [2.0], [7.0]]))
    torch.testing.assert_close(classifier(latent), before, atol=1e-4, rtol=1e-4)
