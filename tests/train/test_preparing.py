# SPDX-License-Identifier: Apache-2.0
"""Frames that `peft-dml-train prepare` makes on a cluster are what training and evaluation read, each made once."""

import subprocess
import sys

import pytest

from peft_dml_train.config import load_config
from peft_dml_train.data.batch import BatchStream
from peft_dml_train.data.cache import FrameCache
from peft_dml_train.data.dataset import FrameReader
from peft_dml_train.data.preparing import stage_frames
from peft_dml_train.evaluation.conditions import CLEAR
from peft_dml_train.evaluation.prepared import PreparedFrames
from peft_dml_train.loop.stages import stage_stream

SPLITS = ("train", "finetune", "val", "test")
SETTINGS = (
    *(f"splits.{name}=[sim_val]" for name in SPLITS),
    *("dropout.degraded_portion=0.5", "dropout.corruption=1", "finetune.weather=[rain=25]"),
)


def recipe(*more):
    return load_config(None, (*SETTINGS, *more))


def prepare(data, cache, *options):
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    command = [sys.executable, "-m", "peft_dml_train.cli", "prepare", "--data", str(data), "--cache", str(cache)]
    return subprocess.run([*command, *words, *options], capture_output=True, text=True, check=False, timeout=280)


def test_frames_of_all_stages_and_processes_are_named_once(miniature):
    reader = FrameReader(miniature, recipe().spec)
    wanted = stage_frames(recipe(), reader)
    # Six keyframes as they are, three of them corrupted for the first stage, six in rain for the second.
    assert [sum(one.name.startswith(kind) for one in wanted) for kind in ("degraded", "weather")] == [3, 6]
    assert len(wanted) == len({(one.token, one.name) for one in wanted}) == 15
    names = {one.name for one in stage_frames(recipe("processes=2"), reader)}
    assert any(int(name.split()[-1]) >= 1000 for name in names if name), "the second process has a seed of its own"


@pytest.mark.timeout(600)
def test_training_and_evaluation_find_every_frame_prepared(miniature, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="jobs on a cluster need Ray: pip install 'peft_dml_ros[fleet]'")
    done = prepare(miniature, tmp_path / "frames", "--workers", "2")
    assert done.returncode == 0, done.stderr[-1500:]
    assert "15 frames in" in done.stdout
    assert "15 made now, 0 were there" in done.stdout

    def refuse(*_):
        raise AssertionError("a frame was made although it had been prepared")

    monkeypatch.setattr(FrameReader, "frame", refuse)
    config, cache = recipe(), FrameCache(tmp_path / "frames")
    for stage, splits, seed in (
        (config.pretrain, config.splits.train, config.seed),
        (config.finetune, config.splits.finetune, config.seed + 1),
    ):
        stream = stage_stream(config, stage, splits, miniature, seed, cache)
        assert isinstance(stream, BatchStream)
        for frames in (stream.frames, stream.degraded):
            assert all(len(frame.boxes) >= 0 for frame in frames)  # each is read from its file
    reader = FrameReader(miniature, config.spec, cache).reader
    tokens = [token for scene in reader.scenes for token in reader.samples(scene)]
    prepared = PreparedFrames(reader, config.spec, cache)
    assert len([prepared.snapshot(token, None, CLEAR) for token in tokens]) == 6
    (tmp_path / "frames" / "aa").mkdir(exist_ok=True)
    next((tmp_path / "frames").glob("??/*.safetensors")).unlink()
    again = prepare(miniature, tmp_path / "frames", "--workers", "1")
    assert "1 made now, 14 were there" in again.stdout, again.stdout + again.stderr[-1500:]


def test_what_is_wrong_is_said_in_one_line(miniature, tmp_path):
    none = prepare(miniature, tmp_path, "--set", "splits.test=[sim_nothing]")
    assert none.returncode == 2
    assert "has no scenes for" in none.stderr
    away = prepare(miniature, tmp_path, "--address", "127.0.0.1:1")
    assert away.returncode == 2
    assert "no Ray cluster there" in away.stderr
    assert "fix: start one" in away.stderr
