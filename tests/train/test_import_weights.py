# SPDX-License-Identifier: Apache-2.0
"""Public weights: names and shapes as published, every tensor accounted for, and the same features as the original."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import ResNetBackbone, ResNetConfig
from typer.testing import CliRunner

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.pillars import lidar_pillars
from peft_dml_train.cli import app
from peft_dml_train.config import load_config
from peft_dml_train.loop.checkpoint import load_checkpoint
from peft_dml_train.loop.stages import new_network
from peft_dml_train.weights.importing import import_weights
from peft_dml_train.weights.pillar import LIDAR_X_M, LIDAR_Z_M
from peft_dml_train.weights.reading import read_tensors

CONFIG = Path(__file__).parents[2] / "train" / "configs" / "nuscenes.yaml"
SMALL = (
    "spec.grid.size=16",
    "spec.lidar.pillar_grid=64",
    "spec.lidar.pillars=700",
    "network.lidar.pillar=8",
    "network.lidar.widths=[8,12,16]",
    "network.lidar.depths=[1,2,1]",
    "network.lidar.neck=6",
    "network.lidar.out=18",
    "network.camera.stem=8",
    "network.camera.widths=[16,24,32,40]",
    "network.camera.depths=[1,2,1,1]",
    "network.camera.bev={pillar: 0, widths: [8,8], depths: [0,1], neck: 8, out: 8}",
    "spec.latent_dim=16",
)
"""The same layers, fewer and narrower."""


def norm(name, width):
    return {
        f"{name}.weight": torch.rand(width) + 0.5,
        f"{name}.bias": torch.randn(width) * 0.3,
        f"{name}.running_mean": torch.randn(width) * 0.3,
        f"{name}.running_var": torch.rand(width) + 0.5,
        f"{name}.num_batches_tracked": torch.tensor(7),
    }


def public_pillar(style, config, features):
    """Tensors by the names of the two projects, with shapes from the recipe."""
    body = config.network.lidar
    points, backbone, neck, head = {
        "mmdet3d": ("pts_voxel_encoder.", "pts_backbone.", "pts_neck.", "pts_bbox_head.shared_conv.conv."),
        "det3d": ("reader.", "neck.", "neck.", "bbox_head.shared_conv.0."),
    }[style]
    first = int(style == "det3d")
    state = {f"{points}pfn_layers.0.linear.weight": torch.randn(body.pillar_hidden or body.pillar, features) * 0.1}
    state[f"{points}pfn_layers.0.linear.weight"][:, 3] *= 0.01
    state |= norm(f"{points}pfn_layers.0.norm", body.pillar_hidden or body.pillar)
    if body.pillar_hidden:
        state[f"{points}pfn_layers.1.linear.weight"] = torch.randn(body.pillar, 2 * body.pillar_hidden) * 0.2
        state |= norm(f"{points}pfn_layers.1.norm", body.pillar)
    before = body.pillar
    for i, (width, depth) in enumerate(zip(body.widths, body.depths, strict=True)):
        for j in range(depth + 1):
            weight = torch.randn(width, before if j == 0 else width, 3, 3) * 0.1
            state[f"{backbone}blocks.{i}.{3 * j + first}.weight"] = weight
            state |= norm(f"{backbone}blocks.{i}.{3 * j + first + 1}", width)
        kernel = 2 if i != 1 else 1
        transposed = i == 2 or (i == 1 and style == "mmdet3d")
        shape = (width, body.neck) if transposed else (body.neck, width)
        state[f"{neck}deblocks.{i}.0.weight"] = torch.randn(*shape, kernel, kernel) * 0.3
        state |= norm(f"{neck}deblocks.{i}.1", body.neck)
        before = width
    state[f"{head}weight"] = torch.randn(4, 3 * body.neck, 3, 3)
    return state


def public_lidar_features(state, style, config, cloud):
    """What the public network computes, written from its description.

    Args:
        cloud: (N, 5) x, y, z in the LiDAR's axes, intensity 0-255, age.
    """
    points, backbone, neck = {
        "mmdet3d": ("pts_voxel_encoder.", "pts_backbone.", "pts_neck."),
        "det3d": ("reader.", "neck.", "neck."),
    }[style]
    side, first = config.spec.lidar.pillar_grid, int(style == "det3d")
    voxel = 102.4 / side

    def bn(x, name):
        return nn.functional.batch_norm(
            x, *(state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")), eps=1e-3
        )

    origin = torch.tensor([-51.2, -51.2 - LIDAR_X_M])  # the map is centred on base_link
    cells = ((cloud[:, :2] - origin) / voxel).floor().long()
    canvas = torch.zeros(config.network.lidar.pillar, side, side)
    for cell in cells.unique(dim=0):
        column, row = cell.tolist()
        if not (0 <= column < side and 0 <= row < side):
            continue
        own = cloud[(cells == cell).all(dim=1)]
        centre = torch.cat([origin + (cell + 0.5) * voxel, torch.tensor([-1.0])])
        rows = torch.cat([own, own[:, :3] - own[:, :3].mean(dim=0), own[:, :3] - centre], dim=1)
        rows = rows[:, : state[f"{points}pfn_layers.0.linear.weight"].shape[1]]
        x = torch.cat([rows, torch.zeros(20 - len(rows), rows.shape[1])])  # a pillar's empty rows
        x = bn(x @ state[f"{points}pfn_layers.0.linear.weight"].T, f"{points}pfn_layers.0.norm").relu()
        canvas[:, row, column] = x.amax(dim=0)
    x, ups = canvas[None], []
    for i, depth in enumerate(config.network.lidar.depths):
        for j in range(depth + 1):
            at = 3 * j + first
            weight = state[f"{backbone}blocks.{i}.{at}.weight"]
            x = bn(nn.functional.conv2d(x, weight, stride=1 if j else 2, padding=1), f"{backbone}blocks.{i}.{at + 1}")
            x = x.relu()
        weight = state[f"{neck}deblocks.{i}.0.weight"]
        if i == 0 or (i == 1 and style == "det3d"):
            up = nn.functional.conv2d(x, weight, stride=weight.shape[-1])
        else:
            up = nn.functional.conv_transpose2d(x, weight, stride=weight.shape[-1])
        ups.append(bn(up, f"{neck}deblocks.{i}.1").relu())
    return torch.cat(ups, dim=1)


@pytest.mark.parametrize(("style", "features"), [("mmdet3d", 11), ("det3d", 10)])
@torch.no_grad()
def test_the_lidar_encoder_computes_what_the_public_network_does(tmp_path, style, features):
    torch.manual_seed(3)
    config = load_config(CONFIG, SMALL)
    state = public_pillar(style, config, features)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "public.safetensors")
    account = import_weights(config, tmp_path / "run", lidar=tmp_path / "public.safetensors")["lidar"]
    assert account.complete
    assert [u["source"] for u in account.unused] == [k for k in state if "shared_conv" in k]
    assert "head" in account.unused[0]["reason"]

    draw = np.random.default_rng(1)
    cloud = np.stack(
        [
            *draw.uniform(-48, 48, (2, 400)),
            draw.uniform(-3, 1.5, 400),
            draw.uniform(0, 255, 400),
            draw.uniform(0, 0.4, 400),
        ],
        axis=1,
    ).astype(np.float32)
    base = cloud.copy()
    base[:, 0], base[:, 1], base[:, 2] = cloud[:, 1] + LIDAR_X_M, -cloud[:, 0], cloud[:, 2] + LIDAR_Z_M
    base[:, 3] /= 255
    pillars, index_map = lidar_pillars(base, config.spec.grid, config.spec.lidar)
    network = new_network(config).eval()
    network.load_state_dict(load_checkpoint(tmp_path / "run" / "base.pt"))
    own = network.encoders["lidar"](torch.from_numpy(pillars)[None], torch.from_numpy(index_map)[None])
    wanted = public_lidar_features(state, style, config, torch.from_numpy(cloud))
    # A map in base_link has x along its columns and y along its rows; the public one has right and ahead.
    turned = wanted.flip(3).transpose(2, 3)
    assert wanted.std() > 0.1
    torch.testing.assert_close(own, turned, atol=2e-3, rtol=1e-3)


def test_two_pillar_layers_are_imported_when_the_recipe_has_them(tmp_path):
    deep = load_config(CONFIG, (*SMALL, "network.lidar.pillar_hidden=4"))
    torch.save({"state_dict": public_pillar("det3d", deep, 10), "meta": {"epoch": 20}}, tmp_path / "det3d.pth")
    account = import_weights(deep, tmp_path / "run", lidar=tmp_path / "det3d.pth")["lidar"]
    assert account.complete
    with pytest.raises(ConfigError, match=r"--set network\.lidar\.pillar_hidden=4"):
        import_weights(load_config(CONFIG, SMALL), tmp_path / "other", lidar=tmp_path / "det3d.pth")


def torchvision_names(state, stages):
    """A Hugging Face ResNet's tensors by torchvision's names."""
    named = {}
    for key, value in state.items():
        parts = key.split(".")
        kind = {"convolution": ("conv", "0"), "normalization": ("bn", "1")}[parts[-2]]
        if parts[0] == "embedder":
            named[f"{kind[0]}1.{parts[-1]}"] = value
            continue
        stem = f"layer{int(parts[2]) + 1}.{parts[4]}"
        place = f"downsample.{kind[1]}" if parts[5] == "shortcut" else f"{kind[0]}{int(parts[6]) + 1}"
        named[f"{stem}.{place}.{parts[-1]}"] = value
    assert len(named) == len(state)
    assert any(k.startswith(f"layer{stages}.") for k in named)
    return named | {"fc.weight": torch.randn(10, 4), "fc.bias": torch.zeros(10)}


@pytest.mark.parametrize("style", ["torchvision", "huggingface"])
@torch.no_grad()
def test_the_image_backbone_computes_what_the_public_resnet_does(tmp_path, style):
    torch.manual_seed(5)
    config = load_config(CONFIG, SMALL)
    camera = config.network.camera
    settings = ResNetConfig(
        embedding_size=camera.stem,
        hidden_sizes=list(camera.widths),
        depths=list(camera.depths),
        layer_type="bottleneck",
        out_features=["stage2", "stage3", "stage4"],
    )
    public = ResNetBackbone(settings).eval()
    for module in public.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    if style == "torchvision":
        state = torchvision_names(public.state_dict(), 4)
    else:
        state = {f"resnet.{k}": v for k, v in public.state_dict().items()} | {"classifier.1.weight": torch.ones(2, 2)}
    torch.save(state, tmp_path / "resnet.pth")
    account = import_weights(config, tmp_path / "run", camera=tmp_path / "resnet.pth")["camera"]
    assert account.complete
    assert {u["reason"] for u in account.unused} == {"classifier of ImageNet"}

    network = new_network(config).eval()
    network.load_state_dict(load_checkpoint(tmp_path / "run" / "base.pt"))
    pixels = torch.randint(0, 256, (1, 3, 256, 256)).float()
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    wanted = public((pixels - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)).feature_maps
    found = network.encoders["camera"].image.backbone((pixels - 114) / 58).feature_maps
    for a, b in zip(found, wanted, strict=True):
        inner = (slice(None), slice(None), slice(a.shape[2] // 2, a.shape[2] // 2 + 2), slice(a.shape[3] // 2, -1))
        scale = b.abs().max()
        assert scale > 0.1
        # Only the padding at the border has another colour; it reaches far, but weakly.
        assert (a[inner] - b[inner]).abs().max() < 0.02 * scale


@torch.no_grad()
def test_full_size_shapes_are_the_published_ones(tmp_path):
    config = load_config(CONFIG)
    save_file(
        {k: v.contiguous() for k, v in public_pillar("mmdet3d", config, 11).items()}, tmp_path / "pillar.safetensors"
    )
    resnet = ResNetBackbone(ResNetConfig(out_features=["stage2", "stage3", "stage4"])).state_dict()
    assert resnet["encoder.stages.3.layers.2.layer.2.convolution.weight"].shape == (2048, 512, 1, 1)
    save_file({k: v.contiguous() for k, v in torchvision_names(resnet, 4).items()}, tmp_path / "resnet.safetensors")
    accounts = import_weights(
        config,
        tmp_path / "run",
        lidar=tmp_path / "pillar.safetensors",
        camera=tmp_path / "resnet.safetensors",
    )
    assert all(a.complete for a in accounts.values())
    filled = sum(int(np.prod(u["shape"])) for a in accounts.values() for u in a.used)
    assert filled > 27e6
    written = json.loads((tmp_path / "run" / "import.json").read_text())
    assert written["lidar"]["used"] == accounts["lidar"].used


def test_what_does_not_fit_is_listed(tmp_path):
    config = load_config(CONFIG, SMALL)
    state = public_pillar("mmdet3d", config, 11)
    del state["pts_neck.deblocks.2.0.weight"]
    state["pts_backbone.blocks.1.0.weight"] = torch.zeros(99, 8, 3, 3)
    state["mystery.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(DataError, match=r"pyramid\.ups\.2\.0\.weight is missing.*\[99, 8, 3, 3\].*--partial"):
        import_weights(config, tmp_path / "run", lidar=tmp_path / "odd.pth")
    assert not (tmp_path / "run" / "base.pt").exists()
    account = import_weights(config, tmp_path / "run", lidar=tmp_path / "odd.pth", partial=True)["lidar"]
    assert {"source": "mystery.weight", "shape": [3], "reason": "no counterpart"} in account.unused
    named = {e["source"] for part in (account.used, account.unused, account.mismatched) for e in part}
    assert named == set(state)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("ran_foreign_code"),))


def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.zeros(1)}, "meta": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "evil.pkl"):
        with pytest.raises(DataError, match="could run code"):
            read_tensors(tmp_path / name)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(DataError, match="damaged"):
        read_tensors(tmp_path / "cut.safetensors")
    assert not (tmp_path / "ran_foreign_code").exists()


def test_the_command_tells_what_it_did(tmp_path):
    config = load_config(CONFIG, SMALL)
    torch.save(public_pillar("mmdet3d", config, 11), tmp_path / "pillar.pth")
    sets = [part for item in SMALL for part in ("--set", item)]
    options = ["import-weights", "--config", str(CONFIG), *sets, "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*options, "--pillar", str(tmp_path / "pillar.pth")])
    assert result.exit_code == 0, result.output
    assert "lidar" in result.output
    assert (tmp_path / "run" / "base.pt").is_file()
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 2
    assert "nothing to import" in result.output
