# SPDX-License-Identifier: Apache-2.0
"""Candidates to boxes: what training encodes is what decoding returns; suppression against a plain oracle."""

import numpy as np
import pytest

from peft_dml_ros.core.boxes import NMS_RADIUS_M, Boxes3D, calibrate, decode_candidates, non_maximum_suppression
from peft_dml_ros.core.classes import ATTRIBUTES_OF_CLASS, CLASSES
from peft_dml_ros.core.spec import REGRESSION, ModelSpec

SPEC = ModelSpec()


def encode(boxes, columns=REGRESSION):
    """Fusion outputs that describe boxes exactly."""
    cell = (boxes.centers_m[:, :2] + SPEC.grid.half_range_m) / SPEC.grid.cell_m
    column, row = np.floor(cell).astype(int).T
    values = dict.fromkeys(REGRESSION, np.zeros(len(boxes)))
    values |= {"dx": cell[:, 0] - column - 0.5, "dy": cell[:, 1] - row - 0.5, "z": boxes.centers_m[:, 2]}
    values |= dict(zip(("log_length", "log_width", "log_height"), np.log(boxes.sizes_m).T, strict=True))
    values |= {"sin_2yaw": 2 * np.sin(2 * boxes.yaws_rad), "cos_2yaw": 2 * np.cos(2 * boxes.yaws_rad)}
    values |= {"heading_x": 3 * np.cos(boxes.yaws_rad), "heading_y": 3 * np.sin(boxes.yaws_rad)}
    values |= {"sin_yaw": 2 * np.sin(boxes.yaws_rad), "cos_yaw": 2 * np.cos(boxes.yaws_rad)}
    values |= {"vx": boxes.velocities_mps[:, 0], "vy": boxes.velocities_mps[:, 1]}
    return {
        "scores": boxes.scores.astype(np.float32),
        "labels": boxes.labels.astype(np.int32),
        "cells": (row * SPEC.grid.size + column).astype(np.int32),
        "regression": np.stack([values[n] for n in columns], axis=1).astype(np.float32),
        "attributes": np.random.default_rng(0).normal(size=(len(boxes), 8)).astype(np.float32),
    }


def random_boxes(n, seed=0):
    rng = np.random.default_rng(seed)
    return Boxes3D.make(
        rng.uniform(-50, 50, (n, 3)),
        rng.uniform(0.3, 12, (n, 3)),
        rng.uniform(-3.1, 3.1, n),
        rng.integers(0, 10, n),
        velocities_mps=rng.normal(0, 5, (n, 2)),
        scores=np.sort(rng.uniform(0.2, 1, n))[::-1],
    )


def test_encoded_boxes_come_back():
    truth = random_boxes(50)
    boxes = decode_candidates(encode(truth), SPEC, 0.1)
    np.testing.assert_allclose(boxes.centers_m, truth.centers_m, atol=1e-4)
    np.testing.assert_allclose(boxes.sizes_m, truth.sizes_m, rtol=1e-5)
    np.testing.assert_allclose(boxes.yaws_rad, truth.yaws_rad, atol=1e-5)
    np.testing.assert_allclose(boxes.velocities_mps, truth.velocities_mps, atol=1e-5)
    np.testing.assert_array_equal(boxes.labels, truth.labels)
    for label, attribute in zip(boxes.labels, boxes.attributes, strict=True):
        allowed = ATTRIBUTES_OF_CLASS[CLASSES[label]]
        assert attribute in allowed if allowed else attribute == -1


def test_weak_and_broken_candidates_are_left_out():
    outputs = encode(random_boxes(10))
    outputs["regression"][3, 0] = np.nan
    outputs["scores"][7:] = 0.05
    assert len(decode_candidates(outputs, SPEC, 0.1)) == 6
    assert len(decode_candidates(outputs, SPEC, 0.999)) == 0


def test_temperature_softens_without_reordering():
    scores = np.array([0.9, 0.5, 0.2])
    soft = calibrate(scores, 2.0)
    assert soft[0] < 0.9
    assert soft[1] == pytest.approx(0.5)
    assert (np.diff(soft) < 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_suppression_equals_the_oracle(seed):
    boxes = random_boxes(150, seed)
    crowded = Boxes3D.make(boxes.centers_m / 8, boxes.sizes_m, boxes.yaws_rad, boxes.labels, scores=boxes.scores)
    kept = []
    for i in range(len(crowded)):
        radius = NMS_RADIUS_M[CLASSES[crowded.labels[i]]]
        near = [
            j
            for j in kept
            if crowded.labels[i] == crowded.labels[j]
            and np.linalg.norm(crowded.centers_m[i, :2] - crowded.centers_m[j, :2]) < radius
        ]
        if not near:
            kept.append(i)
    result = non_maximum_suppression(crowded, CLASSES)
    assert 10 < len(result) < 150
    np.testing.assert_array_equal(result.centers_m, crowded.centers_m[kept])
