# SPDX-License-Identifier: Apache-2.0
"""The network for real nuScenes: its size, its shapes, and one step forward and back on a CPU."""

from pathlib import Path

import pytest
import torch

from peft_dml_ros.core.classes import DETECTING
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.engines import load_engines
from peft_dml_train.config import load_config
from peft_dml_train.data.synthetic import random_feeds
from peft_dml_train.export.parity import TOLERANCE, parity
from peft_dml_train.loop.stages import new_network
from tests.support.exported import bundle_of

CONFIG = Path(__file__).parents[2] / "train" / "configs" / "nuscenes.yaml"


@pytest.mark.slow
def test_forward_and_backward_at_full_size():
    recipe = load_config(CONFIG)
    network = new_network(recipe)
    assert 35e6 <= sum(p.numel() for p in network.parameters()) <= 45e6
    ones = torch.ones(1, 5)
    feeds = random_feeds(recipe.spec, 1)
    latents, (found,) = network(feeds, (ones,), ones * 0.02, ones)
    assert all(latents.by_modality[m].shape == (1, 256, 128, 128) for m in ("lidar", "camera", "radar"))
    assert latents.depth_logits.shape == (1, 6, 32 * 88, 59)
    assert found.head.heat.shape == (1, 10, 128, 128)
    aids = sum(network.classifier(latents.by_modality[m]).mean() for m in DETECTING)
    one = torch.zeros(3, dtype=torch.int64)
    boxes = network.head.boxes_at(found.head, one, torch.tensor([0, 77, 16383]), torch.tensor([0, 4, 9]))
    parts = (found.head.heat, *boxes, latents.depth_logits)
    (sum(x.square().mean() for x in parts) + aids).backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name


SMALL = (
    "spec.latent_dim=32",
    "spec.candidates=20",
    "spec.grid.size=32",
    "spec.lidar.pillar_grid=128",
    "spec.lidar.pillars=500",
    "spec.camera.width_px=128",
    "spec.camera.height_px=64",
    "network.lidar.widths=[16,24,32]",
    "network.lidar.pillar=16",
    "network.lidar.neck=8",
    "network.lidar.out=24",
    "network.camera.widths=[32,48,64,80]",
    "network.camera.depths=[1,1,1,1]",
    "network.camera.context=16",
)


def test_its_layers_export(tmp_path):
    recipe = load_config(CONFIG, SMALL)
    network = new_network(recipe).eval()
    network.encoders["lidar"].pillars.floor.uniform_(0, 0.2)
    differences = parity(network, load_engines(bundle_of(network, tmp_path)))
    assert max(differences.values()) < TOLERANCE


def test_wrong_lidar_shapes_are_told():
    with pytest.raises(ConfigError, match="neck x levels, 384"):
        new_network(load_config(CONFIG, ("network.lidar.out=256",)))
    with pytest.raises(ConfigError, match="power of two"):
        new_network(load_config(CONFIG, ("spec.lidar.pillar_grid=384",)))
