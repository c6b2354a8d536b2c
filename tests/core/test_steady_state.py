# SPDX-License-Identifier: Apache-2.0
"""Once warm, frames leave nothing behind, and the collector looks through nothing that was loaded before."""

import gc
import tracemalloc

import pytest

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.detector import Detector
from peft_dml_ros.engines import load_engines
from tests.core.test_inputs import full_snapshot
from tests.support import scenes
from tests.support.random_bundle import make_random_bundle

FRAMES = 20


@pytest.fixture(params=[1, 2], ids=["one thread", "cameras in their thread"])
def detector(request, tmp_path):
    bundle = load_bundle(make_random_bundle(tmp_path / "random"))
    detector = Detector(bundle, scenes.rig(), load_engines(bundle, threads=1), threads=request.param)
    detector.warm_up()
    yield detector
    gc.unfreeze()


def test_frames_leave_nothing_behind(detector):
    frozen = gc.get_freeze_count()
    assert frozen > 10_000
    snapshots = [full_snapshot() for _ in range(FRAMES + 5)]
    for snapshot in snapshots[:5]:
        detector(snapshot)
    gc.collect()
    alive = len(gc.get_objects())
    tracemalloc.start()
    detector(snapshots[5])
    held = tracemalloc.get_traced_memory()[0]
    for snapshot in snapshots[6:]:
        detector(snapshot)
    # Latents, pictures and inputs of one frame are held for the next; nothing more, however many frames there were.
    grown = tracemalloc.get_traced_memory()[0] - held
    tracemalloc.stop()
    gc.collect()
    assert grown < 100_000
    assert len(gc.get_objects()) - alive < 100
    assert gc.get_freeze_count() > 0.99 * frozen
