# SPDX-License-Identifier: Apache-2.0
"""Records topics into a ROS 2 bag (MCAP), with the types and profiles found on the wire.

    python -m peft_dml_tools.nodes.recorder --out drive.mcap [--topics /a /b] [--exclude REGEX]

No executor runs: each subscription is emptied every `TAKE_S`, and the middleware has noted when each message arrived.
Stdout carries one JSON line per period: `{"event": "progress", "counts": {topic: n}, "bytes": n, ...}`.
SIGINT or SIGTERM closes the file and ends with exit code 0.
"""

import argparse
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from rosbags.interfaces import Connection

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.nodes.matched_subscription import MatchedSubscription, message_class
from peft_dml_ros.nodes.runtime import ros_main
from peft_dml_tools.nodes.bag_file import RawBagFile
from peft_dml_tools.nodes.command_line import emit, pattern

NOT_RECORDED = r"^/(parameter_events|rosout)$|/overlay/"
QUEUE = 200  #: Messages kept per topic until they are taken: two seconds of the fastest sensor
TAKE_S = 0.1
DISCOVER_S = 0.2
CALM_S = 1.0  #: Between two looks at the graph: while topics appear, and later
LIVELY_S = 30.0  #: Nodes start and find each other for so long


class Recorder(Node):
    """Finds topics by the graph, subscribes to their bytes, and writes what has arrived."""

    def __init__(self, bag: RawBagFile, topics: Sequence[str], exclude: re.Pattern[str]) -> None:
        super().__init__("recorder", start_parameter_services=False)
        self._bag, self._topics, self._exclude = bag, frozenset(topics), exclude
        self._sources: dict[str, tuple[MatchedSubscription, Connection]] = {}
        self._refreshed = 0
        self.counts: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}

    def discover(self) -> bool:
        """Subscribe to every wanted topic that has a publisher by now; True when there was a new one."""
        known = len(self._sources)
        for topic, types in self.get_topic_names_and_types():
            unknown = topic not in self._sources and topic not in self.skipped
            if unknown and self._wanted(topic) and self.count_publishers(topic):
                try:
                    self._subscribe(topic, types[0])
                except ConfigError as error:
                    self.skipped[topic] = str(error)
                    self.get_logger().warning(f"not recording {topic}: {error}")
        return len(self._sources) > known

    def take(self) -> None:
        """Write every message that has arrived; look at the publishers of one topic again."""
        for topic, (subscription, channel) in self._sources.items():
            for cdr, info in subscription.take():
                self._bag.write_cdr(channel, info.get("received_timestamp") or time.time_ns(), cdr)
                self.counts[topic] += 1
        if self._sources:
            self._refreshed = (self._refreshed + 1) % len(self._sources)
            [*self._sources.values()][self._refreshed][0].refresh()

    def lost(self) -> int:
        """Return how many messages the middleware says were lost on their way here; asked once, at the end."""
        executor = SingleThreadedExecutor()
        executor.add_node(self)
        for _ in range(2 * len(self._sources)):
            executor.spin_once(timeout_sec=0.0)
        executor.shutdown()
        return sum(subscription.lost for subscription, _ in self._sources.values())

    def _wanted(self, topic: str) -> bool:
        return topic in self._topics if self._topics else not self._exclude.search(topic)

    def _subscribe(self, topic: str, type_name: str) -> None:
        offered = [info.qos_profile for info in self.get_publishers_info_by_topic(topic)]
        channel = self._bag.add_topic(topic, type_name, offered)
        subscription = MatchedSubscription(
            self, message_class(type_name), topic, lambda _: None, depth=QUEUE, raw=True, count_lost=True
        )
        self._sources[topic] = (subscription, channel)


def record(options: argparse.Namespace, stop: threading.Event) -> None:
    """Record until `stop` is set. Raises PeftDmlError: the file exists already, or cannot be written."""
    begun_s = time.monotonic()
    bag = RawBagFile(options.out)
    with bag:
        recorder = Recorder(bag, options.topics, options.exclude)

        def facts() -> dict[str, Any]:
            elapsed_s = round(time.monotonic() - begun_s, 3)
            return {"elapsed_s": elapsed_s, "counts": dict(recorder.counts), "bytes": bag.size}

        emit("ready", path=str(options.out))
        look_s = told_s = 0.0
        while not stop.wait(TAKE_S):
            now_s = time.monotonic()
            if now_s >= look_s:
                look_s = now_s + (DISCOVER_S if recorder.discover() or now_s - begun_s < LIVELY_S else CALM_S)
            recorder.take()
            if now_s - told_s >= options.period_s:
                told_s = now_s
                emit("progress", **facts())
        recorder.take()
        lost = recorder.lost()
        recorder.destroy_node()
    emit("done", path=str(options.out), skipped=recorder.skipped, lost=lost, **facts())


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="recorder", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="FILE.mcap, or a folder for a rosbag2 bag")
    parser.add_argument("--topics", nargs="*", default=[], help="topics to record; all when none is given")
    parser.add_argument(
        "--exclude", type=pattern, default=NOT_RECORDED, help="topics not to record: a regular expression"
    )
    parser.add_argument("--period-s", type=float, default=0.2, help="seconds between progress lines")
    return parser.parse_args(arguments)


def main(args: Sequence[str] | None = None) -> None:
    """Run as a process; `args` as on the command line, including `--ros-args`."""
    options = _options(remove_ros_args(sys.argv if args is None else ["recorder", *args])[1:])
    ros_main(partial(record, options), args)


if __name__ == "__main__":
    main()
