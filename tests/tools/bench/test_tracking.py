# SPDX-License-Identifier: Apache-2.0
"""The tracking score: whole tracks are whole, a lost identity is a switch, a dead LiDAR is looked at by itself."""

from dataclasses import replace

import numpy as np
import pytest

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import OdometrySample
from peft_dml_tools.evaluation.recording import RecordedFrame
from peft_dml_tools.run.tracking import SILENT_S, TrackedDrive, devkit_scores, measure

PERIOD_NS = 100_000_000
ALL, NO_LIDAR = np.ones(5), np.array([0.0, 0.0, 0.0, 1.0, 1.0])


def cars(t_s):
    """Two cars at a distance from each other, one of them on its way."""
    centers = np.array([[15.0, 4.0 * t_s - 20.0, 0.8], [-12.0, 3.0, 0.8]])
    velocities = np.array([[0.0, 4.0], [0.0, 0.0]])
    sizes, yaws = np.tile([4.5, 1.9, 1.6], (2, 1)), np.array([np.pi / 2, 0.0])
    return Boxes3D.make(centers, sizes, yaws, np.zeros(2, int), velocities_mps=velocities, ids=("a", "b"))


def run(seen):
    """A drive of a vehicle that stands; `seen(t in s)` picks which cars are detected."""
    frames, odometry = [], []
    for k in range(100):
        stamp_ns, truth = k * PERIOD_NS + PERIOD_NS, cars(k * 0.1)
        boxes = replace(truth, scores=np.full(2, 0.8), ids=())[seen(k * 0.1)]
        mask = ALL if k * 0.1 <= SILENT_S else NO_LIDAR
        frames.append(RecordedFrame(stamp_ns, "LIDAR_TOP", boxes, mask, mask / 5, 0.0, {}, {}, truth=truth))
        odometry.append(OdometrySample(stamp_ns, SE3.identity()))
    return TrackedDrive("made", tuple(frames), tuple(odometry))


@pytest.fixture(autouse=True)
def _devkit():
    pytest.importorskip("nuscenes.eval.tracking.algo")


def test_perfect_tracks_score_one_and_a_changed_identity_is_a_switch():
    made = run(lambda _: [True, True])
    whole = [f.truth for f in made.frames]
    scores = devkit_scores([(made, whole)])
    assert scores["amota"] == pytest.approx(1.0)
    assert scores["id_switches"] == 0
    parted = [t if k < 50 else replace(t, ids=("a", "c")) for k, t in enumerate(whole)]
    assert devkit_scores([(made, parted)])["id_switches"] == 1


def test_tracks_outlive_the_lidar_that_saw_them():
    figures = measure([run(lambda t: [True, t <= SILENT_S])])
    assert figures["recall_after_lidar_dies_detections"] == pytest.approx(0.5)
    assert figures["recall_after_lidar_dies"] == pytest.approx(1.0)
    assert figures["recall_after_lidar_dies_ratio"] == pytest.approx(2.0)
    assert figures["id_switches"] == 0
