# SPDX-License-Identifier: Apache-2.0
"""ROS 2 bags as a source of measurements. `bag_writer.write_bag` makes them, `bag_types` knows their message types."""

import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from rosbags.serde import SerdeError

from peft_dml_ros.conversions import (
    camera_model_from_msg,
    decoder_of,
    is_rectified,
    points_dropped,
    presets,
    topics,
    transforms_from_msg,
)
from peft_dml_ros.conversions.cdr import leading_frame_id
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import ConfigError, DataError, nearest
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import ImuSample, LidarSweep, Measurement, RadarSweep
from peft_dml_ros.core.params import words_by_sensor
from peft_dml_ros.core.rig import CameraModel, Rig, Sensor, modality_of_channel
from peft_dml_ros.core.transforms import StaticTree
from peft_dml_tools.datasets import bag_topics
from peft_dml_tools.datasets.bag_options import BagOptions
from peft_dml_tools.datasets.bag_storage import BagStorage, StampedMessage
from peft_dml_tools.datasets.bag_types import RosbagsFactory, typestore
from peft_dml_tools.datasets.bag_writer import BagFile, write_bag
from peft_dml_tools.datasets.boxes_from_msg import boxes_from_msg, with_velocities

NOT_FINITE: Final = "points not finite"  #: Reason for points of an otherwise good cloud
NO_STAMP: Final = "stamp is 0"  #: Reason for messages that nobody stamped
__all__ = ["NOT_FINITE", "NO_STAMP", "BagFile", "BagSource", "RosbagsFactory", "typestore", "write_bag"]

_TREE_MESSAGES: Final = 500  #: Messages of /tf to look at for the sensors' mounting, in bags without /tf_static


