# SPDX-License-Identifier: Apache-2.0
import sys
from dataclasses import replace

import numpy as np
import pytest

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.geometry import SE3
from peft_dml_tools.evaluation import scoring
from peft_dml_tools.evaluation.alignment import Alignment
from peft_dml_tools.evaluation.metrics import evaluate, full_frames, percentiles
from peft_dml_tools.evaluation.scoring import score
from peft_dml_tools.evaluation.tables import slow_offline, too_slow
from tests.tools.commands.fabricated import PERIOD_NS, START_NS, truth

KEYS = (
    "frames_expected", "frames_published", "frames_published_lidar_out", "latency_ms", "stages_ms", "drops", "sensors",
    "map_full", "map_lidar_out",
)  # fmt: skip


def test_metrics_hold_what_was_promised(recording):
    metrics = evaluate(recording).metrics
    assert tuple(metrics) == KEYS
    assert metrics["frames_expected"] == metrics["frames_published"] == 20
    assert metrics["frames_published_lidar_out"] == 5
    assert metrics["latency_ms"] == percentiles(range(70, 90))
    assert metrics["stages_ms"]["fusion"] == {"p50": 30.0, "p95": 30.0, "p99": 30.0}
    assert metrics["drops"] == {"CAM_FRONT: duplicate stamp": 2}
    assert metrics["sensors"]["LIDAR_TOP"] == {"received": 20, "gated": 5, "reasons": {"stale": 5}}
    # All three objects are found with LiDAR, two of three classes without.
    assert metrics["map_full"] == pytest.approx(1.0)
    assert metrics["map_lidar_out"] == pytest.approx(2 / 3, abs=1e-3)


def test_full_frames_are_those_with_every_sensor_that_ever_spoke(recording):
    assert len(full_frames(recording)) == 15


def test_frames_before_the_first_measurement_are_not_frames_without_lidar(recording):
    nothing = np.zeros(5)
    blind = [
        replace(recording.frames[8], stamp_ns=START_NS - k * PERIOD_NS, reference="clock", mask=nothing, gate=nothing)
        for k in (2, 1)
    ]
    lost = replace(recording.frames[-1], stamp_ns=START_NS + 30 * PERIOD_NS, reference="clock", mask=nothing)
    longer = evaluate(replace(recording, frames=(*blind, *recording.frames, lost)))
    # Frames that see nothing, at the start or later, do not show how cameras and radars carry on.
    assert longer.metrics["frames_published_lidar_out"] == 5
    assert longer.lidar_out.frames == 5


def test_scores_name_what_they_leave_out(recording):
    full = evaluate(recording).full
    assert set(full.ap) == {"car", "pedestrian", "truck"}
    assert "bus" in full.absent
    assert full.truth == {"car": 15, "truck": 15, "pedestrian": 15}
    assert full.recall_2m["car"] == 1.0


def test_boxes_out_of_place_score_less(recording):
    def moved(boxes: Boxes3D, metres: float) -> Boxes3D:
        return replace(boxes, centers_m=boxes.centers_m + np.array([metres, 0, 0]))

    def mean_ap(metres: float) -> float:
        return score([replace(f, boxes=moved(f.boxes, metres)) for f in full_frames(recording)]).mean_ap

    assert mean_ap(0.0) > mean_ap(1.5) > mean_ap(5.0) == 0.0


def test_truth_beyond_the_range_of_its_class_does_not_count(recording):
    far = Boxes3D.make(np.array([[45.0, 0, 1.0]]), np.ones((1, 3)), np.zeros(1), np.array([5]))
    assert score([replace(recording.frames[0], truth=far, boxes=far)]).mean_ap is None


def test_a_class_that_the_devkit_has_not_is_left_out(recording, monkeypatch):
    from peft_dml_tools.datasets import nuscenes_scores

    for module in (scoring, nuscenes_scores):
        monkeypatch.setattr(module, "CLASSES", (*CLASSES, "animal"))
    both = Boxes3D.make(np.array([[9.0, 0, 1], [9.0, 5, 1]]), np.ones((2, 3)), np.zeros(2), np.array([0, len(CLASSES)]))
    found = score([replace(recording.frames[0], truth=both, boxes=both)])
    assert found.truth == {"car": 1}
    assert [row["detection_name"] for row in nuscenes_scores.result_rows("a", both, SE3.identity())] == ["car"]


def test_without_devkit_the_reason_is_told(recording, monkeypatch):
    monkeypatch.setitem(sys.modules, "nuscenes.eval.detection.algo", None)
    found = score(recording.frames)
    assert found.mean_ap is None
    assert "peft_dml_ros[demo]" in found.reason


def test_truth_follows_the_vehicle_and_the_objects(recording):
    alignment = Alignment(recording.odometry)
    known = {START_NS + 5 * PERIOD_NS: truth(0.5)}
    later_ns = START_NS + 5 * PERIOD_NS + 50_000_000
    boxes = alignment.truth_at(known, later_ns)
    # The car gains 3 m/s, the vehicle drives 5 m/s: in 50 ms the car comes 0.1 m nearer.
    assert boxes.centers_m[0, 0] - truth(0.5).centers_m[0, 0] == pytest.approx(-0.1, abs=1e-6)
    assert boxes.centers_m[1, 1] - truth(0.5).centers_m[1, 1] == pytest.approx(0.05, abs=1e-6)
    assert alignment.truth_at(known, later_ns + 20_000_000) is None
    assert alignment.truth_at({}, later_ns) is None


def test_a_machine_that_is_too_slow_is_named_with_figures():
    live = {"frames_published": 63, "frames_expected": 121, "latency_ms": {"p50": 228.0}}
    said = too_slow(live | {"cores": {"node": 1.3, "recorder": 0.05, "machine": 2}})
    assert "63 of 121 frames" in said
    assert "228 ms" in said
    assert "cores of 2: node 1.30, recorder 0.05" in said
    assert too_slow(live | {"frames_published": 120}) == ""
    assert "143 ms, 70% of ten frames" in slow_offline({"latency_ms": {"p50": 143.0}})
    assert slow_offline({"latency_ms": {"p50": 60.0}}) == slow_offline({"latency_ms": {}}) == ""
