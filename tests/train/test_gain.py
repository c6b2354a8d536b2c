# SPDX-License-Identifier: Apache-2.0
"""NDS of a few frames is the devkit's; headings and speeds count; a gain is sure only where frames agree."""

import numpy as np
import pytest
from nuscenes.eval.detection.algo import accumulate, calc_ap, calc_tp
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.data_classes import DetectionMetrics

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import ATTRIBUTES_OF_CLASS, CLASSES
from peft_dml_tools.evaluation.scoring import _Devkit
from peft_dml_train.few_shot.gain import RULES, UNDEFINED, accuracy, common_classes, compare, frame_hits, of_classes

ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")


def boxes(*centers, labels=None, scores=None, yaw=0.0, speed=0.0):
    n = len(centers)
    return Boxes3D.make(
        np.array([(*c, 1.0) for c in centers]).reshape(n, 3), np.full((n, 3), 2.0), np.full(n, yaw),
        np.zeros(n, int) if labels is None else np.array(labels), scores=scores,
        velocities_mps=np.full((n, 2), speed), attributes=np.full(n, 6),
    )  # fmt: skip


def drawn_frame(draw, classes):
    """Truth of the classes, some of it far away or without velocity, and what a mediocre detector makes of it."""
    labels = draw.choice(classes, 24)
    attributes = np.array([draw.choice(ATTRIBUTES_OF_CLASS[CLASSES[c]] or (-1,)) for c in labels])
    velocities = draw.normal(0, 4, (24, 2))
    velocities[:3] = np.nan
    attributes[3:5] = -1
    truth = Boxes3D.make(
        draw.uniform(-40, 40, (24, 3)), draw.uniform(0.5, 5, (24, 3)), draw.uniform(-3, 3, 24), labels,
        velocities_mps=velocities, attributes=attributes,
    )  # fmt: skip
    picked, n = draw.integers(24, size=40), 40
    found = Boxes3D.make(
        truth.centers_m[picked] + draw.normal(0, 1.2, (n, 3)), truth.sizes_m[picked] * draw.uniform(0.7, 1.4, (n, 3)),
        truth.yaws_rad[picked] + draw.normal(0, 1, n), np.where(draw.random(n) < 0.8, labels[picked], labels[0]),
        velocities_mps=draw.normal(0, 4, (n, 2)), attributes=attributes[picked[::-1]],
        scores=np.sort(draw.random(n))[::-1].copy(),
    )  # fmt: skip
    return found, truth


def by_devkit(frames, names):
    """Return mean AP and NDS as nuscenes-devkit's own evaluation forms them, over these classes."""
    devkit = _Devkit()
    found, truth = (devkit.boxes({str(i): f[k] for i, f in enumerate(frames)}) for k in (0, 1))
    metrics = DetectionMetrics(RULES)
    for name in names:
        curves = {d: accumulate(truth, found, name, RULES.dist_fcn_callable, d) for d in RULES.dist_ths}
        for distance, curve in curves.items():
            metrics.add_label_ap(name, distance, calc_ap(curve, RULES.min_recall, RULES.min_precision))
        undefined = [ERRORS[column] for column in UNDEFINED.get(name, ())]
        for error in TP_METRICS:
            value = calc_tp(curves[RULES.dist_th_tp], RULES.min_recall, error)
            metrics.add_label_tp(name, error, np.nan if error in undefined else value)
    for name in set(CLASSES) - set(names):
        for error in TP_METRICS:
            metrics.add_label_tp(name, error, np.nan)
    return metrics.mean_ap, metrics.nd_score


@pytest.mark.parametrize("classes", [range(10), (0, 5, 8, 9)])
def test_accuracy_is_that_of_the_devkit(classes):
    draw = np.random.default_rng(len(classes))
    frames = [drawn_frame(draw, list(classes)) for _ in range(8)]
    found = accuracy([frame_hits(*frame) for frame in frames])
    assert found == pytest.approx(by_devkit(frames, [CLASSES[c] for c in classes]), abs=1e-9)
    assert 0.05 < min(found) <= max(found) < 0.6


def test_ap_is_one_for_the_truth_and_falls_with_every_false_box():
    truth = boxes((0, 0), (20, 0))
    assert accuracy([frame_hits(truth, truth)]) == pytest.approx((1.0, 1.0))
    doubtful = boxes((40, 0), (0.4, 0), (20, 0.4), scores=np.array([0.9, 0.8, 0.7]))
    assert 0.4 < accuracy([frame_hits(doubtful, truth)]).mean_ap < 0.7
    assert accuracy([frame_hits(boxes((0.4, 0), labels=[1]), truth)]) == (0.0, 0.0)
    assert accuracy([frame_hits(Boxes3D.empty(), truth)]) == (0.0, 0.0)
    assert accuracy([frame_hits(truth, Boxes3D.empty())]) == (0.0, 0.0)


def test_headings_and_speeds_count_though_ap_does_not_see_them():
    truth = boxes((5, 0), (20, 0))
    turned, fast = boxes((5, 0), (20, 0), yaw=np.pi), boxes((5, 0), (20, 0), speed=3.0)
    right, backwards, wrong = (accuracy([frame_hits(b, truth)]) for b in (truth, turned, fast))
    assert right.mean_ap == backwards.mean_ap == wrong.mean_ap == pytest.approx(1.0)
    assert backwards.nds == pytest.approx(0.9)
    assert wrong.nds == pytest.approx(0.9)


def test_a_gain_is_sure_only_where_frames_agree():
    truth = boxes((0, 0), (20, 0))
    none, both, one = (frame_hits(b, truth) for b in (Boxes3D.empty(), boxes((0, 0), (20, 0)), boxes((0, 0))))
    better = compare([one] * 10, [both] * 10)
    assert (better.verdict, better.after.nds) == ("better", pytest.approx(1.0))
    assert compare([both] * 10, [one] * 10).verdict == "worse"
    backwards = frame_hits(boxes((0, 0), (20, 0), yaw=np.pi), truth)
    assert compare([both] * 10, [backwards] * 10).verdict == "worse"
    mixed = compare([both, none] * 5, [none, both] * 5)
    assert mixed.verdict == "undecided"
    assert mixed.low < 0 < mixed.high
    assert "undecided on 10 frames; mAP" in str(mixed)


def test_one_object_of_a_rare_class_decides_nothing():
    """It is seen in six frames, and found by one model alone; twelve cars in each are found by both."""
    places = [(4.0 * n, 0.0) for n in range(12)]
    truth = boxes(*places, (0, 30), labels=[0] * 12 + [5])
    both, cars = (frame_hits(found, truth) for found in (truth, truth[truth.labels == 0]))
    assert compare([cars] * 6, [both] * 6).verdict == "better"
    classes = common_classes([cars] * 6)
    assert [CLASSES[c] for c in np.flatnonzero(classes)] == ["car"]
    gain = compare(*(of_classes([hits] * 6, classes) for hits in (cars, both)))
    assert (gain.change, gain.verdict) == (0.0, "undecided")
    assert common_classes([both]).sum() == 2, "of a few frames all count"