class BagSource:
    """A bag that holds the topics of `conversions.topics` or of one of `conversions.presets`; others are left alone.

    Attributes:
        name: Name of the file or folder.
        dropped: Left out of `measurements`, counted by sensor and reason: malformed messages, those without a stamp
            (`NO_STAMP`), and points that are not finite (`NOT_FINITE`).
        lag_ns: Least time between a sensor's stamps and their recording; below 0 where its clock is ahead.
        preset: Name of the preset that its topics follow.
        left_out: Why sensors with messages in the bag are not in the rig, by sensor.
    """

    def __init__(self, path: str | Path, *, preset: str | None = None, options: BagOptions | None = None) -> None:
        """Open a bag.

        Raises DataError: no bag, no known topic in it, or a known topic of another type; ConfigError: no such preset.

        Args:
            path: An .mcap or .db3 file, or a rosbag2 folder.
            preset: Name of the topic preset (`presets.PRESETS` or "default"); None finds out.
            options: Topics, base frame and calibration, as the node takes them.
        """
        self._storage = BagStorage(Path(path))
        self.name = Path(path).stem
        self.dropped: dict[tuple[str, str], int] = {}
        self.left_out: dict[str, str] = {}
        self.lag_ns: dict[str, int] = {}
        self._options = options or BagOptions()
        table = self._accepted(*self._with_given(*self._known_topics(preset)))
        self.preset, self._sensors, self._infos = table.preset, table.sensors, table.infos
        self._offsets_ns = self._options.offsets_ns
        self._storage.offsets_ns = {t: self._offsets_ns.get(sensor, 0) for t, sensor in self._sensors.items()}

    def _known_topics(self, preset: str | None) -> tuple[presets.BagTopics, list[str]]:
        """Return the topics by this package's names where there are any, else by those of others.

        The second value tells topics with a name of this package and another type.
        """
        known, wrong = presets.BagTopics(presets.DEFAULT), list[str]()
        if preset not in {None, presets.DEFAULT}:
            return presets.recognise(self._storage.connections, self._first_frame, preset) or known, wrong
        for topic, msgtype in self._storage.connections.items():
            try:
                sensor = bag_topics.sensor_of(topic)
            except ConfigError:
                continue
            if topic.endswith("/camera_info"):
                if msgtype == topics.CAMERA_INFO:
                    known.infos[topic] = sensor
                continue
            known.sensors[topic] = sensor
            expected = topics.IMAGE if topic.endswith("/image") else topics.type_of(sensor)
            if msgtype not in {expected, *topics.other_types_of(sensor)}:
                wrong.append(f"{topic} is {msgtype}, not {expected}")
        if not wrong and preset is None and not presets.detects(known):
            # Of a bag that nothing can be detected in, tell at least what it holds.
            found = presets.recognise(self._storage.connections, self._first_frame)
            known = found or presets.guessed(self._storage.connections, self._first_frame)
        return known, wrong

    def _with_given(self, known: presets.BagTopics, wrong: list[str]) -> tuple[presets.BagTopics, list[str]]:
        """Return the topics with those that the parameters name, each in place of the one that was recognised.

        Raises ConfigError: a topic is not in the bag.
        """
        inputs, here = self._options.inputs, self._storage.connections
        named = {t: s for s, t in words_by_sensor(inputs.topics, "/TOPIC").items()}
        infos = {t: c for c, t in words_by_sensor(inputs.infos, "/TOPIC").items()}
        if lost := [topic for topic in (*named, *infos) if topic not in here]:
            there = nearest(lost[0], here)
            msg = f"bag {self._storage.path} has no topic '{lost[0]}' (inputs.topics, inputs.infos); {there}"
            raise ConfigError(msg)
        sensors = {t: s for t, s in known.sensors.items() if s not in named.values()} | named
        cameras = {t: c for t, c in known.infos.items() if c not in infos.values()} | infos
        return presets.BagTopics(known.preset, sensors, cameras), wrong

    def _accepted(self, known: presets.BagTopics, wrong: list[str]) -> presets.BagTopics:
        if not known.sensors:
            self._storage.check()
        if wrong or not known.sensors:
            there = ", ".join(sorted(self._storage.connections)) or "no topic at all"
            reason = "; ".join(wrong) or f"it holds none of the known sensor topics, but: {there}"
            raise DataError(
                f"bag {self._storage.path} cannot be used: {reason}; fix: name the topics in a parameter file "
                "(--config), inputs.topics: [LIDAR_TOP=/TOPIC], or convert them to these types"
            )
        return known

    def _first_frame(self, topic: str) -> str:
        """Return `header.frame_id` of the first message of a topic; empty when there is none."""
        for _, message in self._storage.recorded({topic}):
            return leading_frame_id(message.cdr)
        return ""

    @cached_property
    def rig(self) -> Rig:
        """Sensors with a message in the bag; extrinsics from /tf_static, projections from CameraInfo.

        Raises DataError: a LiDAR, radar or camera frame is not connected to base_link; all are named.
        """
        cameras, frames = self._calibration()
        tree = self._tree()
        given, base = self._options.calibration.sensors, self._options.base_frame
        sensors, lost = {}, []
        self.left_out.clear()
        for name in sorted(self._sensors.values(), key=bag_topics.rig_order):
            modality = modality_of_channel(name)
            if modality is not None and name not in frames:
                continue  # a topic on which nobody said anything
            frame = frames.get(name) or topics.frame_of(name)
            mounting = given[name].base_SE3_sensor if name in given else tree.lookup(base, frame)
            # Fixes are used as relative motion, and odometry is the base frame's own.
            if modality is None or (mounting is None and modality == "gnss"):
                mounting = SE3.identity()
            if mounting is None:
                self.left_out[name] = f"no static transform from '{base}' to '{frame}'"
                if modality == "imu":
                    self.left_out[name] += "; give it in a calibration file"
                else:
                    lost.append(name)
                continue
            camera = given[name].camera if name in given and given[name].camera else cameras.get(name)
            sensors[name] = Sensor(name, modality, mounting, camera)
        if lost:
            where = f"calibration file of {self._options.described_by}" if given else "calibration file"
            raise DataError(
                f"bag {self._storage.path}: {'; '.join(f'{name}: {self.left_out[name]}' for name in lost)}; fix: give "
                f"their mounting in a {where} (parameter `calibration`, with --config), name the vehicle's frame "
                f"(`base_frame`; the transforms here start at {', '.join(tree.roots) or 'none'}), or record "
                f"{topics.TF_STATIC}"
            )
        return Rig(sensors)

    def _calibration(self) -> tuple[dict[str, CameraModel], dict[str, str]]:
        """Return projections by camera, frames by sensor: the first of each."""
        infos = self._infos
        cameras: dict[str, CameraModel] = {}
        frames: dict[str, str] = {}
        waiting = {*infos, *self._sensors}
        for _, message in self._storage.recorded(set(waiting)):
            if message.topic not in waiting:
                continue
            if message.topic in infos:
                camera = infos[message.topic]
                images = next((topic for topic, sensor in self._sensors.items() if sensor == camera), "")
                flat = is_rectified(camera, images, self._options.inputs)
                cameras[camera] = camera_model_from_msg(self._decode(message), rectified=flat)
            else:
                frames[self._sensors[message.topic]] = leading_frame_id(message.cdr)
            waiting.discard(message.topic)
            if not waiting:
                break
        return cameras, frames

    def _tree(self) -> StaticTree:
        """Return the transforms of /tf_static, without that of the beginning of /tf: the first of each frame."""
        kinds = self._storage.connections
        topic = next((t for t in (topics.TF_STATIC, bag_topics.TF) if kinds.get(t) == topics.TRANSFORMS), None)
        parents: dict[str, tuple[str, SE3]] = {}
        for number, (_, message) in enumerate(self._storage.recorded({topic} if topic else set())):
            if topic == bag_topics.TF and number >= _TREE_MESSAGES:
                break
            for parent, child, pose in transforms_from_msg(self._decode(message)):
                parents.setdefault(child, (parent, pose))
        tree = StaticTree()
        tree.update((parent, child, pose) for child, (parent, pose) in parents.items())
        return tree

    def where(self, sensor: str) -> str:
        """Return the topic that a sensor is read from."""
        return next((topic for topic, name in self._sensors.items() if name == sensor), "")

    @property
    def unread(self) -> dict[str, str]:
        """Types of the topics that are read for no sensor, by topic; without other forms of the images that are."""
        names = (bag_topics.TRUTH, bag_topics.TRUTH_MARKERS, bag_topics.TRUTH_VELOCITIES)
        read = {*self._sensors, *self._infos, bag_topics.TF, topics.TF_STATIC, *map(bag_topics.bag_topic, names)}
        here = self._storage.connections.items()
        return {t: kind for t, kind in here if not any(r == t or r.startswith(f"{t}/") for r in read)}

    @property
    def raw_cameras(self) -> frozenset[str]:
        """Cameras with uncompressed images only."""
        kinds = self._storage.connections
        images = {(sensor, kinds[topic]) for topic, sensor in self._sensors.items()}
        return frozenset(s for s, kind in images if kind == topics.IMAGE and (s, topics.COMPRESSED_IMAGE) not in images)

    @property
    def last_stamp_ns(self) -> int:
        """Stamp of the last measurement; 0 when there is none."""
        return max((message.stamp_ns for _, message in self._storage.recorded(set(self._sensors))), default=0)

    @property
    def damage(self) -> str:
        """What is wrong with the file as far as it was read, and the fix; empty when nothing is."""
        return self._storage.complaint

    def stamps_of(self, modality: str) -> tuple[int, ...]:
        """Return the ascending header stamps of the first sensor of a modality, read without decoding."""
        names = sorted(sensor for sensor in self._sensors.values() if modality_of_channel(sensor) == modality)
        chosen = {topic for topic, sensor in self._sensors.items() if sensor in names[:1]}
        return tuple(sorted(message.stamp_ns for _, message in self._storage.recorded(chosen)))

    def measurements(self, from_ns: int = 0) -> Iterator[tuple[str, Measurement]]:
        """Yield (sensor name, measurement) in stamp order as it is read; inertial samples in `base_link` axes.

        Messages that are malformed or have no stamp, and points that are not finite, are left out and counted in
        `dropped`. Raises DataError: after the last readable message, when the file is damaged or cut off.
        """
        self.dropped.clear()
        self.lag_ns.clear()
        rig = self.rig
        decoders = {sensor: decoder_of(sensor, self._options.inputs) for sensor in rig.sensors}
        for message in self._storage.messages(
            {t for t, sensor in self._sensors.items() if sensor in decoders}, from_ns
        ):
            sensor = self._sensors[message.topic]
            if not message.stamp_ns:
                self._drop(sensor, NO_STAMP)
                continue
            lag_ns = message.logged_ns - message.stamp_ns
            self.lag_ns[sensor] = min(lag_ns, self.lag_ns.get(sensor, lag_ns))
            try:
                decoded = self._decode(message)
                measurement = decoders[sensor](decoded)
            except DataError as error:
                self._drop(sensor, str(error))
                continue
            if isinstance(measurement, LidarSweep | RadarSweep):
                self._drop(sensor, NOT_FINITE, points_dropped(decoded, measurement))
            if isinstance(measurement, ImuSample):
                measurement = measurement.turned(rig[sensor].base_SE3_sensor.rotation)
            yield sensor, _later(measurement, self._offsets_ns.get(sensor, 0))

    def _drop(self, sensor: str, reason: str, count: int = 1) -> None:
        if count:
            self.dropped[sensor, reason] = self.dropped.get((sensor, reason), 0) + count

    @cached_property
    def truth(self) -> dict[int, Boxes3D]:
        """Boxes by stamp from truth/boxes, with velocities from truth/velocities; empty without such topics.

        Raises DataError: the boxes are malformed or not in base_link.
        """
        boxes_topic, velocities_topic = (
            bag_topics.bag_topic(t) for t in (bag_topics.TRUTH, bag_topics.TRUTH_VELOCITIES)
        )
        boxes: dict[int, Boxes3D] = {}
        velocities: dict[int, Any] = {}
        for _, message in self._storage.recorded({boxes_topic, velocities_topic}):
            if (frame := leading_frame_id(message.cdr)) != self._options.base_frame:
                base = self._options.base_frame
                msg = f"bag {self._storage.path}: {message.topic} is in frame '{frame}', not {base}; fix: `base_frame`"
                raise DataError(msg)
            if message.topic == boxes_topic:
                boxes[message.stamp_ns] = boxes_from_msg(self._decode(message))
            else:
                velocities[message.stamp_ns] = self._decode(message)
        return {s: with_velocities(b, velocities[s]) if s in velocities else b for s, b in boxes.items()}

    def _decode(self, message: StampedMessage) -> Any:
        try:
            return typestore().deserialize_cdr(message.cdr, message.msgtype)
        except (SerdeError, struct.error, ValueError, IndexError, KeyError, AssertionError, TypeError) as error:
            msg = f"bag {self._storage.path}: a message on {message.topic} is no {message.msgtype}: {error}"
            raise DataError(f"{msg}; fix: record it again") from error


def _later(measurement: Measurement, offset_ns: int) -> Measurement:
    return replace(measurement, stamp_ns=measurement.stamp_ns + offset_ns) if offset_ns else measurement
