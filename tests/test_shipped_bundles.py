# SPDX-License-Identifier: Apache-2.0
"""Both shipped bundles on new drives: headings come from the cloud, and grey pictures cost nothing."""

from dataclasses import replace

import numpy as np
import pytest

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.detector import Detector
from peft_dml_ros.core.params import PerceptionParams
from peft_dml_ros.core.sync import Synchroniser
from peft_dml_ros.engines import load_engines
from peft_dml_tools.evaluation.scoring import score
from peft_dml_tools.run.keyframe_study import CAR, FOUND_SCORE, KeyframeVariant, _changer, _near, _turn
from peft_dml_tools.run.offline import _frame
from peft_dml_tools.sim.drive import Drive, DriveSpec

SEEDS = (987654, 987656)


@pytest.fixture(scope="module")
def drives():
    """Drives with two snapshots each."""
    made = []
    for seed in SEEDS:
        drive, sync = Drive(seed, 1.3, DriveSpec()), Synchroniser(PerceptionParams())
        found = [sync.add(name, m, m.stamp_ns) for name, m in drive.measurements()]
        made.append((drive, [s for s in found if s is not None and s.reference == "LIDAR_TOP"][5::4]))
    return made


@pytest.fixture(scope="module", params=["base", "demo"])
def bundle(request, repository):
    loaded = load_bundle(repository / "models" / request.param)
    return loaded, load_engines(loaded)


def detected(bundle, drives, change):
    """Yield boxes, drive and stamp of every snapshot after a change of it, which is given the rig too."""
    for drive, snapshots in drives:
        detector = Detector(bundle[0], drive.rig, bundle[1], PerceptionParams().detection)
        for snapshot in snapshots:
            yield detector(change(snapshot, drive.rig)), drive, snapshot.stamp_ns


def axis_errors(bundle, drives, variant):
    """Differences of found cars from the truth in rad, modulo half a turn."""
    errors = []
    for found, drive, stamp_ns in detected(bundle, drives, lambda s, rig: _changer(variant, rig, alone=True)(s)):
        truth = drive.truth[stamp_ns].transform(_turn(drive.rig, variant.turn_rad))
        cars = found.boxes[(found.boxes.labels == CAR) & (found.boxes.scores > FOUND_SCORE)]
        real = truth[truth.labels == CAR]
        near = _near(cars, real)
        if near.size:
            hit = near.any(axis=1)
            error = np.abs(cars.yaws_rad[hit] - real.yaws_rad[near.argmax(axis=1)[hit]]) % np.pi
            errors += list(np.minimum(error, np.pi - error))
    return errors


def test_headings_come_from_the_cloud(bundle, drives):
    """Diagnosis of real sensors, 1: cars were drawn along the street; medians of the three turns within .2 rad."""
    if bundle[0].manifest.name == "demo":
        pytest.skip("models/demo was trained without turned clouds: .35, .71 and .80 rad")
    turned = [
        axis_errors(bundle, drives, KeyframeVariant("turned", turn_rad=float(np.deg2rad(d)))) for d in (0, 45, 90)
    ]
    assert min(map(len, turned)) >= 40
    medians = [float(np.median(errors)) for errors in turned]
    assert max(medians) - min(medians) < 0.2
    assert max(medians) < 0.4


def test_grey_pictures_cost_nothing_of_what_the_others_see(bundle, drives):
    """Diagnosis of real sensors, 3: at most two points of mAP less than without cameras."""
    grey = KeyframeVariant("grey pictures", grey=True)
    changes = {"without": lambda s, _: s.without("camera"), "grey": lambda s, rig: _changer(grey, rig, alone=False)(s)}
    mean_ap = {}
    for name, change in changes.items():
        frames = [
            replace(_frame(found, 1.0, {}), truth=drive.truth[stamp_ns])
            for found, drive, stamp_ns in detected(bundle, drives, change)
        ]
        mean_ap[name] = score(frames).mean_ap
    assert mean_ap["without"] > 0.1
    assert mean_ap["grey"] >= mean_ap["without"] - 0.02
