# SPDX-License-Identifier: Apache-2.0
"""Looks at and talks to nodes that run: what `peft-dml status`, `topics` and `set` do, without ros2cli."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Log, ParameterType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient

from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.nodes.matched_subscription import MatchedSubscription, message_class
from peft_dml_ros.nodes.runtime import ros_context

FIND_S: Final = 8.0
GRAPH_S: Final = 4.0  #: Longest wait until something named is discovered, and the wait for all that is there
ANSWER_S: Final = 3.0
ATTEMPTS: Final = 4
WARNING: Final = 30  #: Level of a log message that is shown after a parameter was set


@dataclass(slots=True)
class Status:
    """What a perception node says of itself."""

    node: str  #: Its full name
    frame_hz: float = 0.0  #: Frames per second while it was watched
    #: By the last part of their names: `frame`, then `sensor NAME`; level, message and values of each
    statuses: dict[str, tuple[int, str, dict[str, str]]] = field(default_factory=dict)


@dataclass(slots=True)
class TopicRate:
    """Traffic on one topic while it was watched; `rate_hz` is None where its type is not installed here."""

    topic: str
    type: str
    publishers: int
    subscribers: int
    rate_hz: float | None = None
    bytes_per_s: float = 0.0


class Client:
    """A node of its own that asks others."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)

    def spin(self, seconds: float, done: Callable[[], bool] = lambda: False) -> None:
        """Handle callbacks for some time, or until something holds."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and not done():
            self._executor.spin_once(timeout_sec=min(left_s, 0.1))

    def find(self, name: str) -> str:
        """Return a running node's full name, by that or its last part. Raises ConfigError: none runs, or several."""
        self.spin(FIND_S, lambda: len(self._matching(name)) > 0)
        found = self._matching(name)
        if len(found) == 1:
            return found[0]
        if found:
            raise ConfigError(f"{len(found)} nodes are called '{name}'; fix: choose one: --node {' or '.join(found)}")
        running = self._running()
        raise ConfigError(
            f"no node '{name}' runs in this ROS domain; "
            + (f"running: {', '.join(running[:8])}; {nearest(name, running)}" if running else "start it: peft-dml node")
        )

    def _matching(self, name: str) -> list[str]:
        return [full for full in self._running() if full == name or full.rpartition("/")[2] == name]

    def _running(self) -> list[str]:
        own = self._node.get_fully_qualified_name()
        every = {f"{space.rstrip('/')}/{name}" for name, space in self._node.get_node_names_and_namespaces()}
        return sorted(every - {own})

    def status(self, name: str, seconds: float) -> Status:
        """Return what a perception node says with each frame, or once a second when it makes none."""
        found, frames = Status(self.find(name)), [0]

        def take(message: DiagnosticArray, *, each_frame: bool) -> None:
            frames[0] += each_frame
            for status in message.status:
                prefix, _, part = status.name.rpartition(": ")
                if each_frame or prefix in {found.node, found.node.rpartition("/")[2]}:
                    values = {pair.key: pair.value for pair in status.values}
                    found.statuses[part] = (int.from_bytes(status.level, "big"), status.message, values)

        heard = [
            self._node.create_subscription(DiagnosticArray, topic, lambda m, e=each_frame: take(m, each_frame=e), 10)
            for topic, each_frame in ((f"{found.node}/status", True), ("/diagnostics", False))
        ]
        # On a busy machine the first message takes its time: participants announce themselves every 3 s.
        self.spin(FIND_S, lambda: bool(found.statuses))
        frames[0] = 0
        self.spin(seconds)
        for subscription in heard:  # `status --watch` asks again and again
            self._node.destroy_subscription(subscription)
        found.frame_hz = frames[0] / seconds
        return found

    def topics(self, seconds: float, wanted: Sequence[str] = ()) -> list[TopicRate]:
        """Return the traffic on topics, all if none is named. Raises ConfigError: one is published by nobody."""
        published = self._node.count_publishers
        self.spin(FIND_S if wanted else GRAPH_S, lambda: bool(wanted) and all(map(published, wanted)))
        types = {t: kinds[0] for t, kinds in self._node.get_topic_names_and_types() if published(t)}
        for topic in wanted:
            if topic not in types:
                raise ConfigError(f"nobody publishes {topic}; {nearest(topic, types)}")
        rates = [
            TopicRate(topic, kind, published(topic), self._node.count_subscribers(topic))
            for topic, kind in sorted(types.items())
            if not wanted or topic in wanted
        ]
        sizes: dict[str, list[int]] = {}
        for row in rates:
            with suppress(ConfigError):
                kind = message_class(row.type)
                take = sizes.setdefault(row.topic, []).append
                MatchedSubscription(self._node, kind, row.topic, lambda cdr, t=take: t(len(cdr)), raw=True)
        self.spin(seconds)
        for row in rates:
            if row.topic in sizes:
                row.rate_hz, row.bytes_per_s = len(sizes[row.topic]) / seconds, sum(sizes[row.topic]) / seconds
        return rates

    def parameters(self, name: str) -> dict[str, Any]:
        """Return every parameter of a node, by name."""
        ask = self._asking(self.find(name))
        names = sorted(self._answer(ask.list_parameters).result.names)
        return dict(
            zip(names, map(parameter_value_to_python, self._answer(ask.get_parameters, names).values), strict=True)
        )

    def set(self, name: str, parameter: str, text: str, watch_s: float) -> tuple[Any, list[str]]:
        """Set a parameter of a node; return the value, and what the node warned of since.

        Raises ConfigError: the node refuses it, or has no such parameter.

        Args:
            name: Of the node.
            parameter: Its name.
            text: Value as YAML; read as the type that the node declared.
            watch_s: How long to watch for warnings of the node: some values act later, and may be refused then.
        """
        full = self.find(name)
        ask = self._asking(full)
        known = self._answer(ask.list_parameters).result.names
        if parameter not in known:
            raise ConfigError(f"{full} has no parameter '{parameter}'; {nearest(parameter, known)}")
        (descriptor,) = self._answer(ask.describe_parameters, [parameter]).descriptors
        value = _read(text, descriptor.type)
        said: list[str] = []
        logger = full.strip("/").replace("/", ".")

        def take(log: Log) -> None:
            if log.name == logger and log.level >= WARNING:
                said.append(log.msg)

        self._node.create_subscription(Log, "/rosout", take, 100)
        self.spin(0.3)  # until the subscription is matched
        (result,) = self._answer(ask.set_parameters, [Parameter(parameter, value=value)]).results
        if not result.successful:
            raise ConfigError(f"{full} refuses {parameter} = {value!r}; hint: {result.reason}")
        self.spin(watch_s)
        return value, said

    def _asking(self, full: str) -> AsyncParameterClient:
        """Return a client of a node's parameter services, once they are discovered."""
        ask = AsyncParameterClient(self._node, full)
        self.spin(FIND_S, ask.services_are_ready)
        return ask

    def _answer(self, ask: Callable[..., Any], *given: Any) -> Any:
        """Return a service's answer; asks again, because an answer is lost where the service does not know us yet."""
        for _ in range(ATTEMPTS):
            future = ask(*given)
            self.spin(ANSWER_S, future.done)
            if future.done():
                return future.result()
        raise ConfigError(f"the node does not answer within {ATTEMPTS * ANSWER_S:g} s; hint: is it busy, or ending?")


def _read(text: str, kind: int) -> Any:
    """Read a value as the type that is declared; a text stays a text, and an integer is a number."""
    if kind == ParameterType.PARAMETER_STRING:
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"'{text}' is no value: {str(error).splitlines()[0]}; fix: write YAML") from None
    if kind == ParameterType.PARAMETER_DOUBLE and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind == ParameterType.PARAMETER_DOUBLE_ARRAY and isinstance(value, list):
        return [float(entry) for entry in value]
    return value


@contextmanager
def client() -> Iterator[Client]:
    """Give a client with a node and a context of its own."""
    with ros_context([]):
        node = Node("peft_dml_client", start_parameter_services=False)
        try:
            yield Client(node)
        finally:
            node.destroy_node()
