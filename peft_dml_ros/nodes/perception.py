# SPDX-License-Identifier: Apache-2.0
"""The perception node: sensors in, 3D boxes out, from all sensors that live.

    python -m peft_dml_ros.nodes.perception --ros-args --params-file config/perception.yaml -p bundle:=demo

One thread takes messages in, one worker thread detects; a lifecycle manager may drive it when `autostart` is false.
"""

import gc
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from peft_dml_ros.core.errors import ConfigError, PeftDmlError
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.sensor_checks import SensorChecks
from peft_dml_ros.engines import LoadedEngines
from peft_dml_ros.nodes.adapters import AdapterRouting, AdapterSwitch
from peft_dml_ros.nodes.diagnostics import NodeReport
from peft_dml_ros.nodes.drops import DropCounter
from peft_dml_ros.nodes.frame_loop import FrameLoop
from peft_dml_ros.nodes.hot_swap import HotSwap
from peft_dml_ros.nodes.intake import Intake
from peft_dml_ros.nodes.parameters import declare_parameters, read_parameters
from peft_dml_ros.nodes.pipeline import Pipeline
from peft_dml_ros.nodes.publishers import NodeOutputs
from peft_dml_ros.nodes.runtime import make_executor, ros_main, spin
from peft_dml_ros.nodes.sensor_log import SensorLog
from peft_dml_ros.nodes.startup import findings, table

STEADY = Clock(clock_type=ClockType.STEADY_TIME)


class PerceptionNode(LifecycleNode):
    """Wires intake, detector and outputs; configure loads and warms up, activate listens and publishes.

    Raises ConfigError: a parameter is unknown or out of range.
    """

    def __init__(self) -> None:
        super().__init__("perception")
        self.get_logger().info("perception starts")
        self._params = declare_parameters(self)
        self.autostart = self._params.autostart
        self.problem: PeftDmlError | None = None
        self._drops = DropCounter(self.get_logger())
        self._undo: list[Callable[[], object]] = []
        self._kept = LoadedEngines()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the model."""
        try:
            self._params = read_parameters(self)
            self._pipeline = Pipeline(self._params, self._kept)
        except Exception as problem:  # noqa: BLE001  rclpy swallows what a transition raises
            return self._fail(problem)
        if slow := self._pipeline.too_slow():
            self.get_logger().warning(slow)
        self._outputs = NodeOutputs(self, self._pipeline.bundle, self._params, self._drops)
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
        logger, clock = self.get_logger(), self.get_clock()
        self._outputs.announce(self._params.detection.score_threshold)
        self._undo.append(self._outputs.end_pictures)
        self._loop = FrameLoop(self._pipeline, self._outputs, clock, self._drops, self._all_drops, logger.warning)
        self._undo += [self._keep_model, self._loop.close]
        self._swap = HotSwap(self, self._params, self._loop, self._kept)
        switch, self._router = AdapterSwitch(self), AdapterRouting(self, self._loop)
        self._undo += [self._swap.close, switch.destroy, self._router.destroy]
        bundle = self._pipeline.bundle
        checks = SensorChecks(bundle.spec, bundle.manifest.trained_ranges, self._params.base_frame)
        self._intake = Intake(self, self._params, self._drops, self._loop.submit, self._prepare, checks)
        self._undo.append(self._intake.destroy)
        self._sensor_log = SensorLog(logger.warning, logger.info)
        jumps = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
        jump = clock.create_jump_callback(jumps, post_callback=lambda _: self._intake.reset())
        self._undo.append(jump.unregister)
        for period_s, work in ((self._params.sync.period_s / 2, self._intake.tick), (1.0, self._every_second)):
            timer = self.create_timer(period_s, work, clock=STEADY)
            self._undo.append(partial(self.destroy_timer, timer))
        self._reported, self._active_since_s = False, time.monotonic()
        self.get_logger().info(f"perception active: {self._pipeline.words}, {len(self._params.sensors)} sensors wanted")
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; the model stays warm."""
        self._halt()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the model go, with its memory and threads."""
        self._outputs.destroy()
        for name in ("_pipeline", "_outputs", "_loop", "_swap", "_intake"):
            self.__dict__.pop(name, None)
        self._kept.clear()
        # Warm-up exempts what lives then from collection, the last activation's cycles included.
        gc.unfreeze()
        gc.collect()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        self._halt()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop what a failed transition left running; the node can be configured again."""
        self._halt()
        return super().on_error(state)

    def _fail(self, problem: Exception) -> TransitionCallbackReturn:
        """Keep a problem for the process that started the node; a lifecycle manager reads it in the log."""
        unexpected = ConfigError(f"cannot start: {type(problem).__name__}: {problem}")
        self.problem = problem if isinstance(problem, PeftDmlError) else unexpected
        if not self.autostart:
            self.get_logger().error(str(self.problem))
        return TransitionCallbackReturn.FAILURE

    def _halt(self) -> None:
        """Stop all that `on_activate` started, in the reverse order; harmless when nothing was."""
        while self._undo:
            self._undo.pop()()

    def _all_drops(self) -> Mapping[str, int]:
        return self._intake.drops()

    def _keep_model(self) -> None:
        """Keep the model that is in use by now for the next activation."""
        self._pipeline = self._loop.pipeline

    def _prepare(self, name: str, image: CameraImage) -> None:
        self._loop.pipeline.detector.prepare(name, image)

    def _report_wiring(self) -> None:
        """Say once what is connected, what is not, and the fix, when everything had its time to start."""
        self._reported = True
        connections, reports = self._intake.connections(), self._intake.reports()
        self.get_logger().info(table(connections, reports))
        for sensor, problem, fix in findings(self, connections, reports, self._params):
            self.get_logger().warning(f"{sensor}: {problem}; fix: {fix}")

    def _every_second(self) -> None:
        self._swap.follow()
        self._router.consider(self._swap.params)
        self._intake.refresh()
        if not self._reported and time.monotonic() - self._active_since_s >= self._params.startup_timeout_s:
            self._report_wiring()
        reports, last = self._intake.reports(), self._loop.last
        if self._reported:
            self._sensor_log.update(reports, time.monotonic())
        given_up = self._loop.pipeline.controller.effort.given_up
        counts, idle_s = dict(self._loop.counts), self._loop.idle_s
        self._outputs.publish_diagnostics(
            NodeReport(reports, self._intake.drops(), counts, last.detections, last.latency_ms, idle_s, given_up)
        )


def run(stop: threading.Event) -> None:
    """Start the node and spin it until `stop` is set. Raises PeftDmlError: parameters or bundle are refused."""
    node = PerceptionNode()
    if node.autostart:
        for transition in (node.trigger_configure, node.trigger_activate):
            if transition() != TransitionCallbackReturn.SUCCESS:
                raise node.problem or ConfigError("the node could not be started, see the log")
    spin(node, stop, make_executor())
    node.trigger_shutdown()
    node.destroy_node()


def main(args: Sequence[str] | None = None) -> None:
    """Run as a process; `args` as on the command line, including `--ros-args`."""
    ros_main(run, args, "perception")


if __name__ == "__main__":
    main()
