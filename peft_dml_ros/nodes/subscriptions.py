# SPDX-License-Identifier: Apache-2.0
"""Subscriptions of the node: one per sensor, camera calibration and /tf_static; raw images only where needed."""

from dataclasses import dataclass
from functools import partial
from typing import Final

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage

from peft_dml_ros.conversions.decoders import is_rectified
from peft_dml_ros.conversions.topics import (
    IMAGE,
    TF_STATIC,
    camera_info_topic_of,
    other_types_of,
    raw_image_topic_of,
    topic_of,
    type_of,
)
from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.params import words_by_sensor
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_ros.nodes.autodetect import Autodetect
from peft_dml_ros.nodes.calibrations import INFO, CalibrationStore, info_of
from peft_dml_ros.nodes.decoder import Decoder
from peft_dml_ros.nodes.matched_subscription import MatchedSubscription, message_class
from peft_dml_ros.nodes.parameter_file import NodeParams

#: Messages the middleware keeps while the executor is busy: a second at nuScenes' rates, so that a hold-up of the whole
#: machine costs no message; with half a second, one of .7 s cost 38 of 213,210
QUEUE: Final[dict[Modality | None, int]] = {"lidar": 20, "radar": 14, "camera": 12, "imu": 100, "gnss": 10, None: 50}
FAST: Final = 50  #: Topics with so long a queue are taken empty at each turn
RAW_AFTER: Final = 2  #: Seconds without a compressed image of a camera after which its raw ones are taken


def raw_of(camera: str) -> str:
    """Return the key of a camera's uncompressed images among the connections."""
    return f"{camera} raw"


@dataclass(slots=True)
class _CameraTraffic:
    """What came of one camera: compressed images up to the last look, and seconds without any."""

    seen: int = 0
    idle_s: int = 0


class SensorSubscriptions:
    """Listens to sensors, and follows publishers that come and go.

    A camera's raw images cost a hundred times the bytes of compressed ones, and image_transport publishes both: they
    are subscribed to only while nothing comes compressed.

    Args:
        node: Owner of the subscriptions.
        params: Sensors, and whether topics of other names are looked for.
        decoder: Takes the sensors' messages.
        store: Takes calibrations.
    """

    def __init__(self, node: Node, params: NodeParams, decoder: Decoder, store: CalibrationStore) -> None:
        self._node, self._decoder, self._store, self._inputs = node, decoder, store, params.inputs
        topics, infos = (words_by_sensor(entries, "/TOPIC") for entries in (params.inputs.topics, params.inputs.infos))
        transforms = MatchedSubscription(
            node, TFMessage, TF_STATIC, store.take_transforms, depth=100, latched=True, raw=True
        )
        self._subscriptions = {TF_STATIC: transforms}
        self._cameras = {name: _CameraTraffic() for name in params.sensors if modality_of_channel(name) == "camera"}
        for name in params.sensors:
            others = (IMAGE,) if name in topics and name in self._cameras else other_types_of(name)
            self._subscriptions[name] = self._listen(name, topics.get(name, topic_of(name)), type_of(name), others)
        for name in self._cameras:
            topic = infos.get(name, camera_info_topic_of(name))
            self._subscriptions[info_of(name)] = self._listen_to_calibration(name, topic)
        self._autodetect = Autodetect(node) if params.autodetect else None

    def connections(self) -> dict[str, MatchedSubscription]:
        """Return what is listened to: by sensor, by `info_of(camera)`, by `raw_of(camera)`, and /tf_static."""
        return dict(self._subscriptions)

    def destroy(self) -> None:
        """End all subscriptions."""
        for subscription in self._subscriptions.values():
            subscription.destroy()
        self._subscriptions.clear()
        if self._autodetect is not None:
            self._autodetect.close()

    def refresh(self) -> None:
        """Fit subscriptions to publishers that have come or gone since; to be called once a second."""
        for camera in self._cameras:
            self._refresh_raw(camera)
        for subscription in self._subscriptions.values():
            if subscription.refresh():
                self._node.get_logger().info(f"subscribed to {subscription.topic} again: its publishers are others")
        if self._autodetect is not None:
            self._find_topics(self._autodetect)

    def _listen(self, name: str, topic: str, type_name: str, others: tuple[str, ...] = ()) -> MatchedSubscription:
        depth = QUEUE[modality_of_channel(name)]
        # Bytes, because the middleware drops a message that it cannot deserialise without a word.
        return MatchedSubscription(
            self._node,
            message_class(type_name),
            topic,
            partial(self._decoder.take, name, self._node.resolve_topic_name(topic)),
            depth=depth,
            raw=True,
            drain=depth >= FAST,
            typed=True,
            others=others,
        )

    def _listen_to_calibration(self, camera: str, topic: str) -> MatchedSubscription:
        return MatchedSubscription(self._node, CameraInfo, topic, partial(self._take_info, camera), depth=1, raw=True)

    def _take_info(self, camera: str, cdr: bytes) -> None:
        rectified = is_rectified(camera, self._subscriptions[camera].topic, self._inputs)
        self._store.take_camera_info(camera, cdr, rectified=rectified)

    def _refresh_raw(self, name: str) -> None:
        """Listen to a camera's raw images while nothing comes compressed."""
        camera, key = self._cameras[name], raw_of(name)
        compressed = self._decoder.compressed[name]
        camera.idle_s = 0 if compressed > camera.seen else camera.idle_s + 1
        camera.seen = compressed
        wanted = self._published(raw_image_topic_of(name)) and (
            not self._subscriptions[name].offered or camera.idle_s > RAW_AFTER
        )
        if wanted and key not in self._subscriptions:
            self._subscriptions[key] = self._listen(name, raw_image_topic_of(name), IMAGE)
        elif not wanted and key in self._subscriptions:
            self._subscriptions.pop(key).destroy()

    def _published(self, topic: str) -> bool:
        return bool(self._node.count_publishers(self._node.resolve_topic_name(topic)))

    def _find_topics(self, autodetect: Autodetect) -> None:
        """Listen elsewhere for sensors of which nobody publishes what is listened to."""
        silent = {key for key, subscription in self._subscriptions.items() if not subscription.offered}
        found = autodetect.look() if silent - {TF_STATIC} else None
        if found is None:
            return
        published = dict(self._node.get_topic_names_and_types())
        elsewhere = {sensor: topic for topic, sensor in found.sensors.items()}
        elsewhere |= {info_of(camera): topic for topic, camera in found.infos.items()}
        for key in sorted(silent & elsewhere.keys()):
            topic, old = elsewhere[key], self._subscriptions[key]
            old.destroy()
            self._subscriptions[key] = (
                self._listen_to_calibration(key.removesuffix(INFO), topic)
                if key.endswith(INFO)
                else self._listen(key, topic, published[topic][0])
            )
            self._node.get_logger().info(f"autodetect: {key} is {topic} ({found.preset} names), not {old.topic}")
