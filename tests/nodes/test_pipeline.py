# SPDX-License-Identifier: Apache-2.0
"""An engine that fails is replaced between two frames, a slow one is named, and load is shed and taken back."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rclpy.clock import Clock
from rclpy.logging import get_logger

from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.params import LoadParams, PaceParams
from peft_dml_ros.nodes.drops import DropCounter
from peft_dml_ros.nodes.frame_loop import FrameLoop
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_ros.nodes.pipeline import FALLBACK, FrameJob, Pipeline
from tests.core.test_inputs import full_snapshot
from tests.support import scenes
from tests.support.random_bundle import make_random_bundle

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_random_bundle(tmp_path_factory.mktemp("pipeline") / "bundle")


class Failing:
    """An engine that fails when it runs."""

    def __init__(self, engine):
        self.inputs, self.outputs = engine.inputs, engine.outputs

    def start(self, _):
        raise RuntimeError("CUDA error 700: an illegal memory access was encountered")

    __call__ = start


class Slow:
    """An engine that takes its time."""

    def __init__(self, engine):
        self.engine, self.seconds = engine, 0.0
        self.inputs, self.outputs = engine.inputs, engine.outputs

    def __call__(self, feeds):
        time.sleep(self.seconds)
        return self.engine(feeds)

    start = __call__


class Outputs:
    """Keeps what is published."""

    def __init__(self):
        self.boxes, self.reports = [], []

    def publish_boxes(self, boxes, stamp_ns):
        self.boxes.append((stamp_ns, len(boxes)))

    def publish_status(self, report):
        self.reports.append(report)

    def ignore(self, *_):
        pass

    publish_objects = publish_views = ignore


@pytest.fixture
def make_loop():
    made = []

    def make(pipeline):
        drops, outputs, notices = DropCounter(get_logger("test")), Outputs(), []
        loop = FrameLoop(pipeline, outputs, Clock(), drops, drops.totals, notices.append)
        made.append(loop)
        return SimpleNamespace(loop=loop, outputs=outputs, notices=notices, drops=drops)

    yield make
    for loop in made:
        loop.close()


def job(rig):
    """A frame of now, with images of its own."""
    frame = full_snapshot()
    shift = Clock().now().nanoseconds - frame.stamp_ns
    odometry = tuple(replace(o, stamp_ns=o.stamp_ns + shift) for o in frame.odometry)
    lidar = {n: tuple(replace(s, stamp_ns=s.stamp_ns + shift) for s in sweeps) for n, sweeps in frame.lidar.items()}
    snapshot = replace(frame, stamp_ns=frame.stamp_ns + shift, odometry=odometry, lidar=lidar)
    return FrameJob(snapshot, rig, {}, {}, {}, snapshot.stamp_ns)


def until(condition, timeout_s=20.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("graph", ["lidar", "camera", "fusion"])
def test_an_engine_that_fails_is_replaced_between_two_frames_and_said_once(bundle, make_loop, graph):
    pipeline, rig = Pipeline(NodeParams(bundle=str(bundle), threads=2, pace=PaceParams(camera_hz=0.0))), scenes.rig()
    pipeline.engine, pipeline._engines = "tensorrt", dict(pipeline._engines)
    pipeline._engines[graph] = Failing(pipeline._engines[graph])
    made = make_loop(pipeline)
    for number in range(3):
        made.loop.submit(job(rig))
        until(lambda number=number: len(made.outputs.reports) == number + 1)
    (notice,) = made.notices
    assert notice.startswith(f"engine tensorrt failed, {FALLBACK} runs from now on: graph '{graph}' failed")
    assert "illegal memory access" in notice
    assert [boxes for _, boxes in made.outputs.boxes if not boxes] == []
    assert "frame: failed" not in made.drops.totals()
    # ONNX Runtime itself has nothing to fall back to: the frame fails, and is counted.
    pipeline.detector._engines = {**pipeline._engines, graph: Failing(pipeline._engines[graph])}
    made.loop.submit(job(rig))
    until(lambda: made.drops.totals()["frame: failed"] == 1)
    with pytest.raises(EngineError, match="lost"):
        pipeline.fall_back(EngineError("lost"))


def test_every_report_accounts_for_every_frame_that_was_due(bundle, make_loop):
    made = make_loop(Pipeline(NodeParams(bundle=str(bundle), threads=1)))
    due = job(scenes.rig())
    end = time.monotonic() + 2.0
    while time.monotonic() < end or len(made.outputs.reports) < 5:
        made.loop.submit(due)
        time.sleep(0.0005)
    assert made.drops.totals()["frame: superseded"] > 20
    waited = set()
    for report in made.outputs.reports:
        lost = report.drops.get("frame: superseded", 0)
        assert report.frames["triggered"] == report.frames["published"] + lost + report.frames["waiting"]
        waited.add(report.frames["waiting"])
    assert 1 in waited


def test_a_machine_too_slow_for_two_hertz_is_named_at_configure(bundle):
    pipeline = Pipeline(NodeParams(bundle=str(bundle), threads=1))
    assert pipeline.too_slow() == ""
    slow = Slow(pipeline.detector._engines["camera"])
    slow.seconds = 0.6
    pipeline.detector._engines = {**pipeline.detector._engines, "camera": slow}
    assert "2 Hz cannot be held; fix: an int8 bundle" in pipeline.too_slow()
    assert "camera alone 6" in pipeline.too_slow()


def test_a_slow_engine_is_run_less_often_reported_and_taken_back(bundle, make_loop):
    load, pace = LoadParams(max_latency_ms=400.0, keep=("radars", "sweeps")), PaceParams(camera_hz=0.0)
    pipeline, rig = Pipeline(NodeParams(bundle=str(bundle), threads=1, load=load, pace=pace)), scenes.rig()
    slow = Slow(pipeline._engines["camera"])
    slow.seconds = 0.9
    pipeline._engines = {**pipeline._engines, "camera": slow}
    pipeline.mount(rig)
    made = make_loop(pipeline)

    def drive(condition, timeout_s):
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end
            made.loop.submit(job(rig))
            time.sleep(0.4)

    drive(lambda: made.outputs.reports and made.outputs.reports[-1].given_up, 30)
    assert any(notice.startswith("LOADED: ") for notice in made.notices)
    assert made.drops.totals()["frame: superseded"] >= 1
    until(
        lambda: (
            made.loop.counts["triggered"] == made.loop.counts["published"] + made.drops.totals()["frame: superseded"]
        )
    )
    slow.seconds = 0.0
    drive(lambda: not made.outputs.reports[-1].given_up, 90)
    assert "keeps up again" in made.notices[-1]
