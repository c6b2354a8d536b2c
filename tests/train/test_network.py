# SPDX-License-Identifier: Apache-2.0
"""Shapes, availability, adapters and export of the network, on a tiny one."""

import numpy as np
import pytest
import torch
from torch import nn

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.spec import graph_outputs
from peft_dml_ros.engines.onnxruntime import OnnxRuntimeEngine
from peft_dml_train.adapters.lora import (
    adapt,
    load_adapter,
    merge,
    parameter_counts,
    refuse_inexact,
    save_adapter,
    train_mode,
)
from peft_dml_train.config import TrainConfig
from peft_dml_train.data.batch import BatchStream, collate
from peft_dml_train.export.graphs import export_graphs
from peft_dml_train.export.parity import TOLERANCE, parity
from peft_dml_train.loop.stages import new_network
from peft_dml_train.loop.trainer import Trainer


@pytest.fixture
def batch(frames, config):
    return collate(frames[:2], config.spec)


def test_latents_are_unit_vectors_of_the_declared_shape(network, batch, config):
    latents = network.eval().encode_all(batch.feeds).by_modality
    for m, (shape, _) in {m: o["latent"] for m, o in graph_outputs(config.spec).items() if m in MODALITIES}.items():
        assert latents[m].shape == (2, *shape[1:])
        np.testing.assert_allclose(latents[m].norm(dim=1).detach(), 1, atol=1e-4)


@pytest.mark.parametrize("absent", range(5))
@torch.no_grad()
def test_an_absent_modality_cannot_change_the_output(network, batch, absent):
    network.eval()
    for p in network.fusion.parameters():
        p.add_(torch.randn_like(p) * 0.3)
    mask = torch.ones(2, 5)
    mask[:, absent] = 0
    latents = network.encode_all(batch.feeds).by_modality
    other = dict(latents)
    other[MODALITIES[absent]] = torch.randn_like(latents[MODALITIES[absent]]) * 50
    a, b = (network.detect(x, mask, batch.age_s * mask, mask) for x in (latents, other))
    for x, y in zip((*a.head, *a.fused), (*b.head, *b.fused), strict=True):
        assert x.equal(y)
    assert a.fused.gates[:, absent].max() == 0
    np.testing.assert_allclose(a.fused.gates.sum(dim=1), 1, atol=1e-5)


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
    assert 4.0e6 < counts["total"] < 4.7e6
    assert counts["share_without_projections_fusion_head"] < counts["share"] < 0.10


def test_a_finetuning_step_leaves_the_encoders_alone(network, frames, config, tmp_path):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    adapted = adapt(network, config.adapters)
    base = adapted.get_base_model()
    trainer = Trainer(config, config.finetune, base, tmp_path, train_mode)
    trainer.run(BatchStream(frames, config, 2, flip=True, seed=0))
    after = base.state_dict()
    frozen = [k for k in before if k.startswith("encoders.")]
    for key in frozen:
        stem, _, leaf = key.rpartition(".")
        kept = after[key] if key in after else after[f"{stem}.base_layer.{leaf}"]
        assert kept.equal(before[key]), key
    changed = [k for k, v in after.items() if "lora_B" in k and v.abs().max() > 0]
    assert len(changed) > 10


@torch.no_grad()
def test_merged_and_reloaded_adapters_compute_the_same(network, batch, config, tmp_path):
    weights = {k: v.clone() for k, v in network.state_dict().items()}
    adapted = adapt(network, config.adapters)
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


def test_graphs_compute_what_the_network_computes(network, config, tmp_path):
    network.fusion.eval()
    paths = export_graphs(network, tmp_path)
    assert max(parity(network, paths, threads=1).values()) < TOLERANCE


@torch.no_grad()
def test_the_exported_fusion_serves_every_subset(network, config, tmp_path):
    paths = export_graphs(network, tmp_path)
    engine = OnnxRuntimeEngine(paths["fusion"], threads=1)
    rng = np.random.default_rng(0)
    for subset in range(32):
        mask = np.array([subset >> i & 1 for i in range(5)], np.float32)
        feeds = {n: rng.normal(size=s).astype(d) for n, (s, d) in engine.inputs.items()}
        feeds |= {"mask": mask, "age_s": np.zeros(5, np.float32), "completeness": mask}
        first = engine(feeds)
        for m, there in zip(MODALITIES, mask, strict=True):
            if not there:
                feeds[m] = rng.normal(size=feeds[m].shape).astype(np.float32)
        second = engine(feeds)
        for name, value in first.items():
            assert np.isfinite(value).all()
            np.testing.assert_array_equal(value, second[name])
