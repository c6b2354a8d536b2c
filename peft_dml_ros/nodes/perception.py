# SPDX-License-Identifier: Apache-2.0
"""The perception node: sensors in, 3D boxes out, whichever sensors live.

    python -m peft_dml_ros.nodes.perception --ros-args --params-file config/perception.yaml -p bundle:=demo

One thread takes messages in, one worker thread detects; a lifecycle manager may drive it when `autostart` is false.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from peft_dml_ros.core.errors import ConfigError, PeftDmlError
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.nodes.diagnostics import NodeReport
from peft_dml_ros.nodes.drops import DropCounter
from peft_dml_ros.nodes.hot_swap import HotSwap
from peft_dml_ros.nodes.intake import Intake
from peft_dml_ros.nodes.parameters import declare_parameters, read_parameters
from peft_dml_ros.nodes.pipeline import FrameJob, Pipeline
from peft_dml_ros.nodes.publishers import Outputs
from peft_dml_ros.nodes.runtime import ros_main, spin
from peft_dml_ros.nodes.startup import findings, table
from peft_dml_ros.nodes.worker import LatestWorker

STEADY = Clock(clock_type=ClockType.STEADY_TIME)
MODEL_PARAMETERS = ("bundle", "engine", "threads")
"""Parameters whose change loads another model while the node runs."""


class PerceptionNode(LifecycleNode):
    """Wires intake, detector and outputs; configure loads and warms up, activate listens and publishes.

    Raises:
        ConfigError: a parameter is unknown or out of range.
    """

    def __init__(self) -> None:
        super().__init__("perception")
        self.get_logger().info("perception starts")
        self._params = declare_parameters(self)
        self.autostart = self._params.autostart
        self.problem: PeftDmlError | None = None
        self._drops = DropCounter(self.get_logger())
        self._frames = {"triggered": 0, "published": 0}
        self._last = NodeReport({}, {})
        self._undo: list[Callable[[], object]] = []
        self._told = True
        self._last_s = time.monotonic()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the model."""
        try:
            self._params = read_parameters(self)
            self._pipeline = Pipeline(self._params)
        except Exception as problem:  # noqa: BLE001  rclpy swallows what a transition raises
            return self._fail(problem)
        self._outputs = Outputs(self, self._pipeline.bundle, self._params, self._drops)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen and publish."""
        try:
            return self._start(state)
        except Exception as problem:  # noqa: BLE001  rclpy swallows what a transition raises
            self._halt()
            super().on_deactivate(state)
            return self._fail(problem)

    def _start(self, state: LifecycleState) -> TransitionCallbackReturn:
        super().on_activate(state)
        self._outputs.announce(self._params.detection.score_threshold)
        self._undo.append(self._outputs.end_pictures)
        self._worker = LatestWorker(self._detect, lambda error: self._drops.count("frame: failed", repr(error)))
        self._undo.append(self._end_worker)
        self._swap = HotSwap()
        self._undo.append(self._swap.close)
        self._intake = Intake(self, self._params, self._drops, self._submit, self._prepare)
        self._undo.append(self._intake.destroy)
        jumps = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
        jump = self.get_clock().create_jump_callback(jumps, post_callback=lambda _: self._intake.reset())
        self._undo.append(jump.unregister)
        for period_s, work in ((self._params.sync.period_s / 2, self._intake.tick), (1.0, self._every_second)):
            timer = self.create_timer(period_s, work, clock=STEADY)
            self._undo.append(partial(self.destroy_timer, timer))
        self._told, self._begun_s = False, time.monotonic()
        manifest = self._pipeline.bundle.manifest
        wanted = len(self._params.sensors)
        self.get_logger().info(f"perception active: bundle {manifest.name} {manifest.version}, {wanted} sensors wanted")
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; the model stays warm."""
        self._halt()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the model go."""
        self._outputs.destroy()
        del self._pipeline
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from whatever state."""
        self._halt()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop whatever a failed transition left running; the node can be configured again."""
        self._halt()
        return super().on_error(state)

    def _fail(self, problem: Exception) -> TransitionCallbackReturn:
        """Keep a problem for whoever started the node; a lifecycle manager reads it in the log."""
        unexpected = ConfigError(f"cannot start: {type(problem).__name__}: {problem}")
        self.problem = problem if isinstance(problem, PeftDmlError) else unexpected
        if not self.autostart:
            self.get_logger().error(str(self.problem))
        return TransitionCallbackReturn.FAILURE

    def _halt(self) -> None:
        """Stop all that `on_activate` started, in the reverse order; harmless when nothing was."""
        while self._undo:
            self._undo.pop()()

    def _end_worker(self) -> None:
        if self._worker.withdraw() is not None:
            self._drops.count("frame: stopped")
        self._worker.close()

    def _prepare(self, name: str, image: CameraImage) -> None:
        self._pipeline.prepare(name, image)

    def _submit(self, job: FrameJob) -> None:
        self._frames["triggered"] += 1
        if self._worker.submit(job) is not None:
            self._drops.count("frame: superseded")

    def _detect(self, job: FrameJob) -> None:
        """One frame, in the worker's thread."""
        self._take_over()
        begun_ns = self._now_ns()
        found = self._pipeline(job)
        for reason, n in found.drops.items():
            self._drops.count(reason, n=n)
        found_ns = self._now_ns()
        self._outputs.publish_boxes(found.boxes, found.stamp_ns)
        out_ns = self._now_ns()
        self._frames["published"] += 1
        self._last_s = time.monotonic()
        times_ns = {"arrival": job.due_ns - found.stamp_ns, "wait": begun_ns - job.due_ns, "publish": out_ns - found_ns}
        found = replace(found, stages_ms={**found.stages_ms, **{k: ns / 1e6 for k, ns in times_ns.items()}})
        latency_ms = (out_ns - found.stamp_ns) / 1e6
        self._last = NodeReport(job.sensors, self._intake.drops(), dict(self._frames), found, latency_ms)
        self._outputs.publish_status(self._last)
        self._outputs.publish_views(found.boxes, found.stamp_ns, job)

    def _take_over(self) -> None:
        """Between two frames, take over what has changed since: another model, other settings of the detection."""
        ready = self._swap.take()
        if ready is not None:
            self._pipeline = ready
            self._outputs.take_over(ready.bundle, self._params.detection.score_threshold)
            manifest = ready.bundle.manifest
            self.get_logger().info(f"bundle {manifest.name} {manifest.version} taken over")
        self._pipeline.tune(self._params.detection)

    def _follow_parameters(self) -> None:
        """Act on parameters that were set while the node runs; those of sensors wait for the next configure."""
        if self._swap.failure is not None:
            failure, self._swap.failure = self._swap.failure, None
            manifest = self._pipeline.bundle.manifest
            self.get_logger().error(f"{failure}; {manifest.name} {manifest.version} stays in use")
            self.set_parameters([Parameter(name, value=v) for name, v in self._pipeline.settings.items()])
            self._params = read_parameters(self)
        wanted, before = read_parameters(self), self._params
        if wanted == before:
            return
        self._params = wanted
        if any(getattr(wanted, name) != getattr(before, name) for name in MODEL_PARAMETERS):
            self._swap.request(wanted)
            self.get_logger().info(f"loading bundle {wanted.bundle}, {wanted.engine}, {wanted.threads} threads")
        rest = {"detection": wanted.detection} | {name: getattr(wanted, name) for name in MODEL_PARAMETERS}
        if before.model_copy(update=rest) != wanted:
            self.get_logger().warning("sensors, frames and limits change with the next configure")

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _tell_wiring(self) -> None:
        """Once, when everything had its time to start: what is connected, what is not, and the mend."""
        self._told = True
        connections, reports = self._intake.connections(), self._intake.reports()
        self.get_logger().info(table(connections, reports))
        for sensor, problem, mend in findings(self, connections, reports, self._params.base_frame):
            self.get_logger().warning(f"{sensor}: {problem}; mend: {mend}")

    def _every_second(self) -> None:
        self._follow_parameters()
        self._intake.refresh()
        if not self._told and time.monotonic() - self._begun_s >= self._params.startup_timeout_s:
            self._tell_wiring()
        last, idle_s = self._last, time.monotonic() - self._last_s
        report = NodeReport(
            self._intake.reports(), self._intake.drops(), dict(self._frames), last.detections, last.latency_ms, idle_s
        )
        self._outputs.publish_diagnostics(report)


def run(stop: threading.Event) -> None:
    """Start the node and spin it until told to stop.

    Raises:
        PeftDmlError: parameters or bundle are refused.
    """
    node = PerceptionNode()
    if node.autostart:
        for transition in (node.trigger_configure, node.trigger_activate):
            if transition() != TransitionCallbackReturn.SUCCESS:
                raise node.problem or ConfigError("the node could not be started, see the log")
    spin(node, stop)
    node.trigger_shutdown()
    node.destroy_node()


def main(args: Sequence[str] | None = None) -> None:
    """Entry point; `args` as on the command line, including `--ros-args`."""
    ros_main(run, args)


if __name__ == "__main__":
    main()
