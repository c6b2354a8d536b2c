# SPDX-License-Identifier: Apache-2.0
"""Comparisons use the seeds and scenes that both cells have, and words follow from intervals."""

import math

import numpy as np
import pytest

from peft_dml_evidence.statistics import difference, joined, paired, ratio


def by_seed(**values):
    return {int(seed[1:]): {"": value} for seed, value in values.items()}


def test_a_lucky_seed_does_not_turn_a_verdict_round():
    """Seed 7 is lucky for everyone: its single figure beats the mean of three seeds, and loses to its own."""
    full = by_seed(s7=0.322, s8=0.305, s9=0.302)
    lucky = by_seed(s7=0.315)
    mixed = 0.315 / np.mean([0.322, 0.305, 0.302])
    assert mixed > 1.0
    found = paired(ratio, lucky, full)
    assert found.value == pytest.approx(0.315 / 0.322)
    assert found.value < 0.98
    assert found.verdict(0.98) == "undecided"
    three = by_seed(s7=0.315, s8=0.2985, s9=0.2955)
    assert paired(ratio, three, full).verdict(0.985) == "missed"
    assert paired(ratio, three, full).verdict(0.97) == "holds"


def test_what_seeds_share_is_not_noise():
    """Seeds differ by .05, the cells by .01 in every one of them: an interval that mixed seeds would hold 0."""
    better = by_seed(s7=0.31, s8=0.36, s9=0.41)
    worse = by_seed(s7=0.30, s8=0.35, s9=0.40)
    found = paired(difference, better, worse)
    assert (found.low, found.high) == (pytest.approx(0.01), pytest.approx(0.01))
    assert found.verdict(0.0) == "holds"
    spread = np.std([0.31, 0.36, 0.41], ddof=1)
    assert spread > 0.04
    assert found.by_seed == {s: pytest.approx(0.01) for s in (7, 8, 9)}


def scenes(seed, shift, count=12):
    rng = np.random.default_rng(5)
    hard = rng.normal(0.4, 0.15, count)
    noise = np.random.default_rng(seed).normal(0, 0.01, count)
    return {
        "": float(hard.mean() + shift),
        **{f"scene-{i}": float(h + shift + n) for i, (h, n) in enumerate(zip(hard, noise, strict=True))},
    }


def test_one_seed_decides_nothing_however_many_scenes_it_has():
    found = paired(difference, {7: scenes(7, 0.2)}, {7: scenes(107, 0.0)})
    assert found.low > 0.1
    assert found.verdict(0.0) == found.place(0.005) == "undecided"
    assert found.text().endswith("] (one seed)")


def test_an_interval_holds_the_seeds_whose_scenes_hide_them():
    """Seeds differ over all scenes, and not by scene: NDS is no mean of the scenes' NDS."""
    a, b = ({s: scenes(1, 0.0) for s in (7, 8, 9)} for _ in range(2))
    for seed, shift in ((7, -0.04), (8, 0.0), (9, 0.04)):
        a[seed] = {**a[seed], "": a[seed][""] + shift}
    found = paired(difference, a, b)
    assert found.low == pytest.approx(-0.04)
    assert found.high == pytest.approx(0.04)
    assert found.verdict(0.0) == "undecided"


def test_scenes_are_drawn_in_pairs():
    a = {s: scenes(s, 0.02) for s in (7, 8, 9)}
    b = {s: scenes(s + 100, 0.0) for s in (7, 8, 9)}
    found = paired(difference, a, b)
    assert found.scenes == 12
    assert found.value == pytest.approx(0.02)
    assert 0.005 < found.low < 0.02 < found.high < 0.035
    # The scenes alone differ by .15: unpaired, the interval would be ten times as wide.
    assert found == paired(difference, a, b)
    fewer = {s: {k: v for k, v in row.items() if k != "scene-3"} for s, row in b.items()}
    assert paired(difference, a, fewer).scenes == 11


def test_one_seed_decides_nothing_and_no_shared_seed_is_no_comparison():
    found = paired(difference, by_seed(s7=0.9), by_seed(s7=0.1, s8=0.2))
    assert found.verdict(0.0) == "undecided"
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert "one seed" in found.text()
    assert paired(difference, by_seed(s7=0.9), by_seed(s8=0.2)) is None


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ((-0.03, -0.031, -0.029), "earned"),
        ((0.03, 0.031, 0.029), "not earned"),
        ((0.0005, -0.0005, 0.0), "no difference"),
        ((0.05, -0.05, 0.0), "undecided"),
    ],
)
def test_a_parts_place_follows_from_the_interval(values, word):
    without = {s: {"": 0.4 + v} for s, v in zip((7, 8, 9), values, strict=True)}
    complete = {s: {"": 0.4} for s in (7, 8, 9)}
    assert paired(difference, without, complete).place(0.005) == word


def test_figures_are_joined_only_where_a_seed_has_all():
    assert joined([by_seed(s7=0.2, s8=0.4), by_seed(s7=0.4)]) == {7: {"": pytest.approx(0.3)}}
    assert joined([]) == {}
