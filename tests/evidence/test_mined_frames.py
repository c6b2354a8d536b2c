# SPDX-License-Identifier: Apache-2.0
"""Mined frames against random ones: pairs by seed, an arm without an adapter is the base, the verdict follows."""

import numpy as np
import pytest

from peft_dml_evidence import mined_frames
from peft_dml_evidence.mined_frames import TrainingArm, score_arms
from peft_dml_train.few_shot.gain import FrameHits

TRUTH = np.array([4] + [0] * 9)


def found(hits):
    """Four frames, each with four boxes, so many of which find a car."""
    flags = np.repeat([[True]] * hits + [[False]] * (4 - hits), 4, axis=1)
    return [FrameHits(np.linspace(0.9, 0.6, 4), np.zeros(4, int), flags, np.full((4, 5), 0.5), TRUTH)] * 4


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Scores by folder instead of a detector's: how pairs are made of them is what is looked at."""

    def run(**hits_by_arm):
        arms = []
        for name, hits in hits_by_arm.items():
            kind, seed = name.split("_")
            arms.append(TrainingArm(kind, int(seed), tmp_path / kind, tmp_path / name))
            if hits is not None:
                arms[-1].out.mkdir()
        monkeypatch.setattr(mined_frames, "load_bundle", lambda base, adapter="": adapter.rpartition("/")[2])
        monkeypatch.setattr(mined_frames, "hits_of", lambda bundle, _: found(hits_by_arm.get(bundle, 1)))
        return score_arms(tmp_path, arms, [None] * 4)

    return run


def test_mined_frames_win_where_every_seed_says_so(study):
    report = study(mined_1=3, random_1=2, mined_2=3, random_2=2, mined_3=3, random_3=2)
    assert report["verdict"] == "mined is better"
    assert report["difference"] == pytest.approx(
        report["by_seed"][0]["mined"] - report["by_seed"][0]["random"], abs=2e-4
    )
    assert report["seeds_95_percent"][0] > 0
    assert report["test_frames"] == 4


def test_seeds_that_contradict_each_other_decide_nothing(study):
    report = study(mined_1=4, random_1=2, mined_2=2, random_2=3)
    assert report["verdict"] == "undecided"
    assert report["seeds_95_percent"][0] < 0 < report["seeds_95_percent"][1]


def test_an_arm_without_an_adapter_is_the_base(study):
    report = study(mined_1=3, random_1=None, mined_2=3, random_2=None)
    assert [row["adapted"] for row in report["by_seed"]] == [{"mined": True, "random": False}] * 2
    assert {row["random"] for row in report["by_seed"]} == {report["base"]}
