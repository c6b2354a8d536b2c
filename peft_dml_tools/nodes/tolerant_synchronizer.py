# SPDX-License-Identifier: Apache-2.0
"""A drop-in for `message_filters.ApproximateTimeSynchronizer` that goes on when a topic falls silent.

    filters = [Subscriber(node, PointCloud2, "points"), Subscriber(node, CompressedImage, "image")]
    synchronizer = TolerantSynchronizer(filters, queue_size=10, slop=0.05)
    synchronizer.registerCallback(on_messages)  # on_messages(cloud, image); None for a topic that is silent

It takes the filters of message_filters, or the `Subscriber` here where that package is not installed. Other than the
original, it gives what is there without a silent topic, starts over when stamps step back (a bag in a loop), calls back
without holding its lock, and survives an exception in a callback.
"""

from collections.abc import Callable, Sequence
from logging import getLogger
from threading import Lock
from typing import Any, Protocol

from rclpy.clock import ROSClock
from rclpy.node import Node

NS_PER_S = 1_000_000_000


class Filter(Protocol):
    """What message_filters calls a simple filter, e.g. its Subscriber."""

    def registerCallback(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Have a function called with each message."""


class SimpleFilter:
    """Keeps callbacks and calls them; one that fails is logged and counted, and the others are called."""

    def __init__(self) -> None:
        self._callbacks: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.failures = 0

    def registerCallback(self, callback: Callable[..., Any], *args: Any) -> int:
        """Have `callback(*messages, *args)` called; return the number of the connection."""
        self._callbacks.append((callback, args))
        return len(self._callbacks) - 1

    def signalMessage(self, *messages: Any) -> None:
        """Call every callback with these messages, in the calling thread."""
        for callback, args in self._callbacks:
            try:
                callback(*messages, *args)
            except Exception:  # noqa: PERF203  whatever one callback does, the others are called
                self.failures += 1
                getLogger(__name__).exception("a callback of the synchroniser failed")


class Subscriber(SimpleFilter):
    """A subscription as a filter, for systems without message_filters."""

    def __init__(self, node: Node, message_type: type[Any], topic: str, qos_profile: Any = 10) -> None:
        super().__init__()
        self.sub = node.create_subscription(message_type, topic, self.signalMessage, qos_profile)


class TolerantSynchronizer(SimpleFilter):
    """Calls back with one message of each topic, nearest in time; None stands for a topic that is silent.

    Raises ValueError: there is no filter, or the queue has no room.

    Args:
        fs: Filters, e.g. subscribers.
        queue_size: Messages kept of each topic.
        slop: Most time in s between the stamps of one set.
        allow_headerless: Take messages without header with the time of their arrival.
        silent_after: Time in s, by stamps, after which a topic without messages does not hold up the others.
        max_past: A topic that steps back by more than this, in s, starts everything over.
    """

    def __init__(
        self,
        fs: Sequence[Filter],
        queue_size: int,
        slop: float,
        allow_headerless: bool = False,  # noqa: FBT001, FBT002  the signature of message_filters
        *,
        silent_after: float = 0.5,
        max_past: float = 1.0,
    ) -> None:
        super().__init__()
        if not fs or queue_size < 1:
            raise ValueError(f"{len(fs)} filters and a queue of {queue_size}: both must be at least 1")
        self._size, self._headerless = queue_size, allow_headerless
        self._slop_ns, self._silent_ns, self._past_ns = (round(s * NS_PER_S) for s in (slop, silent_after, max_past))
        self._queues: list[dict[int, Any]] = [{} for _ in fs]
        self._newest_ns: list[int | None] = [None for _ in fs]
        self._first_ns: int | None = None
        self._lock = Lock()
        self.restarts = 0
        for index, source in enumerate(fs):
            source.registerCallback(self.add, index)

    def add(self, message: Any, index: int) -> None:
        """Take a message of filter number `index`; call back when it completes a set."""
        stamp_ns = self._stamp_ns(message)
        if stamp_ns is None:
            return
        with self._lock:
            newest = self._newest_ns[index]
            if newest is not None and newest - stamp_ns > self._past_ns:
                self._restart()
            self._newest_ns[index] = max(stamp_ns, self._newest_ns[index] or stamp_ns)
            self._first_ns = stamp_ns if self._first_ns is None else self._first_ns
            queue = self._queues[index]
            queue[stamp_ns] = message
            while len(queue) > self._size:
                del queue[min(queue)]
            found = self._set_around(stamp_ns)
        if found is not None:
            self.signalMessage(*found)

    def _set_around(self, stamp_ns: int) -> list[Any] | None:
        """Take the messages nearest to a stamp out of the queues, if all topics that are not silent have one."""
        stamps: list[int | None] = []
        for queue, newest_ns in zip(self._queues, self._newest_ns, strict=True):
            near = min(queue, key=lambda s: abs(s - stamp_ns), default=None)
            if near is not None and abs(near - stamp_ns) <= self._slop_ns:
                stamps.append(near)
            elif stamp_ns - (newest_ns or self._first_ns or stamp_ns) >= self._silent_ns:
                stamps.append(None)
            else:
                return None
        chosen = [s for s in stamps if s is not None]
        if max(chosen) - min(chosen) > self._slop_ns:
            return None
        return [None if s is None else queue.pop(s) for queue, s in zip(self._queues, stamps, strict=True)]

    def _restart(self) -> None:
        self.restarts += 1
        self._newest_ns, self._first_ns = [None for _ in self._queues], None
        for queue in self._queues:
            queue.clear()

    def _stamp_ns(self, message: Any) -> int | None:
        header = getattr(message, "header", None)
        if header is not None:
            return int(header.stamp.sec) * NS_PER_S + int(header.stamp.nanosec)
        if self._headerless:
            return int(ROSClock().now().nanoseconds)
        getLogger(__name__).warning("a message without header is left out; set allow_headerless to take it")
        return None
