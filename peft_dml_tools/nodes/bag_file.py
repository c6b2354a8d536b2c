# SPDX-License-Identifier: Apache-2.0
"""A bag of serialised messages, as they come off the wire."""

from collections.abc import Sequence

from rclpy.duration import Duration
from rclpy.qos import QoSProfile
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.datasets.bags import BagFile, typestore
from peft_dml_tools.datasets.lean_mcap import LeanMcapWriter

RELEASED_EVERY = 16 << 20
#: After so many bytes, the newest ones are written out, and those that are on the disk leave the page cache: writing 40
#: MB/s takes .02 of a core instead of .05 to .07, and the system compacts no memory meanwhile
RELEASED = 64 << 20


class RawBagFile(BagFile):
    """A bag whose messages need no packing; `size` counts their bytes."""

    size = 0
    _newest_ns = 0
    _released = 0

    def add_topic(self, topic: str, type_name: str, offered: Sequence[QoSProfile]) -> Connection:
        """Open a channel. Raises ConfigError: the definition of the message type is not known.

        Args:
            topic: Absolute name.
            type_name: E.g. `sensor_msgs/msg/Imu`.
            offered: Profiles of its publishers, recorded for a later replay.
        """
        types = typestore()
        if type_name not in types.fielddefs:
            msg = f"the definition of message type '{type_name}' is not known here"
            raise ConfigError(f"{msg}; fix: install its package")
        profiles = [_recorded(qos) for qos in offered]
        return self._writer.add_connection(topic, type_name, typestore=types, offered_qos_profiles=profiles)

    def write_cdr(self, channel: Connection, time_ns: int, cdr: bytes) -> None:
        """Append one serialised message; one that was received before the last is given the last's time."""
        # A file that was cut off has no index, and without it only one that is in order can be read.
        self._newest_ns = max(self._newest_ns, time_ns)
        self._writer.write(channel, self._newest_ns, cdr)
        self.size += len(cdr)
        storage = self._writer.storage
        if self.size - self._released >= RELEASED_EVERY and isinstance(storage, LeanMcapWriter):
            self._released = self.size
            storage.release(RELEASED)


def _recorded(qos: QoSProfile) -> Qos:
    """Return an rclpy profile as rosbags writes it; discovery does not tell history and depth, they come out as 0."""
    return Qos(
        QosHistory(int(qos.history)),
        int(qos.depth),
        QosReliability(int(qos.reliability)),
        QosDurability(int(qos.durability)),
        _time(qos.deadline),
        _time(qos.lifespan),
        QosLiveliness(int(qos.liveliness)),
        _time(qos.liveliness_lease_duration),
        bool(qos.avoid_ros_namespace_conventions),
    )


def _time(duration: Duration) -> QosTime:
    seconds, nanoseconds = divmod(duration.nanoseconds, 1_000_000_000)
    return QosTime(seconds, nanoseconds)
