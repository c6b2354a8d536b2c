# SPDX-License-Identifier: Apache-2.0
"""Figures of one detector for the table of targets: scores by sensors, lying radars, headings, the shared space."""

from collections import defaultdict
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import numpy as np
from nuscenes import NuScenes

from peft_dml_evidence.retrieval import embeddings, recall
from peft_dml_evidence.scoring import figures
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES, DETECTING, MODALITIES, Modality
from peft_dml_ros.core.typing import AnyArray
from peft_dml_tools.datasets.nuscenes_scores import result_rows, score
from peft_dml_tools.sim.corruptions import RADAR_NOISE
from peft_dml_train.data.dataset import FrameReader
from peft_dml_train.data.turn import WorldMotion, turn
from peft_dml_train.evaluation.calibration import assigned
from peft_dml_train.evaluation.conditions import CLEAR, parse_condition
from peft_dml_train.evaluation.prepared import PreparedSnapshot, network_inputs
from peft_dml_train.evaluation.sensors import ALL, SUBSETS
from peft_dml_train.evaluation.subsets import BundleRunner, evaluate_runner

SENSORS: Final = {name: sensors for name, sensors in SUBSETS.items() if name != "no motion"}
ALL_NOISES: Final = "radar_noise"
NOISES: Final = (*RADAR_NOISE, ALL_NOISES)
SEVERITY: Final = 3
TURNS_DEG: Final = (0, 45, 90)
STILL_MPS: Final = 0.5
CAR: Final = CLASSES.index("car")
RADAR: Final = MODALITIES.index("radar")


def car_errors(boxes: Boxes3D, truth: Boxes3D) -> AnyArray:
    """Compare the headings of cars that were found.

    Returns:
        (n, 3) float64: error of the axis in [0, π/2], 1 where front and rear are exchanged, the true speed in m/s.
    """
    found = assigned(boxes, truth)
    pairs = [(i, j) for i, j in enumerate(found) if j >= 0 and truth.labels[j] == CAR]
    rows = np.zeros((len(pairs), 3))
    for row, (i, j) in zip(rows, pairs, strict=True):
        error = abs((boxes.yaws_rad[i] - truth.yaws_rad[j] + np.pi) % (2 * np.pi) - np.pi)
        row[:] = min(error, np.pi - error), error > np.pi / 2, np.linalg.norm(truth.velocities_mps[j])
    return rows


def headings(errors: AnyArray) -> dict[str, Any]:
    """Summarise `car_errors`; None where no car was found."""

    def mean(values: AnyArray) -> float | None:
        return round(float(values.mean()), 4) if len(values) else None

    still = errors[:, 2] < STILL_MPS
    return {
        "cars": len(errors),
        "axis_error_still": mean(errors[still, 0]),
        "axis_error_moving": mean(errors[~still, 0]),
        "turned_round": mean(errors[:, 1]),
        "median_axis_error": round(float(np.median(errors[:, 0])), 4) if len(errors) else None,
    }


def measure_scores(runner: BundleRunner, nusc: NuScenes, scenes: list[str], out: Path) -> dict[str, Any]:
    """Score every subset of sensors in clear air, and all sensors with a radar that lies in each of the four ways.

    Returns:
        `scores` by condition and subset, `gate` the radar's mean weight by condition, `headings` by subset.
    """
    lies = tuple(parse_condition(f"{name}/{SEVERITY}") for name in NOISES)
    rows: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    gates, cars = defaultdict(list), defaultdict(list)
    for token, condition, snapshot in runner.snapshots(scenes, (CLEAR, *lies)):
        clear, pose = condition == CLEAR, runner.reader.global_SE3_base(token)
        for name, sensors in SENSORS.items() if clear else (("all", ALL),):
            found = runner.detect(token, snapshot, sensors)
            rows[str(condition), name][token] = result_rows(token, found.boxes, pose)
            if name == "all":
                gates[str(condition)].append(float(found.gate[RADAR]))
            if clear:
                cars[name].append(car_errors(found.boxes, runner.reader.truth(token)))
    scores: dict[str, dict[str, Any]] = defaultdict(dict)
    for number, ((look, name), results) in enumerate(rows.items()):
        use = {f"use_{m}": m in SENSORS[name] for m in DETECTING} | {"use_map": False, "use_external": False}
        scores[look][name] = figures(score(nusc, results, out / f"scores{number}", use, ()))
    return {
        "keyframes": len(gates[str(CLEAR)]),
        "scores": scores,
        "gate": {look: round(float(np.mean(values)), 4) for look, values in gates.items()},
        "headings": {name: headings(np.concatenate(errors)) for name, errors in cars.items()},
    }


def measure_frames(runner: BundleRunner, scenes: list[str], most: int) -> dict[str, Any]:
    """Measure the shared space, and headings in a world that is turned about the vehicle."""
    spec = runner.bundle.spec
    reader = FrameReader(runner.reader.root, spec, None, runner.reader)
    tokens = [token for scene in scenes for token in runner.reader.samples(scene)]
    vectors, labels = embeddings(runner.engines, map(reader.frame, tokens), spec)
    cars: dict[int, list[AnyArray]] = {degrees: [np.zeros((0, 3))] for degrees in TURNS_DEG}
    for token in sorted({tokens[i] for i in np.linspace(0, len(tokens) - 1, min(most, len(tokens))).astype(int)}):
        frame = reader.frame(token)
        for degrees in TURNS_DEG:
            turned = turn(frame, WorldMotion(float(np.deg2rad(degrees))), spec)
            snapshot = PreparedSnapshot(runner.reader.stamp_ns(token), network_inputs(turned, spec))
            cars[degrees].append(car_errors(runner.detect(token, snapshot, ALL).boxes, turned.boxes))
    pairs = {f"{a}->{b}": recall(vectors[a], vectors[b], labels) for a, b in permutations(DETECTING, 2)}
    means = {name: round(float(np.mean([p[name] for p in pairs.values()])), 4) for name in next(iter(pairs.values()))}
    return {
        "retrieval": {"objects": len(labels), **means, "pairs": pairs},
        "turned": {str(degrees): headings(np.concatenate(errors)) for degrees, errors in cars.items()},
    }


def measure_alone(
    runner: BundleRunner, nusc: NuScenes, scenes: list[str], out: Path, subsets: dict[str, tuple[Modality, ...]]
) -> dict[str, Any]:
    """Return the official figures in clear air of some subsets of sensors."""
    found = evaluate_runner(runner, nusc, scenes, subsets, out, ranges_m=())
    return {name: figures(metrics) for name, metrics in found[str(CLEAR)].items()}
