# SPDX-License-Identifier: Apache-2.0
"""Records topics into a ROS 2 bag (MCAP), with the types and profiles found on the wire.

    python -m peft_dml_tools.nodes.recorder --out drive.mcap [--topics /a /b] [--exclude REGEX]

Stdout carries one JSON line per period: `{"event": "progress", "counts": {topic: n}, "lost": n, "bytes": n, ...}`.
SIGINT or SIGTERM closes the file and ends with exit code 0.
"""

from __future__ import annotations

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

from rclpy.node import Node
from rclpy.utilities import remove_ros_args

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.nodes.runtime import POLL_S, emit, pattern, ros_main, spin
from peft_dml_ros.nodes.subscribing import FittingSubscription, message_class
from peft_dml_tools.nodes.bag_file import RawBagFile

NOT_RECORDED = r"^/(parameter_events|rosout)$|/overlay/"
QUEUE = 100
"""Messages kept per topic while the file is being written."""


class Recorder(Node):
    """Finds topics by the graph, subscribes to their bytes, and writes them as they come."""

    def __init__(self, bag: RawBagFile, topics: Sequence[str], exclude: re.Pattern[str]) -> None:
        super().__init__("recorder", start_parameter_services=False)
        self._bag, self._topics, self._exclude = bag, frozenset(topics), exclude
        self._subscriptions_by_topic: dict[str, FittingSubscription] = {}
        self.counts: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self.create_timer(POLL_S, self.discover)
        self.discover()

    @property
    def lost(self) -> int:
        """Messages that the middleware reports as lost on their way to this recorder."""
        return sum(subscription.lost for subscription in self._subscriptions_by_topic.values())

    def discover(self) -> None:
        """Subscribe to every wanted topic that has a publisher by now."""
        for topic, types in self.get_topic_names_and_types():
            if topic in self._subscriptions_by_topic:
                self._subscriptions_by_topic[topic].refresh()
            elif topic not in self.skipped and self._wanted(topic) and self.count_publishers(topic):
                try:
                    self._subscribe(topic, types[0])
                except ConfigError as error:
                    self.skipped[topic] = str(error)
                    self.get_logger().warning(f"not recording {topic}: {error}")

    def _wanted(self, topic: str) -> bool:
        return topic in self._topics if self._topics else not self._exclude.search(topic)

    def _subscribe(self, topic: str, type_name: str) -> None:
        offered = [info.qos_profile for info in self.get_publishers_info_by_topic(topic)]
        channel = self._bag.add_topic(topic, type_name, offered)

        def on_bytes(cdr: bytes, info: dict[str, int]) -> None:
            self._bag.write_cdr(channel, info.get("received_timestamp") or time.time_ns(), cdr)
            self.counts[topic] += 1

        self._subscriptions_by_topic[topic] = FittingSubscription(
            self, message_class(type_name), topic, on_bytes, depth=QUEUE, raw=True, count_lost=True
        )


def record(options: argparse.Namespace, stop: threading.Event) -> None:
    """Record until told to stop, then close the file.

    Raises:
        PeftDmlError: the file exists already, or cannot be written.
    """
    begun_s = time.monotonic()
    bag = RawBagFile(options.out)
    with bag:
        recorder = Recorder(bag, options.topics, options.exclude)

        def facts() -> dict[str, Any]:
            elapsed_s = round(time.monotonic() - begun_s, 3)
            return {"elapsed_s": elapsed_s, "counts": dict(recorder.counts), "lost": recorder.lost, "bytes": bag.size}

        recorder.create_timer(options.period_s, lambda: emit("progress", **facts()))
        emit("ready", path=str(options.out))
        spin(recorder, stop)
        recorder.destroy_node()
    emit("done", path=str(options.out), skipped=recorder.skipped, **facts())


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
    """Entry point; `args` as on the command line, including `--ros-args`."""
    options = _options(remove_ros_args(sys.argv if args is None else ["recorder", *args])[1:])
    ros_main(partial(record, options), args)


if __name__ == "__main__":
    main()
