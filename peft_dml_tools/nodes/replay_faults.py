# SPDX-License-Identifier: Apache-2.0
"""Scripted faults and weather on serialised messages, as a replay applies them on the way to the wire."""

import itertools
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from rosbags.serde import SerdeError

from peft_dml_ros import conversions
from peft_dml_ros.conversions import topics
from peft_dml_ros.conversions.cdr import HEADER_END, leading_stamp_ns
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import ConfigError, DataError, nearest
from peft_dml_ros.core.measurements import CameraImage, LidarSweep, Measurement, RadarSweep
from peft_dml_ros.core.rig import Rig
from peft_dml_tools.datasets import encode
from peft_dml_tools.datasets.bag_types import RosbagsFactory, typestore
from peft_dml_tools.nodes.message_stamps import shift_leading
from peft_dml_tools.nodes.recordings import Channel, RecordedMessage, sensors_by_topic
from peft_dml_tools.sim.fault_effects import FaultEffects, damaged_bytes
from peft_dml_tools.sim.fault_stream import Arrival, FaultStream
from peft_dml_tools.sim.faults import ALL, Fault

WARM_UP_MESSAGES: Final = 1000
WINDOW_S: Final = 0.25
AHEAD_S: Final = 1.0  #: Weather wants the clear sweeps of some time before it begins
_SEEN: Final = {topics.POINT_CLOUD, topics.COMPRESSED_IMAGE, topics.IMAGE}


def check_sensors(faults: Sequence[Fault], sensors: Iterable[str]) -> None:
    """Refuse a script that names a sensor the recording does not hold. Raises ConfigError: with all such names."""
    there = {*sensors}
    if faults and not there:
        raise ConfigError("no topic of the recording belongs to a known sensor; fix: leave the faults out")
    known = {*there, *MODALITIES, ALL}
    wrong = [f"'{f.sensor}': {nearest(f.sensor, known)}" for f in faults if f.sensor not in known]
    if wrong:
        raise ConfigError(f"the fault script names sensors that the recording lacks: {'; '.join(wrong)}")


class MessageFaults:
    """Sends the messages of a recording as a vehicle with faulty sensors would have.

    Raises ConfigError: the script names a sensor the recording does not hold.

    Args:
        channels: Topics of the recording.
        rig: Returns its sensors, for the geometry of weather.
        start_ns: Begin of the recording, from which the times of a script count.
        faults: The script.
    """

    def __init__(
        self, channels: Mapping[str, Channel], rig: Callable[[], Rig], start_ns: int, faults: Sequence[Fault] = ()
    ) -> None:
        self._sensors, self._start_ns = sensors_by_topic(channels), start_ns
        self._carrier = CdrCarrier({topic: channel.type_name for topic, channel in channels.items()})
        self._effects = FaultEffects(rig)
        self._stream = FaultStream(self._carrier, self._effects, start_ns)
        self.switch(faults)

    def switch(self, faults: Sequence[Fault]) -> None:
        """Go on with another script, from any thread. Raises ConfigError: no such sensor; the old one stays."""
        check_sensors(faults, self._sensors.values())
        self._script = tuple(faults)
        self._stream.faults = self._script

    def warm_up(self, messages: Iterable[RecordedMessage]) -> None:
        """Act the slow faults of the script out once: what is loaded and compiled for them would delay messages."""
        slow = {(fault.fault, fault.sensor): fault for fault in self._script if fault.fault in {"weather", "blackout"}}
        if not slow:
            return
        first = {message.topic: message for message in reversed([*itertools.islice(messages, WARM_UP_MESSAGES)])}
        always = {"from_s": 0.0, "to_s": math.inf, "sensor": ALL}
        for fault in {fault.fault: fault for fault in slow.values()}.values():
            stream = FaultStream(self._carrier, self._effects, self._start_ns, [fault.model_copy(update=always)])
            list(stream(self._sent(sorted(first.values(), key=lambda message: message.time_ns))))

    def __call__(self, messages: Iterable[RecordedMessage]) -> Iterator[RecordedMessage]:
        """Yield messages in time order, from such."""
        return (
            RecordedMessage(s.time_ns, s.topic, s.payload) for s in self._stream(self._sent(self._watched(messages)))
        )

    def _sent(self, messages: Iterable[RecordedMessage]) -> Iterator[Arrival[bytes]]:
        return (Arrival(m.time_ns, m.topic, self._sensors.get(m.topic, ""), m.cdr) for m in messages)

    def _watched(self, messages: Iterable[RecordedMessage]) -> Iterator[RecordedMessage]:
        """Give the stream the faults of the next moments alone: a long script has hundreds, each asked every time."""
        script, until_s = self._script, -math.inf
        for message in messages:
            now_s = (message.time_ns - self._start_ns) / 1e9
            if now_s >= until_s or script is not self._script:
                script, until_s = self._script, now_s + WINDOW_S
                near = (f for f in script if f.from_s < until_s + AHEAD_S and f.to_s > now_s)
                self._stream.faults = tuple(near)
            yield message


class CdrCarrier:
    """Measurements that travel as serialised ROS messages, of types by topic."""

    def __init__(self, types: Mapping[str, str]) -> None:
        self._types, self._make = dict(types), RosbagsFactory()

    def stamp_ns(self, payload: bytes) -> int:
        """Return the stamp of the leading header; 0 where the message is too short for one."""
        return leading_stamp_ns(payload) if len(payload) >= HEADER_END else 0

    def restamped(self, payload: bytes, stamp_ns: int) -> bytes:
        """Return the message under another stamp."""
        return shift_leading(payload, stamp_ns - self.stamp_ns(payload))

    def measurement(self, sent: Arrival[bytes]) -> Measurement | None:
        """Return a message's sweep, radar cycle or image, else None. Raises DataError: it cannot be decoded."""
        if self._types[sent.topic] not in _SEEN:
            return None
        message = self._message(sent)
        if self._types[sent.topic] != topics.POINT_CLOUD:
            return conversions.image_from_msg(message)
        return (conversions.radar_from_msg if sent.sensor.startswith("RADAR") else conversions.lidar_from_msg)(message)

    def packed(self, sent: Arrival[bytes], measurement: Measurement) -> bytes:
        """Return the message with another measurement in it, in its own frame and of the same type.

        Raises DataError: an image has neither bytes nor pixels.
        """
        original = self._message(sent)
        frame = original.header.frame_id
        if isinstance(measurement, LidarSweep):
            timed = any(field.name == "time" for field in original.fields)
            turn_s = encode.TURN_S if timed else None
            message = encode.lidar_to_msg(measurement, frame, self._make, turn_s=turn_s)
        elif isinstance(measurement, RadarSweep):
            message = encode.radar_to_msg(measurement, frame, self._make)
        elif isinstance(measurement, CameraImage):
            message = conversions.image_to_msg(measurement, frame, self._make)
        else:
            return sent.payload
        return bytes(typestore().serialize_cdr(message, self._types[sent.topic]))

    def damaged(self, sent: Arrival[bytes], severity: int, rng: np.random.Generator) -> bytes | None:
        """Return the message with wrong or missing bytes after its stamp."""
        return damaged_bytes(sent.payload, severity, rng, spare=HEADER_END)

    def _message(self, sent: Arrival[bytes]) -> Any:
        try:
            return typestore().deserialize_cdr(sent.payload, self._types[sent.topic])
        except (SerdeError, struct.error, ValueError, IndexError, KeyError, AssertionError, TypeError) as error:
            msg = f"{sent.topic}: the message cannot be decoded: {error}"
            raise DataError(f"{msg}; fix: leave its faults out") from error
