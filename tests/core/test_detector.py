# SPDX-License-Identifier: Apache-2.0
"""The detector: any subset of sensors, absent encoders not run, the same input the same boxes."""

import time
from itertools import product

import numpy as np
import pytest

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.detector import Detector
from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.engines import load_engines
from tests.core.test_inputs import full_snapshot
from tests.support import scenes
from tests.support.random_bundle import make_random_bundle

SUBSETS = [bits for bits in product((0, 1), repeat=5) if any(bits)]


class Counting:
    """An engine that counts its calls."""

    def __init__(self, engine):
        self.engine, self.calls, self.inputs = engine, 0, engine.inputs

    def __call__(self, feeds):
        self.calls += 1
        return self.engine(feeds)

    start = __call__

    def warm_up(self):
        self.engine.warm_up()


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    bundle = load_bundle(make_random_bundle(tmp_path_factory.mktemp("bundles") / "random"))
    engines = {name: Counting(engine) for name, engine in load_engines(bundle, threads=1).items()}
    detector = Detector(bundle, scenes.rig(), engines)
    detector.warm_up()
    return detector


@pytest.mark.parametrize("bits", SUBSETS)
def test_all_subsets_run_only_what_is_there(detector, bits):
    absent = [m for m, bit in zip(MODALITIES, bits, strict=True) if not bit]
    before = {name: engine.calls for name, engine in detector._engines.items()}
    found = detector(full_snapshot().without(*absent))
    np.testing.assert_array_equal(found.mask, bits)
    sees = any(bits[:3])
    assert found.blind is not sees
    assert bool(len(found.boxes)) is sees
    for name, engine in detector._engines.items():
        expected = int(sees) if name == "fusion" else int(sees and name not in absent)
        assert engine.calls - before[name] == expected
    assert found.gate.sum() == pytest.approx(1.0 if sees else 0.0, abs=1e-3)


def test_an_empty_snapshot_gives_an_honest_nothing(detector):
    found = detector(Snapshot(scenes.START_NS, "clock"))
    assert found.blind
    assert len(found.boxes) == 0


def test_same_input_same_boxes(detector):
    first, second = detector(full_snapshot()), detector(full_snapshot())
    np.testing.assert_array_equal(first.boxes.scores, second.boxes.scores)
    np.testing.assert_array_equal(first.boxes.centers_m, second.boxes.centers_m)
    assert first.stamp_ns == scenes.START_NS
    assert (np.diff(first.boxes.scores) <= 0).all()


def test_an_encoder_whose_inputs_stay_is_not_run_again(detector):
    first = full_snapshot()
    later = full_snapshot(cameras=first.cameras)
    boxes, calls = detector(first).boxes, detector._engines["camera"].calls
    same = detector(later)
    assert detector._engines["camera"].calls == calls
    np.testing.assert_array_equal(same.boxes.scores, boxes.scores)
    one_new = full_snapshot(cameras=first.cameras | {"CAM_FRONT": full_snapshot().cameras["CAM_FRONT"]})
    detector(one_new)
    assert detector._engines["camera"].calls == calls + 1
    fewer = {name: image for name, image in one_new.cameras.items() if name != "CAM_FRONT"}
    assert detector(full_snapshot(cameras=fewer)).completeness[1] == pytest.approx(1 / 6)
    assert detector._engines["camera"].calls == calls + 2


def test_every_stage_is_timed(detector):
    assert set(detector(full_snapshot()).stages_ms) == {"inputs", "pictures", *MODALITIES, "fusion", "decode"}
    assert "camera" not in detector(full_snapshot().without("camera")).stages_ms


def test_cameras_in_their_own_thread_change_no_box_and_run_once(detector):
    alone = Detector(detector.bundle, scenes.rig(), detector._engines, threads=1)
    first, second = full_snapshot(), full_snapshot()
    detector(first)  # from here on the encoder is known to be one of this machine's
    calls = detector._engines["camera"].calls
    found, wanted = detector(second), alone(second)
    assert detector._engines["camera"].calls == calls + 2
    for name in ("scores", "centers_m", "labels", "velocities_mps"):
        np.testing.assert_array_equal(getattr(found.boxes, name), getattr(wanted.boxes, name))
    np.testing.assert_array_equal(found.gate, wanted.gate)


@pytest.mark.parametrize(("threads", "own_thread"), [(0, True), (1, False), (2, True)])
def test_no_threads_named_takes_one_per_core(detector, monkeypatch, threads, own_thread):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    made = Detector(detector.bundle, scenes.rig(), detector._engines, threads=threads)
    assert (made._thread is not None) is own_thread


def test_a_damaged_picture_in_that_thread_is_counted_and_the_others_are_used(detector):
    good = full_snapshot()
    detector(good)
    broken = full_snapshot(cameras=good.cameras | {"CAM_BACK": CameraImage(scenes.START_NS, b"\xff\xd8no picture")})
    found = detector(broken)
    assert found.drops == {"camera: corrupt image CAM_BACK": 1}
    assert found.completeness[1] == pytest.approx(1 / 6)


def test_an_encoder_that_fails_in_that_thread_fails_the_frame_and_not_the_next(detector, monkeypatch):
    detector(full_snapshot())
    with monkeypatch.context() as patch:
        patch.setattr(detector._engines["camera"], "start", lambda _: {}["latent"])
        with pytest.raises(EngineError, match="graph 'camera' failed: KeyError"):
            detector(full_snapshot())
    assert len(detector(full_snapshot()).boxes)


@pytest.mark.alone
def test_a_stage_is_timed_where_it_runs(detector, monkeypatch):
    engine, lidar = detector._engines["camera"], detector._engines["lidar"]
    detector(full_snapshot())
    slow = {"camera": engine, "lidar": lidar}
    for fast in slow.values():
        monkeypatch.setattr(fast, "start", lambda feeds, fast=fast: time.sleep(0.4) or fast(feeds))
    begin = time.perf_counter()
    found = detector(full_snapshot())
    whole_ms = (time.perf_counter() - begin) * 1e3
    # Each takes its own time, and they take it side by side.
    assert min(found.stages_ms[name] for name in slow) >= 400
    assert whole_ms < 800


def test_a_network_gone_wrong_is_counted(detector, monkeypatch):
    fusion = detector._engines["fusion"].engine

    def broken(feeds):
        outputs = dict(fusion(feeds))
        outputs["regression"] = np.full_like(outputs["regression"], np.nan)
        return outputs

    monkeypatch.setattr(detector._engines["fusion"], "engine", broken)
    found = detector(full_snapshot())
    assert len(found.boxes) == 0
    assert found.drops == {"network: candidate not finite": 200}
