# SPDX-License-Identifier: Apache-2.0
"""The shipped bundle: small, mostly frozen, above the floors its manifest claims, and it finds cars on a new drive."""

from pathlib import Path

import numpy as np
import pytest

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.classes import CLASSES, DETECTING, MODALITIES
from peft_dml_ros.core.detector import Detector
from peft_dml_ros.core.params import PerceptionParams
from peft_dml_ros.core.sync import Synchroniser
from peft_dml_ros.engines import load_engines
from peft_dml_tools.sim.drive import Drive, DriveSpec

MATCH_M = 2.0
REACH_M = 30.0
FLOORS = {"all": 0.50, "no lidar": 0.20, "no camera": 0.45}
CAR = CLASSES.index("car")


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(Path(__file__).parents[1] / "models" / "demo")


@pytest.fixture(scope="module")
def frames():
    """Snapshots of a drive that no training has seen, and their truth."""
    drive = Drive(987654, 1.3, DriveSpec())
    sync = Synchroniser(PerceptionParams())
    found = [sync.add(name, measurement, measurement.stamp_ns) for name, measurement in drive.measurements()]
    snapshots = [snapshot for snapshot in found if snapshot is not None and snapshot.reference == "LIDAR_TOP"]
    return drive, snapshots[4:]


def test_it_is_small_and_says_what_it_is(bundle):
    size = sum(p.stat().st_size for p in bundle.path.rglob("*") if p.is_file())
    assert size <= 20e6
    card = (bundle.path / "MODEL_CARD.md").read_text()
    assert "simulated" in card
    assert bundle.manifest.provenance["command"] in card
    assert bundle.manifest.licence == "Apache-2.0"


def test_less_than_a_tenth_was_trained(bundle):
    counts = bundle.manifest.parameters
    assert bundle.manifest.trained_share == pytest.approx(counts["trained"] / counts["total"])
    assert 0 < bundle.manifest.trained_share < 0.10


@pytest.mark.parametrize(("subset", "floor"), FLOORS.items())
def test_the_measured_floors_hold(bundle, subset, floor):
    assert bundle.manifest.metrics["test"][subset]["ap"]["car"]["2.0"] >= floor


@pytest.mark.parametrize(("absent", "share"), [((), 0.6), (("lidar",), 0.25), (("camera",), 0.55)])
def test_cars_of_a_new_drive_are_found(bundle, frames, absent, share):
    drive, snapshots = frames
    detector = Detector(bundle, drive.rig, load_engines(bundle), PerceptionParams().detection)
    found, total = 0, 0
    for snapshot in snapshots:
        truth = drive.truth[snapshot.stamp_ns]
        cars = truth[(truth.labels == CAR) & (np.linalg.norm(truth.centers_m[:, :2], axis=1) < REACH_M)]
        boxes = detector(snapshot.without(*absent)).boxes
        boxes = boxes[boxes.labels == CAR]
        distance = np.linalg.norm(cars.centers_m[:, None, :2] - boxes.centers_m[None, :, :2], axis=-1)
        found += int((distance.min(axis=1, initial=np.inf) < MATCH_M).sum())
        total += len(cars)
    assert total >= 10
    assert found / total >= share


def test_the_gate_follows_what_is_there(bundle, frames):
    drive, snapshots = frames
    detector = Detector(bundle, drive.rig, load_engines(bundle))
    for absent in DETECTING:
        gate = detector(snapshots[0].without(absent)).gate
        assert gate[MODALITIES.index(absent)] == 0
        assert gate.sum() == pytest.approx(1.0, abs=1e-3)
