# SPDX-License-Identifier: Apache-2.0
"""Sources of a replay: serialised messages in time order, from a bag or encoded on the fly from a nuScenes folder."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosbags.interfaces import Qos, QosDurability, QosReliability

from peft_dml_ros.conversions import presets, topics
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import OdometrySample
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_ros.nodes.matched_subscription import message_class
from peft_dml_tools.datasets import bag_topics, encode
from peft_dml_tools.datasets.bag_storage import BagStorage
from peft_dml_tools.datasets.bag_writer import messages_of
from peft_dml_tools.datasets.bags import BagSource
from peft_dml_tools.datasets.source import is_bag, last_stamp_ns, open_source
from peft_dml_tools.measurement_source import Source

DEPTH = 10
FAST_DEPTH = 100  #: Messages a publisher keeps for a reliable subscriber that lags behind: a second of most sensors
FAST = ("/imu/data", "/odometry")


@dataclass(frozen=True, slots=True)
class Channel:
    """One topic of a recording."""

    topic: str  #: Absolute name
    type_name: str  #: Message type, e.g. `sensor_msgs/msg/Imu`.
    qos: QoSProfile  #: Profile to publish with

    @property
    def type(self) -> type[Any]:
        """The rclpy class. Raises ConfigError: not installed."""
        return message_class(self.type_name)

    @property
    def latched(self) -> bool:
        """True for what is published once and holds from then on."""
        return bool(self.qos.durability == DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """One message: time in ns on the recording's clock, topic, CDR bytes with encapsulation."""

    time_ns: int
    topic: str
    cdr: bytes


class Playable(Protocol):
    """Messages in time order, readable more than once."""

    channels: dict[str, Channel]  #: Its topics
    start_ns: int  #: Time of the first message
    end_ns: int  #: Right after the last message

    @property
    def rig(self) -> Rig:
        """Its sensors, as far as the recording tells of their mounting."""

    @property
    def damage(self) -> str:
        """What was found to be wrong with it by now, and the fix; empty when nothing was."""

    def latched(self) -> Iterator[RecordedMessage]:
        """Return messages of latched topics."""

    def messages(self, from_ns: int = 0) -> Iterator[RecordedMessage]:
        """Return messages of all other topics at or after a time."""


