# SPDX-License-Identifier: Apache-2.0
"""Shapes, availability, adapters and export of the network, on a tiny one."""

import re
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.spec import graph_outputs
from peft_dml_ros.engines import load_engines
from peft_dml_train.adapters.lora import (
    adapt,
    freeze,
    load_adapter,
    merge,
    parameter_counts,
    refuse_inexact,
    save_adapter,
    target_names,
    train_mode,
)
from peft_dml_train.config import TrainConfig, load_config
from peft_dml_train.data.batch import BatchStream, collate
from peft_dml_train.encoders.blocks import _flat_rows, gather_rows
from peft_dml_train.export.graphs import graph_module, skeleton
from peft_dml_train.export.parity import TOLERANCE, parity
from peft_dml_train.loop.stages import finetune, new_network
from peft_dml_train.loop.trainer import Trainer
from peft_dml_train.network import PeftDmlNetwork
from tests.support.exported import bundle_of

CONFIGS = Path(__file__).parents[2] / "train" / "configs"


@pytest.fixture
def batch(frames, config):
    return collate(frames[:2], config.spec)


def test_latents_are_unit_vectors_of_the_declared_shape(network, batch, config):
    latents = network.eval().encode_all(batch.feeds).by_modality
    for m, (shape, _) in {m: o["latent"] for m, o in graph_outputs(config.spec).items() if m in MODALITIES}.items():
        assert latents[m].shape == (2, *shape[1:])
        np.testing.assert_allclose(latents[m].norm(dim=1).detach(), 1, atol=1e-4)


@pytest.fixture(scope="module")
def shaken(config, frames):
    """A network whose every part has a say, and the latents of two frames."""
    network = new_network(config).eval()
    batch = collate(frames[:2], config.spec)
    with torch.no_grad():
        for p in network.fusion.parameters():
            p.add_(torch.randn_like(p) * 0.3)
        return network, batch, network.encode_all(batch.feeds).by_modality


SUBSETS = [subset for subset in product((0.0, 1.0), repeat=5) if any(subset)]


