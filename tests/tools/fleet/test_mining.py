# SPDX-License-Identifier: Apache-2.0
"""Keyframes worth a label: what speaks for them, their spacing, and the folder that `adapt` takes."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from peft_dml_ros.core.adapter_domain import AdapterDomain, Spread
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.fleet import mining
from peft_dml_tools.fleet.mining import SPACING_NS, Keyframe, choose, draw
from peft_dml_tools.fleet.mining_job import draw_folders, mine_folders

S = 1_000_000_000


def keyframe(number, scene="one", **found):
    values = {"disagreement": 0.1, "doubt": 0.1, "flicker": 0.1, "figures": {"light": 0.5, "points": 4.5}} | found
    return Keyframe("/data", scene, f"{scene}{number}", number * S, **values)


def boxes(*places, score=0.9):
    n = len(places)
    empty = Boxes3D.empty()
    return replace(
        empty,
        centers_m=np.array([(x, y, 0.0) for x, y in places], float).reshape(n, 3),
        sizes_m=np.ones((n, 3)),
        yaws_rad=np.zeros(n),
        velocities_mps=np.zeros((n, 2)),
        labels=np.zeros(n, np.int64),
        scores=np.full(n, score),
        attributes=np.full(n, -1, np.int64),
        sigmas=np.zeros((n, 4)),
    )


@pytest.mark.parametrize(
    "reason", [{"disagreement": 0.9}, {"doubt": 0.8}, {"flicker": 1.0}, {"figures": {"light": 0.515, "points": 4.5}}]
)
def test_each_criterion_brings_a_keyframe_to_the_top(reason):
    keyframes = [keyframe(i, f"scene{i}") for i in range(8)]
    keyframes[5] = keyframe(5, "scene5", **reason)
    (best, ranks), *_ = choose(keyframes, 3)
    assert best.scene == "scene5"
    name = next(iter(reason)).replace("figures", "novelty")
    assert ranks[name] == max(ranks.values()) == 1.0


def test_what_lies_outside_the_adapters_domain_comes_first():
    """Four keyframes in fog, of which nothing else speaks for two, among keyframes of which all else speaks."""
    domain = AdapterDomain(figures={"light": Spread(0.5, 0.02), "points": Spread(4.5, 0.02)}, frames=66)
    clear = [keyframe(i, f"clear{i}", disagreement=0.9, doubt=0.9, flicker=0.9, domain=domain) for i in range(6)]
    foggy = {"figures": {"light": 0.58, "points": 4.45}, "domain": domain}
    fog = [keyframe(i, f"fog{i}", doubt=0.1 + 0.4 * (i < 2), **foggy) for i in range(4)]
    assert [k.scene for k, _ in choose([*clear, *fog], 5)] == ["fog0", "fog1", "fog2", "fog3", "clear0"]
    assert domain.distance({"light": 0.54, "points": 4.5, "unknown": 9.0}) == pytest.approx(1.0)
    assert domain.distance({}) == 0.0


def test_neighbours_of_a_chosen_keyframe_are_left_out():
    keyframes = [keyframe(i / 2, doubt=0.5 + i / 100) for i in range(12)]
    stamps = sorted(k.stamp_ns for k, _ in choose(keyframes, 12))
    assert len(stamps) == 3
    assert min(np.diff(stamps)) >= SPACING_NS
    drawn = [sorted(k.stamp_ns for k, _ in draw(keyframes, 2, seed)) for seed in range(5)]
    assert all(b - a >= SPACING_NS for a, b in drawn)
    assert len({tuple(d) for d in drawn}) > 1
    assert choose([], 3) == []


def test_sensors_that_find_other_objects_disagree():
    here, away = boxes((0, 0), (10, 0)), boxes((0, 1), (30, 0))
    assert mining._disagreement(here, here) == 0.0
    assert mining._disagreement(here, away) == pytest.approx(0.5)
    assert mining._disagreement(here, boxes()) == 1.0
    assert mining._disagreement(boxes(), boxes()) == 0.0


def test_a_sure_box_without_a_partner_flickers_and_the_ego_motion_is_taken_out():
    poses = [SE3(np.eye(3), np.array([5.0 * i, 0.0, 0.0])) for i in range(3)]
    still = [boxes((20.0 - 5 * i, 0)) for i in range(3)]
    assert mining._flicker(still, poses, [0, S, 2 * S]) == [0.0, 0.0, 0.0]
    gone = [still[0], boxes((15.0, 0), (15, 9)), still[2]]
    assert mining._flicker(gone, poses, [0, S, 2 * S]) == [0.0, 0.5, 0.0]
    unsure = [still[0], boxes((40.0, 0), score=0.2), still[2]]
    assert mining._flicker(unsure, poses, [0, S, 2 * S])[1] == 0.0


@pytest.mark.timeout(300)
def test_the_folder_holds_what_was_chosen_and_why(cluster, settings_for, miniature, tmp_path):
    out = tmp_path / "mined"
    chosen, candidates = mine_folders(cluster, settings_for(tmp_path), [miniature], out, 2)
    assert (len(chosen), candidates) == (2, 6)
    reader = NuScenesReader(out)
    tokens = [token for scene in reader.scenes for token in reader.samples(scene)]
    assert sorted(tokens) == sorted(c["sample"] for c in chosen)
    assert reader.splits["mined"]
    reasons = json.loads((out / "mined.json").read_text())
    assert set(reasons["chosen"][0]["ranks"]) == {"disagreement", "doubt", "flicker", "novelty"}
    assert reasons["failed"] == []
    whole = NuScenesReader(miniature)
    for token in tokens:
        assert len(reader.truth(token, keep_unseen=True)) == len(whole.truth(token, keep_unseen=True))
    with pytest.raises(ConfigError, match="holds files of something else; fix: "):
        mine_folders(cluster, settings_for(tmp_path), [miniature], out, 2)


def test_random_keyframes_come_from_their_seed(miniature, tmp_path):
    drawn = [
        [c["sample"] for c in draw_folders([miniature], tmp_path / str(i), 2, seed)[0]]
        for i, seed in enumerate((1, 1, 2))
    ]
    assert drawn[0] == drawn[1]
    assert len(NuScenesReader(tmp_path / "0").scenes) == 2
    assert len(drawn[2]) == 2


def test_two_folders_with_the_same_scene_are_refused(miniature, tmp_path):
    copy = shutil.copytree(miniature, tmp_path / "copy")
    with pytest.raises(DataError, match=r"scene-\d+ is in .* and in .*copy, .*fix: leave one out"):
        draw_folders([miniature, copy], tmp_path / "out", 2, 1)


def test_a_version_folder_names_one_of_several(miniature, tmp_path):
    copy = shutil.copytree(miniature, tmp_path / "copy")
    (version,) = (path.parent for path in copy.glob("*/scene.json"))
    shutil.copytree(version, copy / "v1.0-other")
    with pytest.raises(DataError, match="exactly one version folder"):
        draw_folders([copy], tmp_path / "out", 2, 1)
    chosen, _ = draw_folders([version], tmp_path / "out", 2, 1)
    reader = NuScenesReader(tmp_path / "out")
    assert sorted(reader.samples()) == sorted(c["sample"] for c in chosen)
    assert reader.truth(reader.samples()[0], keep_unseen=True)