class PlayedBag:
    """A ROS 2 bag as it was recorded: an .mcap or .db3 file, or a rosbag2 folder; of a cut one what can be read.

    Raises DataError: the bag cannot be read or holds no message.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._storage = path, BagStorage(path)
        if not self._storage.count:
            self._storage.check()
            raise DataError(f"bag {path} holds no message; fix: name another recording")
        self.start_ns, self.end_ns = self._storage.begin_ns, self._storage.end_ns
        self.channels = {
            topic: Channel(topic, kind, publishing_qos(topic, self._storage.offered[topic]))
            for topic, kind in self._storage.connections.items()
        }

    @cached_property
    def rig(self) -> Rig:
        """Sensors with their mounting; none where the bag does not connect them to `base_link`."""
        try:
            return BagSource(self._path).rig
        except DataError:
            return Rig()

    @property
    def damage(self) -> str:
        """What was found to be wrong with the file by now."""
        return self._storage.complaint

    def latched(self) -> Iterator[RecordedMessage]:
        """Return messages of latched topics."""
        return self._read(latched=True)

    def messages(self, from_ns: int = 0) -> Iterator[RecordedMessage]:
        """Return messages of all other topics at or after a time."""
        return self._read(latched=False, from_ns=from_ns)

    def _read(self, *, latched: bool, from_ns: int = 0) -> Iterator[RecordedMessage]:
        wanted = {topic for topic, channel in self.channels.items() if channel.latched == latched}
        for time_ns, topic, _, cdr in self._storage.logged(wanted, from_ns):
            yield RecordedMessage(time_ns, topic, cdr)


class SourceRecording:
    """Any source of measurements, e.g. a nuScenes folder or a bag with foreign topics, as messages of this package.

    Raises DataError: the source holds no measurement.
    """

    def __init__(self, source: Source) -> None:
        self._source, self._make = source, RclpyFactory()
        first = next(source.measurements(), None)
        if first is None:
            raise DataError(f"source '{source.name}' holds no measurement; fix: name another")
        self.start_ns: int = first[1].stamp_ns
        self.end_ns: int = max([last_stamp_ns(source), *source.truth]) + 1
        types = {bag_topics.bag_topic(topics.topic_of(name)): topics.type_of(name) for name in source.rig.sensors}
        for camera in source.raw_cameras if isinstance(source, BagSource) else ():
            del types[bag_topics.bag_topic(topics.topic_of(camera))]
            types[bag_topics.bag_topic(topics.raw_image_topic_of(camera))] = topics.IMAGE
        cameras = source.rig.of("camera")
        types |= {bag_topics.bag_topic(topics.camera_info_topic_of(c.name)): topics.CAMERA_INFO for c in cameras}
        types[topics.TF_STATIC] = topics.TRANSFORMS
        types[bag_topics.bag_topic(bag_topics.TRUTH)] = topics.DETECTIONS
        self.channels = {topic: Channel(topic, kind, publishing_qos(topic, [])) for topic, kind in types.items()}

    @property
    def rig(self) -> Rig:
        """Sensors with their mounting."""
        return self._source.rig

    @property
    def damage(self) -> str:
        """What was found to be wrong with the bag by now."""
        return self._source.damage if isinstance(self._source, BagSource) else ""

    def latched(self) -> Iterator[RecordedMessage]:
        """Yield the mounting of the sensors."""
        message = encode.tf_static_to_msg(self._source.rig, self._make, self.start_ns)
        yield self._recorded(topics.TF_STATIC, self.start_ns, message)

    def messages(self, from_ns: int = 0) -> Iterator[RecordedMessage]:
        """Return measurements and truth at or after a time."""
        streams = (self._truth(), self._measurements())
        merged = heapq.merge(*streams, key=lambda message: message.time_ns)
        return (message for message in merged if message.time_ns >= from_ns)

    def _measurements(self) -> Iterator[RecordedMessage]:
        # How fast the LiDAR of a foreign bag turns is not known.
        turn_s = None if isinstance(self._source, BagSource) else encode.TURN_S
        before: OdometrySample | None = None
        try:
            for sensor, measurement in self._source.measurements():
                for topic, message in messages_of(
                    sensor, measurement, self._source.rig, self._make, before=before, turn_s=turn_s
                ):
                    yield self._recorded(topic, measurement.stamp_ns, message)
                before = measurement if isinstance(measurement, OdometrySample) else before
        except DataError:
            # A bag tells of its damage at its end; what stands before was played.
            if not self.damage:
                raise

    def _truth(self) -> Iterator[RecordedMessage]:
        for stamp_ns, boxes in sorted(self._source.truth.items()):
            message = encode.boxes_to_msg(boxes, stamp_ns, topics.BASE_FRAME, CLASSES, self._make)
            yield self._recorded(bag_topics.TRUTH, stamp_ns, message)

    def _recorded(self, topic: str, time_ns: int, message: Any) -> RecordedMessage:
        return RecordedMessage(time_ns, bag_topics.bag_topic(topic), serialize_message(message))


def open_recording(path: Path, scene: str | None = None, *, as_recorded: bool = False) -> Playable:
    """Open what lies at a path, to be played on the topics of this package.

    Raises DataError: it is neither a bag nor a nuScenes folder, or cannot be read; ConfigError: no such scene.

    Args:
        path: Bag or nuScenes folder.
        scene: Scene of a nuScenes folder; None takes the first.
        as_recorded: Leave topics alone also in bags whose names for the sensors are foreign.
    """
    if not (path.exists() and is_bag(path)):
        return SourceRecording(open_source(path, scene=scene))
    foreign = None if as_recorded else _foreign(path)
    return PlayedBag(path) if foreign is None else SourceRecording(foreign)


def _foreign(path: Path) -> BagSource | None:
    """Return a bag whose sensors have foreign topics; None where they have this package's, or nothing is a sensor."""
    try:
        source = BagSource(path)
    except DataError:
        return None
    return None if source.preset == presets.DEFAULT else source


def publishing_qos(topic: str, recorded: list[Qos]) -> QoSProfile:
    """Return the profile to publish a topic with: that of the recording, else what drivers use.

    Drivers send sensor data best effort; transforms are latched. Where publishers of a recording differed, the weakest
    reliability is taken, so that no subscriber hears less than it did then.
    """
    if recorded:
        best_effort = any(qos.reliability == QosReliability.BEST_EFFORT for qos in recorded)
    else:
        best_effort = bag_topics.is_sensor_topic(topic)
    kept = topic.endswith("/tf_static") or any(qos.durability == QosDurability.TRANSIENT_LOCAL for qos in recorded)
    return QoSProfile(
        depth=max([FAST_DEPTH if topic in FAST else DEPTH, *(min(qos.depth, 1000) for qos in recorded)]),
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if kept else DurabilityPolicy.VOLATILE,
    )


def sensors_by_topic(names: Iterable[str]) -> dict[str, str]:
    """Return the sensor of every topic that belongs to one; a camera's calibration counts as the camera's."""
    return {topic: bag_topics.sensor_of(topic) for topic in names if bag_topics.is_sensor_topic(topic)}
