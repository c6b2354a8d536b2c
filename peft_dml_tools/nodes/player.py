# SPDX-License-Identifier: Apache-2.0
"""Publishes a recording on an absolute schedule, so that no message inherits the lateness of the one before."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rclpy.duration import Duration
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.publisher import Publisher
from rclpy.time import Time
from rosgraph_msgs.msg import Clock as ClockMessage

from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.nodes.message_stamps import Shift, shifter
from peft_dml_tools.nodes.recordings import Channel, RecordedMessage

CLOCK_PERIOD_NS = 10_000_000
GLOBAL_TOPICS = ("/tf", "/tf_static", "/clock")
NOTICED_S = 0.05  #: Pauses up to this are slept through, at two thirds of the cost of one that an event may end
#: How long the last messages may take. Fast DDS asks for acknowledgements 3 s apart: most are out before it knows.
ACKNOWLEDGE_S = 0.5


@dataclass(slots=True)
class PlaybackProgress:
    """Counts of one replay."""

    published: Counter[str] = field(default_factory=Counter)  #: Messages by topic
    late_max_ms: float = 0.0  #: The largest lateness of a publication against its schedule
    skipped: dict[str, str] = field(default_factory=dict)  #: Reason by topic for each topic that cannot be published
    position_s: float = 0.0  #: Recording time since its start


class Player:
    """Publishers for the channels of a recording, and the schedule.

    Args:
        node: Owner of the publishers.
        channels: Topics of the recording.
        rate: Recorded seconds per second.
        clock: Publish /clock with the (shifted) time of the recording.

    Attributes:
        progress: Counts so far.
        on_sent: Called with topic, bytes and system time in ns right before each publication.
    """

    def __init__(self, node: Node, channels: Iterable[Channel], *, rate: float = 1.0, clock: bool = False) -> None:
        self._node, self._rate = node, rate
        self.progress = PlaybackProgress()
        self.on_sent: Callable[[str, bytes, int], None] | None = None
        self._publishers: dict[str, Publisher] = {}
        self._shifters: dict[str, Shift] = {}
        self._latched: dict[str, bool] = {}
        for channel in channels:
            self._open(channel)
        self._clock = node.create_publisher(ClockMessage, "/clock", 10) if clock else None

    def _open(self, channel: Channel) -> None:
        try:
            shift = shifter(channel.type_name)
        except ConfigError as error:
            self.progress.skipped[channel.topic] = str(error)
            return
        self._latched[channel.topic] = channel.latched
        self._shifters[channel.topic] = shift
        # Relative, so that a namespace holds the vehicle's topics; transforms are global by convention.
        name = channel.topic if channel.topic in GLOBAL_TOPICS else channel.topic.lstrip("/")
        self._publishers[channel.topic] = self._node.create_publisher(channel.type, name, channel.qos)

    def subscribers(self, topic: str) -> int:
        """Return how many subscriptions a topic has: matched ones if the recording holds it, else by the graph."""
        if topic in self._publishers:
            return int(self._publishers[topic].get_subscription_count())
        return int(self._node.count_subscribers(topic))

    def connections(self) -> int:
        """Return the number of subscriptions over all topics."""
        return sum(int(publisher.get_subscription_count()) for publisher in self._publishers.values())

    def listens(self, node: str) -> bool:
        """Return whether a node, named in this namespace or absolutely, subscribes to a sensor of the recording."""
        namespace, _, name = node.rpartition("/")
        space = namespace or ("/" if node.startswith("/") else self._node.get_namespace())
        try:
            wanted = {topic for topic, _ in self._node.get_subscriber_names_and_types_by_node(name, space)}
        except NodeNameNonExistentError:
            return False
        return any(p.topic_name in wanted for topic, p in self._publishers.items() if topic not in GLOBAL_TOPICS)

    def publish_latched(self, messages: Iterable[RecordedMessage]) -> None:
        """Publish latched messages at once, with the stamps they have: they hold for the whole recording."""
        for message in messages:
            if self._latched.get(message.topic):
                self._send(message.topic, message.cdr)

    def play(
        self,
        messages: Iterable[RecordedMessage],
        start_ns: int,
        shift_ns: int | None,
        stop: threading.Event,
        report: Callable[[], None] = lambda: None,
    ) -> None:
        """Publish messages when they are due, until the last one or `stop`.

        Args:
            messages: In time order; the first is due at once.
            start_ns: Time on the recording's clock that is now.
            shift_ns: Added to all header stamps; `None` keeps them.
            stop: Ends the replay early.
            report: Called after each message; must be quick.
        """
        begun_ns, next_clock_ns = time.monotonic_ns(), start_ns
        for message in messages:
            due_ns = begun_ns + int((message.time_ns - start_ns) / self._rate)
            while self._clock and next_clock_ns <= message.time_ns:
                if self._wait(begun_ns + int((next_clock_ns - start_ns) / self._rate), stop):
                    return
                self._clock.publish(ClockMessage(clock=Time(nanoseconds=next_clock_ns + (shift_ns or 0)).to_msg()))
                next_clock_ns += CLOCK_PERIOD_NS
            # Shifted before it is due: the work is done while nothing else waits.
            shift = self._shifters.get(message.topic)
            cdr = message.cdr if shift is None or shift_ns is None else shift(message.cdr, shift_ns)
            if self._wait(due_ns, stop):
                return
            self.progress.late_max_ms = max(self.progress.late_max_ms, (time.monotonic_ns() - due_ns) / 1e6)
            self.progress.position_s = (message.time_ns - start_ns) / 1e9
            if shift is not None:
                self._send(message.topic, cdr)
            report()

    def flush(self) -> None:
        """Give reliable subscribers a moment to acknowledge the last messages."""
        limit_s = time.monotonic() + ACKNOWLEDGE_S
        for publisher in self._publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=max(0.0, limit_s - time.monotonic())))

    def _send(self, topic: str, cdr: bytes) -> None:
        if self.on_sent is not None:
            self.on_sent(topic, cdr, wall_clock_ns())
        self._publishers[topic].publish(cdr)
        self.progress.published[topic] += 1

    @staticmethod
    def _wait(due_ns: int, stop: threading.Event) -> bool:
        """Sleep until a monotonic time; True when `stop` is set."""
        pause_s = (due_ns - time.monotonic_ns()) / 1e9
        if pause_s > NOTICED_S:
            return stop.wait(pause_s)
        if pause_s > 0:
            time.sleep(pause_s)
        return stop.is_set()


def wall_clock_ns() -> int:
    """Return the system time, as node clocks read it without `use_sim_time`."""
    return time.time_ns()
