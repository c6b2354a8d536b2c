# SPDX-License-Identifier: Apache-2.0
"""Which topics of a running system are which sensors: by the presets' names, else by type, words and frame."""

from collections.abc import Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data

from peft_dml_ros.conversions import topics
from peft_dml_ros.conversions.cdr import leading_frame_id
from peft_dml_ros.conversions.presets import BagTopics, recognise
from peft_dml_ros.nodes.matched_subscription import installed, message_class


class Autodetect:
    """Looks at the graph; where names tell nothing, one message of a topic is taken for its frame.

    Only topics in the node's namespace are looked at: not those of another vehicle.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._frames: dict[str, str] = {}
        self._probes: dict[str, Any] = {}

    def look(self) -> BagTopics | None:
        """Return what is there now, with absolute topics; to be called again as more topics and frames become known."""
        prefix = self._node.get_namespace().rstrip("/")
        published = self._published(prefix)
        self._forget_all_but(published)
        found = recognise(
            {topic.removeprefix(prefix): kind for topic, kind in published.items()},
            lambda topic: self._frame_of(prefix + topic),
        )
        if found is None:
            return None
        return BagTopics(
            found.preset,
            {prefix + topic: sensor for topic, sensor in found.sensors.items()},
            {prefix + topic: camera for topic, camera in found.infos.items()},
        )

    def _published(self, prefix: str) -> dict[str, str]:
        return {
            topic: kinds[0]
            for topic, kinds in self._node.get_topic_names_and_types()
            if len(kinds) == 1
            and kinds[0] in topics.SENSOR_TYPES
            and installed(kinds[0])
            and topic.startswith(f"{prefix}/")
            and not topic.startswith(f"{self._node.get_fully_qualified_name()}/")
            and self._node.count_publishers(topic)
        }

    def _frame_of(self, topic: str) -> str:
        """Return the frame of a topic's messages, empty until one has come."""
        if topic not in self._frames and topic not in self._probes:
            kind = dict(self._node.get_topic_names_and_types())[topic][0]
            self._probes[topic] = self._node.create_subscription(
                message_class(kind),
                topic,
                lambda cdr: self._frames.setdefault(topic, leading_frame_id(cdr)),
                qos_profile_sensor_data,
                raw=True,
            )
        if topic in self._frames and topic in self._probes:
            self._node.destroy_subscription(self._probes.pop(topic))
        return self._frames.get(topic, "")

    def _forget_all_but(self, published: Mapping[str, str]) -> None:
        """Forget topics that are gone: they come and go for hours."""
        for topic in self._probes.keys() - published.keys():
            self._node.destroy_subscription(self._probes.pop(topic))
        for topic in self._frames.keys() - published.keys():
            del self._frames[topic]

    def close(self) -> None:
        """End the subscriptions that wait for a frame."""
        for probe in self._probes.values():
            self._node.destroy_subscription(probe)
        self._probes.clear()
