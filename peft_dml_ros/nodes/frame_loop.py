# SPDX-License-Identifier: Apache-2.0
"""The worker's side of a frame: detect, publish, account, and let the load controller learn from it.

One thread with one slot: it always works on the newest job, and each job that it never saw is counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from rclpy.clock import Clock

from peft_dml_ros.core.detector import Detections
from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.load import FrameLoad
from peft_dml_ros.core.params import DetectionParams
from peft_dml_ros.nodes.diagnostics import NodeReport, sensor_reports
from peft_dml_ros.nodes.drops import DropCounter
from peft_dml_ros.nodes.pipeline import FrameJob, Pipeline

if TYPE_CHECKING:
    from peft_dml_ros.nodes.publishers import NodeOutputs


Job = TypeVar("Job")


class LatestWorker(Generic[Job]):
    """Runs `work` in a thread of its own on the newest submitted job; its errors go to `on_error`, and it lives on."""

    def __init__(self, work: Callable[[Job], None], on_error: Callable[[Exception], None]) -> None:
        self._work, self._on_error = work, on_error
        self._changed = threading.Condition()
        self._slot: Job | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="detector", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Job | None:
        """Put a job into the slot; returns the older job that it replaces, if that was still waiting."""
        with self._changed:
            superseded, self._slot = self._slot, job
            self._changed.notify()
        return superseded

    @property
    def waiting(self) -> int:
        """Number of jobs that wait in the slot: 0 or 1."""
        with self._changed:
            return int(self._slot is not None)

    def withdraw(self) -> Job | None:
        """Take the job that waits out of the slot again."""
        with self._changed:
            waiting, self._slot = self._slot, None
        return waiting

    def close(self, timeout_s: float = 5.0) -> bool:
        """Finish the job at work, drop the one that waits, end the thread; False when it did not end in time."""
        with self._changed:
            self._closing, self._slot = True, None
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._work(job)
            except Exception as error:  # noqa: BLE001, PERF203  whatever one frame does, the next one is tried
                self._on_error(error)

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._slot is not None)
            job, self._slot = self._slot, None
            return None if self._closing else job


class FrameLoop:
    """Works on the newest frame in a thread of its own; one that a newer frame replaces is counted.

    Args:
        pipeline: The model; another one takes over between two frames.
        outputs: Publishers.
        clock: Clock of the node.
        drops: Counts frames that come to nothing.
        all_drops: Returns everything that was dropped, by reason.
        on_notice: Called with what the log should say, as a warning.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        outputs: NodeOutputs,
        clock: Clock,
        drops: DropCounter,
        all_drops: Callable[[], Mapping[str, int]],
        on_notice: Callable[[str], None],
    ) -> None:
        self.pipeline, self._outputs, self._clock, self._drops = pipeline, outputs, clock, drops
        self._all_drops, self._on_notice = all_drops, on_notice
        self._next: Pipeline | None = None
        self._detection: DetectionParams | None = None
        self._superseded = 0
        self.newest: FrameJob | None = None
        self.counts = {"triggered": 0, "published": 0}
        self._counting = threading.Lock()
        self.last = NodeReport({}, {})
        self._last_s = time.monotonic()
        self._worker = LatestWorker(self._work, lambda error: drops.count("frame: failed", repr(error)))

    @property
    def idle_s(self) -> float:
        """Time since the last publication."""
        return time.monotonic() - self._last_s

    def submit(self, job: FrameJob) -> None:
        """Hand a frame over; return at once."""
        self.newest = job
        with self._counting:
            self.counts["triggered"] += 1
            if self._worker.submit(job) is not None:
                self._superseded += 1
                self._drops.count("frame: superseded")

    def take_over(self, pipeline: Pipeline) -> None:
        """Work with another model from the next frame on."""
        self._next = pipeline

    def tune(self, detection: DetectionParams) -> None:
        """Work with other settings of the detection from the next frame on."""
        self._detection = detection

    def close(self) -> None:
        """End the thread; a frame that waits is counted."""
        if self._worker.withdraw() is not None:
            self._drops.count("frame: stopped")
        self._worker.close()

    def _work(self, job: FrameJob) -> None:
        """Work on one frame, in the worker's thread."""
        self._change()
        if job.rig.version != self.pipeline.detector.rig.version:
            self.pipeline.mount(job.rig)
        begin_ns = int(self._clock.now().nanoseconds)
        try:
            found = self.pipeline.detector(job.snapshot)
        except EngineError as error:
            self._on_notice(self.pipeline.fall_back(error))
            found = self.pipeline.detector(job.snapshot)
        found_ns = int(self._clock.now().nanoseconds)
        self._outputs.publish_boxes(found.boxes, found.stamp_ns)
        out_ns = int(self._clock.now().nanoseconds)
        # Whoever waits for boxes does not wait for tracks.
        self._outputs.publish_objects(found, job)
        self._account(job, found, begin_ns, found_ns, out_ns)

    def _change(self) -> None:
        """Take over what has changed since the last frame."""
        ready, self._next = self._next, None
        if ready is not None:
            self.pipeline = ready
            self._outputs.take_over(ready.bundle, ready.detection.score_threshold)
        detection, self._detection = self._detection, None
        if detection is not None:
            self.pipeline.tune(detection)

    def _account(self, job: FrameJob, found: Detections, begin_ns: int, found_ns: int, out_ns: int) -> None:
        """Count and publish what the frame was like."""
        end_ns = int(self._clock.now().nanoseconds)
        self._last_s = time.monotonic()
        for reason, n in found.drops.items():
            self._drops.count(reason, n=n)
        times_ns = {
            "arrival": job.due_ns - found.stamp_ns,
            "wait": begin_ns - job.due_ns,
            "publish": out_ns - found_ns,
            "objects": end_ns - out_ns,
        }
        found = replace(found, stages_ms={**found.stages_ms, **{k: ns / 1e6 for k, ns in times_ns.items()}})
        latency_ms = (out_ns - found.stamp_ns) / 1e6
        self._learn(times_ns["arrival"] / 1e6, latency_ms, (found_ns - begin_ns) / 1e6, found.stages_ms)
        sensors = sensor_reports(job.states, job.unusable, job.received)
        given_up = self.pipeline.controller.effort.given_up
        frames, drops = self._accounts()
        self.last = NodeReport(sensors, drops, frames, found, latency_ms, given_up=given_up)
        self._outputs.publish_status(self.last)
        self._outputs.publish_views(found.boxes, found.stamp_ns, job)

    def _accounts(self) -> tuple[dict[str, int], Mapping[str, int]]:
        """Count the frame as published; return frames and drops, of one instant as far as they are about frames.

        Frames triggered are those published, dropped as `frame: ...`, and the one that waits.
        """
        drops = self._all_drops()
        with self._counting:
            self.counts["published"] += 1
            of_frames = {reason: n for reason, n in self._drops.totals().items() if reason.startswith("frame: ")}
            return {**self.counts, "waiting": self._worker.waiting}, {**drops, **of_frames}

    def _learn(self, arrival_ms: float, latency_ms: float, busy_ms: float, stages_ms: Mapping[str, float]) -> None:
        """Let the load controller choose the effort of the next frame."""
        superseded, self._superseded = self._superseded, 0
        controller = self.pipeline.controller
        if controller.observe(time.monotonic(), FrameLoad(arrival_ms, latency_ms, busy_ms, superseded, stages_ms)):
            self.pipeline.detector.effort = controller.effort
            self._on_notice(controller.words())
