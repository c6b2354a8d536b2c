# SPDX-License-Identifier: Apache-2.0
"""Run a process around rclpy: one context, an executor, signals that end it in order."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import rclpy
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from peft_dml_ros.core.errors import ConfigError, PeftDmlError

POLL_S = 0.2  #: Longest time until a signal is noticed while nothing else happens


@contextmanager
def ros_context(args: Sequence[str] | None = None) -> Iterator[threading.Event]:
    """Start rclpy and shut it down exactly once; yields the event that SIGINT and SIGTERM set.

    The process's own handlers replace rclpy's: those tear the context down at once, under the feet of a thread that is
    still publishing and of a file that still has to be closed.
    """
    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _init(args)
        yield stop
    finally:
        rclpy.try_shutdown()
        for number, handler in previous.items():
            signal.signal(number, handler)


def make_executor() -> Executor:
    """Return rclpy's events executor, which costs half of what the others do, or the plain one where it is missing."""
    try:
        executor: Executor = import_module("rclpy.experimental.events_executor").EventsExecutor()
    except (ImportError, AttributeError):
        return SingleThreadedExecutor()
    return executor


def spin(node: Node, stop: threading.Event, executor: Executor | None = None) -> None:
    """Handle callbacks one by one until `stop` is set; an error in one of them is logged, and the node goes on."""
    executor = executor or SingleThreadedExecutor()
    executor.add_node(node)
    while not stop.is_set():
        try:
            executor.spin_once(timeout_sec=POLL_S)
        except Exception as error:  # noqa: BLE001, PERF203  no message may end a node
            node.get_logger().error(f"{type(error).__name__}: {error}", throttle_duration_sec=5.0)
    executor.shutdown()


def ros_main(run: Callable[[threading.Event], None], args: Sequence[str] | None = None, name: str = "node") -> bool:
    """Run a process of this package; what it raises on purpose becomes one fatal line of the log and exit code 2.

    Returns False when a signal ended it.

    Args:
        run: Does the work until its event is set.
        args: Command line with `--ros-args`, `None` for `sys.argv`.
        name: Logger of the process.
    """
    try:
        with ros_context(args) as stop:
            run(stop)
            return not stop.is_set()
    except PeftDmlError as problem:
        get_logger(name).fatal(f"error: {problem}")
        sys.exit(2)


def _init(args: Sequence[str] | None) -> None:
    try:
        rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:
        # rcl adds the lines of its own source; the user needs what is said before.
        reason = str(error).partition(", at /")[0]
        raise ConfigError(f"ROS arguments refused: {reason}; fix: correct what stands after --ros-args") from error
