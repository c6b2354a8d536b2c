# SPDX-License-Identifier: Apache-2.0
"""Serves ROS 2 messages to Foxglove as they are on the wire, with gate weights and sensor states as plain numbers.

The Foxglove app reads CDR with ROS 2 definitions itself, so that nothing is decoded here but the node's status.
"""

import importlib
import threading
from collections import Counter
from typing import Any, Final

from peft_dml_ros.conversions.cdr import HEADER_END, leading_stamp_ns
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.datasets.bag_types import typestore
from peft_dml_tools.live.frame_status import FrameStatus

PORT: Final = 8765
GATE: Final = "/view/gate"
SENSORS: Final = "/view/sensors"
STATUS_TYPE: Final = "diagnostic_msgs/msg/DiagnosticArray"


class FoxgloveServer:
    """A WebSocket server; topics appear when they are first declared.

    Raises ConfigError: foxglove-sdk is not installed, or the port is taken.

    Args:
        port: TCP port; 0 takes a free one.
        host: Address to listen on.

    Attributes:
        sent: Messages handed on, by topic.
        skipped: Reason by topic for each topic that cannot be shown.
    """

    def __init__(self, port: int = PORT, host: str = "127.0.0.1") -> None:
        try:
            self._sdk: Any = importlib.import_module("foxglove")
        except ModuleNotFoundError:
            raise ConfigError("the live view needs foxglove-sdk; fix: pip install 'peft_dml_ros[view]'") from None
        self.sent: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self._lock, self._watched = threading.Lock(), Counter[str]()
        self._channels: dict[str, Any] = {}
        self._latched: dict[str, tuple[bytes, int]] = {}
        self._context = self._sdk.Context()
        # On offer before there is a status, so that a layout finds them.
        for topic in (GATE, SENSORS):
            self._open(topic, message_encoding="json")
        try:
            self._server = self._sdk.start_server(
                name="PEFT-DML", host=host, port=port, server_listener=self, context=self._context
            )
        except RuntimeError as error:
            raise ConfigError(f"no server on {host}:{port}: {error}; fix: choose another port with --port") from error
        self.address = f"ws://{host}:{self._server.port}"

    def declare(self, topic: str, message_type: str) -> bool:
        """Offer a topic; return False for one whose message type has no known definition."""
        if topic in self._channels:
            return True
        types = typestore()
        if message_type not in types.fielddefs:
            self.skipped[topic] = f"the definition of message type '{message_type}' is not known here"
            return False
        text, _ = types.generate_msgdef(message_type, ros_version=2)
        schema = self._sdk.Schema(name=message_type, encoding="ros2msg", data=text.encode())
        self._open(topic, schema=schema, message_encoding="cdr")
        return True

    def log(self, topic: str, cdr: bytes, time_ns: int, *, latched: bool = False) -> None:
        """Hand on one message of a declared topic; a latched one is repeated for whoever subscribes later."""
        if latched:
            self._latched[topic] = (cdr, time_ns)
        self._channels[topic].log(cdr, log_time=time_ns)
        self.sent[topic] += 1

    def log_status(self, cdr: bytes, time_ns: int) -> None:
        """Hand on gate weights, mask and sensor states of a status of the perception node."""
        stamp_ns = leading_stamp_ns(cdr) if len(cdr) >= HEADER_END else time_ns
        status = FrameStatus.of(typestore().deserialize_cdr(cdr, STATUS_TYPE), stamp_ns, time_ns)
        tree: dict[str, Any] = dict(zip(MODALITIES, status.vector("gate"), strict=True))
        tree |= {"boxes": status.boxes, "latency_ms": status.latency_ms, "sees": list(status.present)}
        self._channels[GATE].log(tree, log_time=time_ns)
        states = {
            name: ": ".join(filter(None, (sensor.state, sensor.detail))) for name, sensor in status.sensors.items()
        }
        self._channels[SENSORS].log(states, log_time=time_ns)
        self.sent.update((GATE, SENSORS))

    def watched(self, topic: str) -> bool:
        """Return whether a viewer has subscribed to a topic."""
        return self._watched[topic] > 0

    @property
    def topics(self) -> list[str]:
        """Topics on offer."""
        return sorted(self._channels)

    def close(self) -> None:
        """End the server."""
        self._server.stop()

    def _open(self, topic: str, **settings: Any) -> None:
        self._channels[topic] = self._sdk.Channel(topic, context=self._context, **settings)

    # ---------------------------------------------------------------- called by the SDK's thread
    def on_subscribe(self, _client: Any, channel: Any) -> None:
        """Count a viewer of a topic, and repeat what is latched."""
        topic = channel.topic
        with self._lock:
            self._watched[topic] += 1
        if latched := self._latched.get(topic):
            self._channels[topic].log(latched[0], log_time=latched[1])

    def on_unsubscribe(self, _client: Any, channel: Any) -> None:
        """Count a viewer less."""
        with self._lock:
            self._watched[channel.topic] -= 1

    def __getattr__(self, name: str) -> Any:
        """Ignore the SDK's other events."""
        if name.startswith("on_"):
            return lambda *_args, **_settings: None
        raise AttributeError(name)
