# SPDX-License-Identifier: Apache-2.0
"""Subscriptions that fit whatever the publishers offer, also publishers that come later."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from importlib import import_module
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from peft_dml_ros.core.errors import ConfigError, nearest

#: For what is published once and must reach whoever subscribes later
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)

_POLICIES: dict[str, Any] = {"reliability": ReliabilityPolicy, "durability": DurabilityPolicy}


@cache
def message_class(name: str) -> type[Any]:
    """Return the rclpy class of a type such as `sensor_msgs/msg/Imu`. Raises ConfigError: it is not installed."""
    package, _, rest = name.partition("/")
    try:
        found: type[Any] = getattr(import_module(f"{package}.msg"), rest.rpartition("/")[2])
    except (ImportError, AttributeError):
        raise ConfigError(f"message type '{name}' is not installed; fix: install the package '{package}'") from None
    return found


def installed(name: str) -> bool:
    """Return whether a message type can be subscribed to."""
    try:
        message_class(name)
    except ConfigError:
        return False
    return True


def matched_qos(offered: Iterable[QoSProfile], *, depth: int, latched: bool = False) -> QoSProfile:
    """Return the strongest profile that matches every offer.

    rclpy's own BEST_AVAILABLE decides once, and for reliable when nobody publishes yet: a best-effort driver that
    starts later is then never heard.

    Args:
        offered: Profiles of the present publishers.
        depth: Messages kept until they are taken.
        latched: Ask for the last message of a latched topic while nobody publishes yet.
    """
    offers = list(offered)
    reliable = all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers)
    kept = all(offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers) if offers else latched
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if kept else DurabilityPolicy.VOLATILE,
    )


def overridden(qos: QoSProfile, node: Node, topic: str) -> QoSProfile:
    """Return the profile with what the parameters `qos_overrides.TOPIC.subscription.POLICY` of the node say of it.

    rclpy's own overriding needs a profile that never changes, and declares parameters for every policy of every topic.
    Raises ConfigError: a policy or its value is unknown.

    Args:
        qos: Changed and returned.
        node: Its parameters are read as they were given at the start.
        topic: Resolved name.
    """
    prefix = f"qos_overrides.{topic}.subscription."
    for name, given in node._parameter_overrides.items():  # noqa: SLF001  rclpy has no public view of them
        if not name.startswith(prefix):
            continue
        policy, value = name.removeprefix(prefix), given.value
        if policy == "depth" and isinstance(value, int) and value > 0:
            qos.depth = value
        elif policy in _POLICIES and str(value) in _POLICIES[policy].short_keys():
            setattr(qos, policy, _POLICIES[policy].get_from_short_key(str(value)))
        else:
            values = {"depth": ["1 and more"]} | {key: kind.short_keys() for key, kind in _POLICIES.items()}
            right = f"{policy} takes {', '.join(values[policy])}" if policy in values else nearest(policy, values)
            raise ConfigError(f"parameter '{name}' cannot be {value!r}; {right}")
    return qos


class MatchedSubscription:
    """One subscription; `refresh` subscribes again when the publishers of the topic offer something else by now.

    Args:
        node: Owner of the subscription.
        message_type: Message class.
        topic: Name, relative or absolute.
        callback: Called with each message; its bytes where `raw`, and then the message class where `typed`.
        depth: Messages that the middleware keeps.
        raw: Hand over bytes.
        latched: Ask for the last message of a latched topic while nobody publishes yet.
        count_lost: Count in `lost` what the middleware reports as lost.
        drain: Take all messages that wait at each turn of the executor.
        typed: Hand the message class over as `kind`.
        others: Message types of which one is listened to instead where all publishers send that.
    """

    def __init__(
        self,
        node: Node,
        message_type: type[Any],
        topic: str,
        callback: Callable[..., None],
        *,
        depth: int = 5,
        raw: bool = False,
        latched: bool = False,
        count_lost: bool = False,
        drain: bool = False,
        typed: bool = False,
        others: Iterable[str] = (),
    ) -> None:
        self._node, self._own, self._given, self._typed = node, message_type, callback, typed
        self._others = frozenset(name for name in others if installed(name))
        self._depth, self._raw, self._latched, self._drain = depth, raw, latched, drain
        # An executor looks at every event of every subscription each time it waits: half of its work, when left on.
        on_lost = self._on_lost if count_lost else None
        self._events = SubscriptionEventCallbacks(message_lost=on_lost, use_default_callbacks=False)
        self.topic: str = node.resolve_topic_name(topic)
        self.lost = 0
        self.kind, self.qos = self._fitting_kind(), self._fitting()
        self._subscription: Any = self._subscribe()

    @property
    def offered(self) -> list[QoSProfile]:
        """Profiles of the topic's present publishers."""
        return [info.qos_profile for info in self._node.get_publishers_info_by_topic(self.topic)]

    def refresh(self) -> bool:
        """Fit the publishers that are there now; True when that needed a new subscription."""
        kind, qos = self._fitting_kind(), self._fitting()
        if (kind, qos) == (self.kind, self.qos) and self._subscription is not None:
            return False
        self.destroy()
        self.kind, self.qos = kind, qos
        try:
            self._subscription = self._subscribe()
        except _rclpy.RCLError:
            # Another type on the same topic, while the executor still holds the old subscription: the next call tries.
            return False
        return True

    def take(self) -> Iterator[tuple[Any, dict[str, int]]]:
        """Yield (message, info) of all that waits, for a node without an executor; `info` says when it arrived."""
        handle = self._subscription.handle
        for _ in range(self._depth):
            with handle:
                taken = handle.take_message(self.kind, self._raw)
            if taken is None:
                return
            yield taken

    def destroy(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def _fitting(self) -> QoSProfile:
        fitting = matched_qos(self.offered, depth=self._depth, latched=self._latched)
        return overridden(fitting, self._node, self.topic)

    def _fitting_kind(self) -> type[Any]:
        """Return the class that all publishers send, of those that are understood; else the own one."""
        if not self._others:
            return self._own
        sent = {info.topic_type for info in self._node.get_publishers_info_by_topic(self.topic)}
        return message_class(next(iter(sent))) if len(sent) == 1 and sent <= self._others else self._own

    def _subscribe(self) -> Any:
        self.callback = partial(self._given, kind=self.kind) if self._typed else self._given
        return self._node.create_subscription(
            self.kind,
            self.topic,
            self._deliver if self._drain else self.callback,
            self.qos,
            event_callbacks=self._events,
            raw=self._raw,
        )

    def _deliver(self, first: Any) -> None:
        """Hand on all that waits: of an executor that takes one a turn, a busy machine would fall behind."""
        self.callback(first)
        for message, _ in self.take():
            self.callback(message)

    def _on_lost(self, info: Any) -> None:
        self.lost += info.total_count_change