@settings(max_examples=62, deadline=None, derandomize=True)
@given(st.sampled_from(SUBSETS), st.sampled_from([0.0, 1.0, 50.0, 1e6]), st.integers(0, 1000))
@torch.no_grad()
def test_absent_modalities_cannot_change_the_output(shaken, subset, size, seed):
    network, batch, latents = shaken
    mask = torch.tensor([subset, subset])
    draw = torch.Generator().manual_seed(seed)
    # In the same layout of memory: another one adds up in another order.
    noise = {m: torch.empty_like(x).copy_(torch.randn(x.shape, generator=draw) * size) for m, x in latents.items()}
    other = {m: x if subset[i] else noise[m] for i, (m, x) in enumerate(latents.items())}
    a, b = (network.detect(x, mask, batch.age_s * mask, mask) for x in (latents, other))
    for x, y in zip((*a.head, *a.fused), (*b.head, *b.fused), strict=True):
        assert x.equal(y)
    gates = a.fused.gates
    assert (gates[:, mask[0] == 0] == 0).all()
    np.testing.assert_allclose(gates.sum(dim=1), 1, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("late", range(5))
def test_an_older_measurement_never_weighs_more(shaken, late):
    network, _, latents = shaken
    ones = torch.ones(2, 5)
    before = None
    for age_s in (0.0, 0.1, 0.3, 1.0):
        ages = torch.zeros(2, 5)
        ages[:, late] = age_s
        gate = network.detect(latents, ones, ages, ones).fused.gates[:, late]
        assert before is None or (gate <= before + 1e-6).all()
        assert before is None or gate.mean() < before.mean()
        before = gate


@torch.no_grad()
def test_the_order_of_points_and_pillars_does_not_matter(network, batch):
    network.eval()
    for m in ("lidar", "radar"):
        feed = batch.feeds[m]
        pillars, count = feed["pillars"], feed["pillars"].shape[1]
        order = torch.randperm(count)
        place = torch.cat([torch.argsort(order), torch.tensor([count])]).to(torch.int32)
        points = torch.randperm(pillars.shape[2])
        mixed = {"pillars": pillars[:, order][:, :, points], "index_map": place[feed["index_map"].long()]}
        torch.testing.assert_close(network.encode(m, feed)[0], network.encode(m, mixed)[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_order_of_cameras_does_not_matter(network, batch, config):
    network.eval()
    camera, feed = config.spec.camera, batch.feeds["camera"]
    n, cells = len(camera.cameras), camera.feature_hw[0] * camera.feature_hw[1]
    order = torch.randperm(n)
    place = torch.argsort(order).to(torch.int32)

    def moved(table, width):
        """A look-up table of (camera, `width` entries each) after the cameras changed places."""
        known = table < n * width
        slot = torch.where(known, table // width, 0)
        return torch.where(known, place[slot.long()] * width + table % width, table)

    mixed = {
        "images": feed["images"][:, order],
        "present": feed["present"][:, order],
        "voxel_pixel": moved(feed["voxel_pixel"], cells),
        "voxel_depth": moved(feed["voxel_depth"], cells * camera.depth_bins),
    }
    torch.testing.assert_close(network.encode("camera", feed)[0], network.encode("camera", mixed)[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_present_modality_does_change_the_output(network, batch):
    network.eval()
    latents = network.encode_all(batch.feeds).by_modality
    full = network.detect(latents, batch.mask, batch.age_s, batch.completeness)
    for i in range(5):
        mask = batch.mask.clone()
        mask[:, i] = 0
        less = network.detect(latents, mask, batch.age_s * mask, batch.completeness * mask)
        assert not less.head.heat.equal(full.head.heat), MODALITIES[i]


def test_rows_looked_up_at_once_are_those_of_each_sample():
    draw = torch.Generator().manual_seed(0)
    index = torch.randint(0, 6, (3, 40), generator=draw, dtype=torch.int32)
    tables = [torch.randn(3, 5, 4, generator=draw.manual_seed(1)).requires_grad_() for _ in range(2)]
    found = [gather_rows(tables[0], index), _flat_rows(functional.pad(tables[1], (0, 0, 0, 1)), index)]
    torch.testing.assert_close(*found, rtol=0, atol=0)
    for rows in found:
        rows.square().sum().backward()
    torch.testing.assert_close(tables[0].grad, tables[1].grad)
    assert tables[0].grad.abs().sum() > 0


@torch.no_grad()
def test_a_missing_camera_contributes_nothing(network, batch):
    network.eval()
    feed = dict(batch.feeds["camera"])
    feed["present"] = feed["present"].clone()
    feed["present"][:, 2] = 0
    dark = dict(feed)
    dark["images"] = feed["images"].clone()
    dark["images"][:, 2] = 255 - dark["images"][:, 2]
    assert network.encode("camera", feed)[0].equal(network.encode("camera", dark)[0])


def test_finetuning_trains_less_than_a_tenth_of_the_demo_network():
    demo = TrainConfig()
    counts = parameter_counts(adapt(new_network(demo), demo.adapters).get_base_model())
    assert 3.2e6 < counts["total"] < 4.0e6
    assert counts["share_without_projections_fusion_head"] < counts["share"] < 0.10


def test_a_finetuning_of_a_tenth_is_refused_before_the_first_step(config, tmp_path, caplog):
    large = config.model_copy(update={"adapters": config.adapters.model_copy(update={"rank": 8})})
    with (
        caplog.at_level("INFO"),
        pytest.raises(ConfigError, match=r"would train 10\.\d% of all .*lower adapters\.rank"),
    ):
        finetune(large, tmp_path, tmp_path, resume=False)
    assert re.search(r"parameters \(10\.\d %\); without projections, fusion and head: 7\.\d %", caplog.text)


def test_a_finetuning_step_leaves_the_encoders_alone(network, frames, config, tmp_path):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    adapted = adapt(network, config.adapters)
    base = adapted.get_base_model()
    trainer = Trainer(config, config.finetune, base, tmp_path, train_mode)
    trainer.run(BatchStream(frames, config, config.pretrain, seed=0))
    after = base.state_dict()
    frozen = [k for k in before if k.startswith("encoders.")]
    for key in frozen:
        stem, _, leaf = key.rpartition(".")
        kept = after[key] if key in after else after[f"{stem}.base_layer.{leaf}"]
        assert kept.equal(before[key]), key
    changed = [k for k, v in after.items() if "lora_B" in k and v.abs().max() > 0]
    assert len(changed) > 10


@torch.no_grad()
@pytest.mark.parametrize("rank", [4, 8, 16])
def test_merged_and_reloaded_adapters_compute_the_same(network, batch, config, tmp_path, rank):
    weights = {k: v.clone() for k, v in network.state_dict().items()}
    adapted = adapt(network, config.adapters.model_copy(update={"rank": rank, "alpha": rank}))
    for name, p in adapted.named_parameters():
        if p.requires_grad and "original_module" not in name:
            p.add_(torch.randn_like(p) * 0.02)
    adapted.eval()
    save_adapter(adapted, tmp_path / "adapter")
    assert {f.name for f in (tmp_path / "adapter").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}

    def outputs(net):
        latents, (detection,) = net.eval()(batch.feeds, (batch.mask,), batch.age_s, batch.completeness)
        return [*latents.by_modality.values(), *detection.head, detection.fused.gates]

    unmerged = outputs(adapted.get_base_model())
    merged = outputs(merge(adapted))
    fresh = new_network(config)
    fresh.load_state_dict(weights)
    pristine = outputs(fresh)
    reloaded = outputs(merge(load_adapter(fresh, tmp_path / "adapter").eval()))
    assert max(float((a - b).abs().max()) for a, b in zip(unmerged, merged, strict=True)) < 1e-5
    assert max(float((a - b).abs().max()) for a, b in zip(reloaded, merged, strict=True)) < 1e-5
    assert max(float((a - b).abs().max()) for a, b in zip(pristine, merged, strict=True)) > 1e-3


def test_frozen_parts_of_a_pretraining_keep_every_bit(network, frames, config, tmp_path):
    parts = ("encoders.lidar.", "encoders.camera.image.backbone.")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    freeze(network, parts)
    stage = config.pretrain.model_copy(update={"steps": 2, "frozen": parts})
    trainer = Trainer(config, stage, network, tmp_path, partial(train_mode, frozen=parts))
    trainer.run(BatchStream(frames, config, stage, seed=0))
    changed = {k for k, v in network.state_dict().items() if not v.equal(before[k])}
    assert not [k for k in changed if k.startswith(parts)]
    assert {"encoders.camera.lift.weight", "encoders.radar.pillars.norm.running_mean"} <= changed
    with pytest.raises(ConfigError, match=r"'encoders\.ldiar\.'; did you mean 'encoders\.lidar\.'"):
        freeze(network, ("encoders.ldiar.",))


def shaken_adapter(base, config, folder, seed):
    """A stored adapter with random values, on a copy of the base."""
    network = new_network(config)
    network.load_state_dict(base)
    adapted = adapt(network, config.adapters)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if p.requires_grad and "original_module" not in name:
                p.add_(torch.randn_like(p) * 0.02)
    save_adapter(adapted, folder)
    return folder


@torch.no_grad()
def test_two_adapters_share_one_base(network, batch, config, tmp_path):
    base = {k: v.clone() for k, v in network.state_dict().items()}
    folders = {name: shaken_adapter(base, config, tmp_path / name, i) for i, name in enumerate(("clear", "rain"))}
    assert sum(f.stat().st_size for f in folders["rain"].iterdir()) < 3e6

    def heat(net):
        return net.eval()(batch.feeds, (batch.mask,), batch.age_s, batch.completeness)[1][0].head.heat

    alone = {}
    for name, folder in folders.items():
        fresh = new_network(config)
        fresh.load_state_dict(base)
        alone[name] = heat(merge(load_adapter(fresh, folder).eval()))
    both = load_adapter(network, folders["clear"])
    both.load_adapter(str(folders["rain"]), "rain")
    both.set_adapter("rain")
    torch.testing.assert_close(heat(both.get_base_model()), alone["rain"], atol=1e-5, rtol=0)
    both.set_adapter("default")
    torch.testing.assert_close(heat(both.get_base_model()), alone["clear"], atol=1e-5, rtol=0)
    assert (alone["rain"] - alone["clear"]).abs().max() > 1e-3


def test_an_adapter_is_refused_on_another_base(network, config, tmp_path):
    folder = shaken_adapter(network.state_dict(), config, tmp_path / "adapter", 0)
    other = new_network(config.model_copy(update={"seed": 99}))
    with pytest.raises(DataError, match=r"belongs to base sha256:.* this base is sha256:"):
        load_adapter(other, folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(DataError, match=r"adapter_model\.safetensors missing"):
        load_adapter(network, folder)


@pytest.mark.parametrize("rank", [4, 8, 16])
def test_every_encoder_gets_low_rank_adapters(rank):
    recipe = load_config(CONFIGS / "nuscenes.yaml", (f"adapters.rank={rank}",))
    with torch.device("meta"):
        network = PeftDmlNetwork(recipe.spec, recipe.network, recipe.adapters)
    names = target_names(network)
    assert {name.split(".")[1] for name in names} == set(MODALITIES)
    assert len(names) > 90


@pytest.mark.parametrize(
    ("layer", "word"),
    [
        (nn.Conv2d(4, 4, 3, dilation=2), "dilation"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "padding mode"),
        (nn.Conv2d(4, 4, 3, groups=2), "groups"),
    ],
)
def test_layers_without_an_exact_adapter_are_refused(layer, word):
    with pytest.raises(ConfigError, match=word):
        refuse_inexact([("neck", layer)])


@pytest.fixture(scope="module")
def exported(config, tmp_path_factory):
    network = new_network(config).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for p in (*network.fusion.parameters(), *network.head.parameters()):
            p.add_(torch.randn_like(p) * 0.1)
    return network, load_engines(bundle_of(network, tmp_path_factory.mktemp("graphs")), threads=1)


def test_parameters_of_equal_values_stay_apart(config, tmp_path):
    network = new_network(config).eval()
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.fill_(1.0)
    named = set()
    for graph in (*MODALITIES, "fusion"):
        named |= {value.name for value in skeleton(network, graph).graph.input}
    unused = {n for n in network.state_dict() if n not in named and not n.endswith("num_batches_tracked")}
    assert not unused


def test_graphs_compute_what_the_network_computes(exported):
    assert max(parity(*exported).values()) < TOLERANCE


@torch.no_grad()
def test_the_exported_fusion_serves_every_subset(exported):
    network, engines = exported
    engine = engines["fusion"]
    module = graph_module(network, "fusion")
    rng = np.random.default_rng(0)
    latents = {n: rng.normal(size=s).astype(d) for n, (s, d) in engine.inputs.items() if n in MODALITIES}
    for subset in SUBSETS:
        mask = np.array(subset, np.float32)
        feeds = latents | {"mask": mask, "age_s": 0.1 * mask, "completeness": mask}
        first = engine(feeds)
        wanted = module(*(torch.from_numpy(feeds[n]) for n in engine.inputs))
        for name, value in zip(first, wanted, strict=True):
            if name in {"scores", "gate"}:
                np.testing.assert_allclose(first[name], value, atol=1e-4, err_msg=f"{subset} {name}")
        noise = {
            m: rng.normal(size=feeds[m].shape).astype(np.float32)
            for m, there in zip(MODALITIES, mask, strict=True)
            if not there
        }
        second = engine(feeds | noise)
        for name, value in first.items():
            assert np.isfinite(value).all()
            np.testing.assert_array_equal(value, second[name])
