# SPDX-License-Identifier: Apache-2.0
"""Frames from the cache are the frames that would be made, and never those of other data, model facts or weather."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from peft_dml_evidence import frame_conditions
from peft_dml_evidence.frame_conditions import CONDITION_SOURCES, parse_frame_condition
from peft_dml_evidence.scoring import NetworkRunner
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.config import StageConfig, TrainConfig, load_config
from peft_dml_train.data import cache as caching
from peft_dml_train.data.batch import BatchStream
from peft_dml_train.data.cache import FrameCache, source_digest
from peft_dml_train.data.dataset import FrameReader, load_degraded, load_frames
from peft_dml_train.data.frame import Frame
from peft_dml_train.evaluation.sensors import SUBSETS
from peft_dml_train.loop.checkpoint import load_checkpoint
from peft_dml_train.loop.stages import pretrain
from tests.support.train_frames import some_frame

SPEC = ModelSpec()
WEATHER = ("clear", "fog=40", "rain=20")


def same(a, b):
    """True when two frames agree bit by bit."""
    assert (a.token, a.boxes.ids) == (b.token, b.boxes.ids)
    assert a.pillars.keys() == b.pillars.keys()
    assert a.windows.keys() == b.windows.keys()
    pairs = [(getattr(a.boxes, f.name), getattr(b.boxes, f.name)) for f in fields(a.boxes) if f.name != "ids"]
    pairs += [(getattr(a, name), getattr(b, name)) for name in ("mask", "age_s", "completeness", "quality")]
    pairs += [(a.windows[m], b.windows[m]) for m in a.windows]
    for m, pillars in a.pillars.items():
        pairs += [(pillars.points, b.pillars[m].points), (pillars.cells, b.pillars[m].cells)]
    assert (a.camera is None) == (b.camera is None)
    if a.camera is not None:
        pairs += [(getattr(a.camera, f.name), getattr(b.camera, f.name)) for f in fields(a.camera)]
    for one, other in pairs:
        if isinstance(one, int):
            continue  # numbers of pictures belong to a stage
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    return True


@pytest.mark.parametrize("without", ["", "camera", "radar", "imu"])
def test_a_frame_comes_back_as_it_was(tmp_path, without):
    cache, frame = FrameCache(tmp_path), some_frame(SPEC, 1, without=without)
    cache.write("k" * 20, frame)
    assert same(FrameCache(tmp_path).read("k" * 20), frame)
    assert np.array_equal(FrameCache(tmp_path).boxes("k" * 20).centers_m, frame.boxes.centers_m)
    assert cache.read("l" * 20) is None


def test_a_changed_look_is_another_frame(miniature, tmp_path):
    look = tmp_path / "looks.py"
    keys = []
    for text in ("one", "two", "one"):
        look.write_text(text)
        caching.code_digest.cache_clear()
        keys.append(source_digest(miniature, SPEC, (look,)))
    assert keys[0] == keys[2] != keys[1] != source_digest(miniature, SPEC)
    assert Path(frame_conditions.__file__) in CONDITION_SOURCES


def test_an_empty_frame_comes_back(tmp_path):
    zeros = np.zeros(5, np.float32)
    frame = Frame("none", {}, None, {}, zeros, zeros, zeros, zeros, Boxes3D.empty())
    FrameCache(tmp_path).write("kk", frame)
    assert same(FrameCache(tmp_path).read("kk"), frame)


def test_batches_are_the_same_with_and_without_cache(miniature, tmp_path):
    config = TrainConfig(pretrain=StageConfig(batch=2, balance=0.5, paste=0.3))
    streams = []
    for cache in (None, FrameCache(tmp_path), FrameCache(tmp_path)):
        frames = load_frames(miniature, ("sim_val",), SPEC, slice(None), WEATHER, 3, cache)
        corrupted = load_degraded(miniature, ("sim_val",), SPEC, slice(None), 0.5, 3, cache)
        streams.append(BatchStream(frames, config, config.pretrain, seed=5, degraded=corrupted))
    assert isinstance(streams[0].frames, list)
    assert not isinstance(streams[1].frames, list)
    for step in range(4):
        first, *others = (stream.make(step, 1.0) for stream in streams)
        for other in others:
            assert first.tokens == other.tokens
            for name in ("mask", "dropped", "age_s", "completeness", "quality", "depth_bins"):
                assert getattr(first, name).equal(getattr(other, name)), name
            for m, feed in first.feeds.items():
                assert all(value.equal(other.feeds[m][name]) for name, value in feed.items())
    made = sorted(p.stat().st_ino for p in tmp_path.glob("??/*.safetensors"))
    load_frames(miniature, ("sim_val",), SPEC, slice(None), WEATHER, 3, FrameCache(tmp_path))[0]
    assert sorted(p.stat().st_ino for p in tmp_path.glob("??/*.safetensors")) == made, "nothing is made twice"


@pytest.mark.parametrize("change", ["lidar.pillars=500", "camera.height_px=96", "grid.size=64"])
def test_another_model_fact_never_reads_old_frames(miniature, tmp_path, change):
    section, _, assignment = change.partition(".")
    name, _, value = assignment.partition("=")
    part = getattr(SPEC, section).model_copy(update={name: int(value)})
    other = SPEC.model_copy(update={section: part})
    token = FrameReader(miniature, SPEC).tokens(("sim_val",))[0]
    cache = FrameCache(tmp_path)
    load_frames(miniature, ("sim_val",), SPEC, slice(0, 1), cache=cache)[0]
    found = load_frames(miniature, ("sim_val",), other, slice(0, 1), cache=cache)[0]
    assert same(found, FrameReader(miniature, other).frame(token))
    assert len(list(tmp_path.glob("??/*.safetensors"))) == 2


def test_keys_differ_by_data_weather_seed_and_code(miniature, tmp_path, monkeypatch):
    def keys(weather=(), seed=0):
        frames = load_frames(miniature, ("sim_val",), SPEC, slice(0, 1), weather, seed, FrameCache(tmp_path))
        return frames._reader._key(frames._requests[0])

    assert len({keys(), keys(("fog=40",)), keys(("fog=41",)), keys(("fog=40",), 1)}) == 4
    before, source = keys(), source_digest(miniature, SPEC)
    other = tmp_path / "other" / "v1.0-sim"
    other.mkdir(parents=True)
    (other / "sample.json").write_text("[]")
    empty = source_digest(other.parent, SPEC)
    (other / "sample.json").write_text("[ ]")
    assert len({source, empty, source_digest(other.parent, SPEC)}) == 3
    monkeypatch.setattr(caching, "code_digest", lambda *_: "changed")
    assert keys() != before


def test_a_damaged_file_is_made_anew(miniature, tmp_path):
    frames = load_frames(miniature, ("sim_val",), SPEC, slice(0, 1), cache=FrameCache(tmp_path))
    first = frames[0]
    (path,) = tmp_path.glob("??/*.safetensors")
    for damaged in (b"", path.read_bytes()[:-1000], b"\xff" * 64):
        path.write_bytes(damaged)
        assert same(frames[0], first)
        assert FrameCache(tmp_path).read(path.stem) is not None
    (tmp_path / "tables").rename(tmp_path / "lost")
    assert same(load_frames(miniature, ("sim_val",), SPEC, slice(0, 1), cache=FrameCache(tmp_path))[0], first)
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_folder_stays_within_its_size(tmp_path):
    frame = some_frame(SPEC, 0)
    FrameCache(tmp_path).write("aa0", frame)
    size = next(tmp_path.glob("??/*.safetensors")).stat().st_size
    cache = FrameCache(tmp_path, most_gb=4.5 * size / 1e9)
    for i in range(1, 12):
        cache.write(f"aa{i}", replace(frame, token=f"t{i}"))
        assert cache.read("aa1") is not None, "what is used stays"
    kept = list(tmp_path.glob("??/*.safetensors"))
    assert len(kept) <= 4
    assert cache.read("aa11").token == "t11"
    assert cache.read("aa2") is None


def test_a_disk_that_refuses_does_not_stop_training(miniature, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    frames = load_frames(miniature, ("sim_val",), SPEC, slice(0, 1), cache=FrameCache(tmp_path / "file"))
    token = NuScenesReader(miniature).samples(NuScenesReader(miniature).splits["sim_val"][0])[0]
    assert frames[0].token == token
    assert "not kept" in caplog.text


def test_detections_are_those_of_the_vehicles_input_path(miniature, network, tmp_path):
    reader = NuScenesReader(miniature)
    scenes = reader.splits["sim_val"][:1]
    looks = tuple(
        parse_frame_condition(text) for text in ("clear", "fog=40", "temporalmisalignment/3", "delayed:lidar")
    )
    subsets = {**SUBSETS, "blind": ("imu", "gnss")}
    wanted = set(reader.samples(scenes[0])[:2])
    live, first, again = (
        NetworkRunner(network.eval(), reader, cache=cache)
        for cache in (None, FrameCache(tmp_path), FrameCache(tmp_path))
    )
    found = [list(runner.snapshots(scenes, looks, wanted)) for runner in (live, first, again)]
    assert [[(t, str(c)) for t, c, _ in one] for one in found] == [[(t, str(c)) for t, c, _ in found[0]]] * 3
    seen = 0
    for (token, _, true), (_, _, made), (_, _, read) in zip(*found, strict=True):
        for name, sensors in subsets.items():
            a, b, c = (r.detect(token, s, sensors) for r, s in ((live, true), (first, made), (again, read)))
            for other in (b, c):
                assert len(a.boxes) == len(other.boxes), name
                np.testing.assert_allclose(a.boxes.centers_m, other.boxes.centers_m, atol=1e-3)
                np.testing.assert_allclose(a.boxes.scores, other.boxes.scores, atol=1e-5)
                np.testing.assert_array_equal(a.mask, other.mask)
                np.testing.assert_array_equal(a.age_s, other.age_s)
                np.testing.assert_array_equal(a.completeness, other.completeness)
            seen += len(a.boxes)
    assert seen > 50


def test_a_training_with_cache_ends_with_the_same_weights(miniature, tmp_path):
    steps = ("pretrain.steps=2", "splits.train=[sim_val]", "dropout.degraded_portion=0.5", "dropout.corruption=1")
    config = load_config(Path(__file__).parents[2] / "train" / "configs" / "tiny.yaml", steps)
    cache = FrameCache(tmp_path / "frames")
    paths = [
        pretrain(config, miniature, tmp_path / name, resume=False, cache=kept)
        for name, kept in (("plain", None), ("kept", cache), ("again", cache))
    ]
    plain, *others = (load_checkpoint(path) for path in paths)
    assert 6 <= len(list((tmp_path / "frames").glob("??/*.safetensors"))) <= 9, "made when they are asked for"
    for other in others:
        assert all(value.equal(other[name]) for name, value in plain.items())
