# SPDX-License-Identifier: Apache-2.0
"""The best of ten steps looks better on the frames that chose it; judged by other frames, noise gains nothing."""

import numpy as np
import pytest

from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.errors import ConfigError
from peft_dml_train.few_shot import gain as gaining
from peft_dml_train.few_shot.checks import Checks, choose, cross_judged, half_scores
from peft_dml_train.few_shot.gain import FrameHits, compare

STEPS, GROUPS, BOXES = 10, [0] * 6 + [1] * 6, 8
CUT = GROUPS.count(0)
TRUTH = np.eye(len(CLASSES), dtype=int)[0] * BOXES


def made_up(draw, found=0.5):
    """Hits of one model on all frames held out: it finds each object by chance."""
    frames = []
    for _ in GROUPS:
        hits = np.repeat(draw.random((BOXES, 1)) < found, 4, axis=1)
        errors = np.where(hits[:, :1], 0.3, np.full((BOXES, 5), np.nan))
        frames.append(FrameHits(draw.random(BOXES), np.zeros(BOXES, int), hits, errors, TRUTH))
    return frames


def both_ways(seed, found=0.5, patience=3):
    """Gain of the best step on the frames that chose it, over frames alone, and with each half judged by the other."""
    draw = np.random.default_rng(seed)
    steps = [made_up(draw), *(made_up(draw, found) for _ in range(STEPS))]
    scores = zip(*(half_scores(hits, CUT) for hits in steps), strict=True)
    whole, first, second = (choose(column, patience)[0] for column in scores)
    after = cross_judged(lambda step, part: steps[step][part], first, second, CUT)
    return compare(steps[0], steps[whole], 1), compare(steps[0], after, 1, GROUPS, CUT if first != second else 0)


@pytest.mark.parametrize("patience", [3, STEPS])
def test_on_noise_the_chosen_step_looks_better_and_gains_nothing_on_frames_that_did_not_choose_it(
    patience, monkeypatch
):
    monkeypatch.setattr(gaining, "RESAMPLES", 1)
    old, new = np.array([[gain.change for gain in both_ways(seed, patience=patience)] for seed in range(150)]).T
    error = np.std(new) / np.sqrt(len(new))
    assert abs(np.mean(new)) < 2.5 * error
    assert np.mean(old) > 5 * error, "the old way sees a gain where there is none"


def test_on_noise_better_is_said_as_rarely_as_the_interval_promises(monkeypatch):
    monkeypatch.setattr(gaining, "RESAMPLES", 80)
    verdicts = [[gain.verdict == "better" for gain in both_ways(seed, patience=STEPS)] for seed in range(60)]
    old, new = np.sum(verdicts, axis=0)
    assert new <= 3
    assert old >= 9


def test_steps_that_are_better_are_found_by_both_halves():
    assert both_ways(1, found=0.9)[1].verdict == "better"


def test_halves_of_two_models_are_scored_apart():
    """Boxes whose confidence has another scale would seem worse on a common curve."""
    draw = np.random.default_rng(2)
    start = made_up(draw)
    doubtful = [frame._replace(scores=frame.scores / 9) for frame in start[CUT:]]
    apart = compare(start, start[:CUT] + doubtful, 1, GROUPS, CUT)
    assert (apart.change, apart.low, apart.high) == (0, 0, 0)
    assert compare(start, start[:CUT] + doubtful, 1, GROUPS).low < 0


def test_a_choice_ends_after_patience_and_what_follows_does_not_count():
    assert choose([0.1, 0.3, 0.2, 0.2], 3) == (1, False)
    assert choose([0.1, 0.3, 0.2, 0.2, 0.3, 0.9], 3) == (1, True)
    assert choose([0.1, 0.1, 0.0], 2) == (0, True)
    assert choose([0.1], 3) == (0, False)


def test_scenes_that_disagree_leave_a_gain_undecided():
    """Over frames alone it would be sure: nine of twelve frames are better."""
    draw = np.random.default_rng(0)
    start, better, worse = made_up(draw), made_up(draw, 0.8), made_up(draw, 0.3)
    mixed = better[:9] + worse[9:]
    assert compare(start, mixed).verdict == "better"
    assert compare(start, mixed, groups=[0] * 3 + [1] * 3 + [2] * 3 + [3] * 3).verdict == "undecided"


def test_checks_are_found_again_and_those_of_other_frames_refused(tmp_path):
    import torch

    network = torch.nn.Linear(1, 1)
    checks = Checks(tmp_path, "a", (0.1, 0.1, 0.1), 3)
    for step, scores in ((30, (0.2, 0.3, 0.0)), (60, (0.3, 0.2, 0.1)), (90, (0.1, 0.1, 0.2)), (120, (0.1, 0.1, 0.1))):
        torch.nn.init.constant_(network.weight, step)
        checks.add(network, step, scores)
    assert checks.chosen == (60, 30, 90)
    again = Checks(tmp_path, "a", (0.1, 0.1, 0.1), 3)
    assert (again.chosen, again.over) == ((60, 30, 90), False)
    again.restore(network, 60)
    assert network.weight.item() == 60
    again.add(network, 150, (0.1, 0.9, 0.1))  # the first half's search was over
    assert (again.chosen, again.over) == ((60, 30, 90), False)
    again.add(network, 180, (0.9, 0.1, 0.1))
    assert (again.chosen, again.over) == ((60, 30, 90), True)
    with pytest.raises(ConfigError, match="is of other frames or settings"):
        Checks(tmp_path, "b", (0.1, 0.1, 0.1), 3)
