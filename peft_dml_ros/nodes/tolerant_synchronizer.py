# SPDX-License-Identifier: Apache-2.0
"""The synchroniser with the face of message_filters, for nodes that are built from its subscribers.

    subscribers = {"LIDAR_TOP": Subscriber(node, PointCloud2, "points"), "CAM_FRONT": Subscriber(node, Image, "image")}
    synchronizer = TolerantSynchronizer(subscribers, node.get_clock())
    synchronizer.registerCallback(on_snapshot)

Where ApproximateTimeSynchronizer calls back with one message per topic or not at all, this one calls back with a
`Snapshot` of whatever lives: a silent topic, a bag that starts over or an exception in a callback do not end it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from logging import getLogger
from typing import Any, Protocol

from rclpy.clock import Clock

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.health import SensorState
from peft_dml_ros.core.params import PerceptionParams
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.sync import Synchroniser
from peft_dml_ros.nodes.intake import DECODERS


class Filter(Protocol):
    """What message_filters calls a simple filter, e.g. its Subscriber."""

    def registerCallback(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Have a function called with each message."""


class TolerantSynchronizer:
    """Messages of any subset of sensors in, snapshots out.

    Args:
        filters: By sensor name; the prefix tells the kind (LIDAR_, CAM_, RADAR_, IMU, GNSS, ODOM).
        clock: The node's: ages and jumps are judged by it.
        params: Period, deadline, offsets and limits of age.

    Raises:
        ConfigError: a sensor's name is of no known kind.
    """

    def __init__(self, filters: Mapping[str, Filter], clock: Clock, params: PerceptionParams | None = None) -> None:
        self._clock = clock
        self._synchroniser = Synchroniser(params or PerceptionParams(), tuple(filters))
        self._callbacks: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.failures = 0
        for name, source in filters.items():
            modality_of_channel(name)
            source.registerCallback(self.add, name)

    def registerCallback(self, callback: Callable[..., Any], *args: Any) -> int:
        """Have `callback(snapshot, *args)` called with each snapshot, in the thread that delivers the last message.

        Returns:
            Number of the connection.
        """
        self._callbacks.append((callback, args))
        return len(self._callbacks) - 1

    def add(self, message: Any, name: str) -> None:
        """Take one message of a sensor in; what cannot be decoded is counted in `drops`."""
        try:
            measurement = DECODERS[modality_of_channel(name)](message)
        except DataError:
            self._synchroniser.drops[f"{name}: malformed"] += 1
            return
        self._call_back(self._synchroniser.add(name, measurement, self._now_ns()))

    def tick(self) -> None:
        """To be called by a timer once a period: without any sensor, an empty snapshot tells that nothing lives."""
        self._call_back(self._synchroniser.tick(self._now_ns()))

    @property
    def drops(self) -> Mapping[str, int]:
        """Measurements that were left out, by sensor and reason."""
        return self._synchroniser.drops

    def states(self) -> dict[str, SensorState]:
        """Health of every sensor now."""
        return self._synchroniser.states(self._now_ns())

    def _now_ns(self) -> int:
        return int(self._clock.now().nanoseconds)

    def _call_back(self, snapshot: Snapshot | None) -> None:
        """No lock is held here: a callback that is slow or fails keeps no message from being taken in."""
        if snapshot is None:
            return
        for callback, args in self._callbacks:
            try:
                callback(snapshot, *args)
            except Exception:  # noqa: PERF203  whatever one callback does, the others and the next frame are served
                self.failures += 1
                getLogger(__name__).exception("a callback of the synchroniser failed")
