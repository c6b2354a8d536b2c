# SPDX-License-Identifier: Apache-2.0
"""Shows a running vehicle in Foxglove: every topic of this ROS domain, taken only while somebody looks at it.

    python -m peft_dml_tools.nodes.viewer --port 8765

Stdout carries a JSON line `ready` with the address. SIGINT or SIGTERM ends it with exit code 0.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy
from rclpy.utilities import remove_ros_args

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.nodes.matched_subscription import MatchedSubscription, message_class
from peft_dml_ros.nodes.runtime import ros_main
from peft_dml_tools.live.bag_view import STATUS_END
from peft_dml_tools.live.foxglove_server import GATE, PORT, SENSORS, FoxgloveServer
from peft_dml_tools.nodes.command_line import emit

TAKE_S = 0.05
DISCOVER_S = 1.0
QUEUE = 20
HIDDEN = ("/parameter_events", "/rosout")


class Viewer(Node):
    """Offers every topic, and subscribes to those that a viewer watches; status always, for the gate weights."""

    def __init__(self, server: FoxgloveServer) -> None:
        super().__init__("viewer", start_parameter_services=False)
        self._server = server
        self._types: dict[str, str] = {}
        self._taken: dict[str, MatchedSubscription] = {}

    def discover(self) -> None:
        """Offer new topics; begin and end subscriptions as viewers come and go."""
        for topic, types in self.get_topic_names_and_types():
            new = topic not in HIDDEN and topic not in self._types and self.count_publishers(topic)
            if new and self._server.declare(topic, types[0]):
                self._types[topic] = types[0]
        for topic, kind in self._types.items():
            derived = topic.endswith(STATUS_END) and (self._server.watched(GATE) or self._server.watched(SENSORS))
            wanted = self._server.watched(topic) or topic.endswith("/tf_static") or derived
            if wanted and topic not in self._taken:
                self._subscribe(topic, kind)
            elif not wanted and topic in self._taken:
                self._taken.pop(topic).destroy()
        for subscription in self._taken.values():
            subscription.refresh()

    def take(self) -> None:
        """Hand on all that has arrived."""
        for topic, subscription in self._taken.items():
            latched = subscription.qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
            for cdr, info in subscription.take():
                time_ns = info.get("received_timestamp") or time.time_ns()
                self._server.log(topic, cdr, time_ns, latched=latched)
                if topic.endswith(STATUS_END):
                    self._server.log_status(cdr, time_ns)

    def _subscribe(self, topic: str, kind: str) -> None:
        try:
            self._taken[topic] = MatchedSubscription(
                self, message_class(kind), topic, lambda _: None, depth=QUEUE, raw=True
            )
        except ConfigError as error:
            self.get_logger().warning(f"not showing {topic}: {error}")


def view(options: argparse.Namespace, ready: Callable[[str], object], stop: threading.Event) -> None:
    """Serve until `stop` is set; call `ready` with the address once there is a server.

    Raises ConfigError: foxglove-sdk is not installed, or the port is taken.
    """
    server = FoxgloveServer(options.port, options.host)
    viewer = Viewer(server)
    ready(server.address)
    look_s = 0.0
    while not stop.wait(TAKE_S):
        if time.monotonic() >= look_s:
            viewer.discover()
            look_s = time.monotonic() + DISCOVER_S
        viewer.take()
    viewer.destroy_node()
    server.close()


def main(
    args: Sequence[str] | None = None, ready: Callable[[str], object] = lambda address: emit("ready", address=address)
) -> None:
    """Run as a process; `args` as on the command line, including `--ros-args`; `ready` as for `view`."""
    parser = argparse.ArgumentParser(prog="viewer", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=PORT, help="TCP port; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    options = parser.parse_args(remove_ros_args(sys.argv if args is None else ["viewer", *args])[1:])
    ros_main(partial(view, options, ready), args)


if __name__ == "__main__":
    main()
