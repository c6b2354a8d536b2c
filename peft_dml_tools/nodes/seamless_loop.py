# SPDX-License-Identifier: Apache-2.0
"""A short drive repeated without a seam, for measurements that last longer than the drive."""

import itertools
from collections.abc import Iterator

from peft_dml_ros.conversions.cdr import NS_PER_S
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.rig import Rig
from peft_dml_tools.nodes.message_stamps import shifter
from peft_dml_tools.nodes.recordings import Playable, RecordedMessage


class SeamlessLoop:
    """A short drive held in memory and repeated without a seam, as a stream without end, cut to whole seconds.

    Raises DataError: it holds no message in its whole seconds.
    """

    def __init__(self, played: Playable) -> None:
        self._played = played
        self.channels, self.start_ns, self.end_ns = played.channels, played.start_ns, 2**62
        self._cycle_ns = max(1, (played.end_ns - played.start_ns) // NS_PER_S) * NS_PER_S
        self._messages = [m for m in played.messages() if m.time_ns < self.start_ns + self._cycle_ns]
        if not self._messages:
            raise DataError("the drive holds no message of any sensor; fix: take another")
        topics = {message.topic for message in self._messages}
        self._shifters = {topic: shifter(played.channels[topic].type_name) for topic in topics}

    @property
    def rig(self) -> Rig:
        """Sensors with their mounting."""
        return self._played.rig

    @property
    def damage(self) -> str:
        """What was found to be wrong with the drive."""
        return self._played.damage

    def latched(self) -> Iterator[RecordedMessage]:
        """Return messages of latched topics, once."""
        return self._played.latched()

    def messages(self, from_ns: int = 0) -> Iterator[RecordedMessage]:
        """Yield messages at or after a time without end, their stamps moved on from cycle to cycle."""
        for cycle in itertools.count():
            offset_ns = cycle * self._cycle_ns
            for message in self._messages:
                if message.time_ns + offset_ns >= from_ns:
                    cdr = self._shifters[message.topic](message.cdr, offset_ns)
                    yield RecordedMessage(message.time_ns + offset_ns, message.topic, cdr)
