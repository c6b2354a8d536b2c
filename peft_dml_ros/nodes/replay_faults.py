# SPDX-License-Identifier: Apache-2.0
"""Scripted sensor faults on serialised messages, as a replay applies them on the way to the wire."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.datasets.topics import sensor_of
from peft_dml_ros.nodes.recordings import Recorded
from peft_dml_ros.nodes.stamps import HEADER_END
from peft_dml_ros.sim.faults import Fault, apply


def sensors_by_topic(topics: Iterable[str]) -> dict[str, str]:
    """Sensor name of every topic that belongs to one; a camera's calibration falls silent with its images."""
    found = {}
    for topic in topics:
        try:
            found[topic] = sensor_of(topic)
        except ConfigError:  # noqa: PERF203  the topics of a bag are few
            continue
    return found


def check_sensors(faults: Sequence[Fault], sensors: Iterable[str]) -> None:
    """Refuse a script that names a sensor the recording does not hold.

    Raises:
        ConfigError: with all such names.
    """
    known = {*sensors, *MODALITIES}
    wrong = [f"'{f.sensor}': {nearest(f.sensor, known)}" for f in faults if f.sensor not in known]
    if wrong:
        raise ConfigError(f"the fault script names sensors that the recording lacks: {'; '.join(wrong)}")


def with_faults(
    messages: Iterator[Recorded], faults: Sequence[Fault], sensors: dict[str, str], start_ns: int
) -> Iterator[Recorded]:
    """The same recording as a vehicle with faulty sensors would have sent it, in time order.

    Args:
        messages: In time order.
        faults: The script; its times count from `start_ns`.
        sensors: Sensor name by topic; other topics have no faults.
        start_ns: Begin of the recording.
    """
    frozen: dict[str, bytes] = {}
    late: list[tuple[int, int, Recorded]] = []
    for order, message in enumerate(messages):
        while late and late[0][0] <= message.time_ns:
            yield heapq.heappop(late)[2]
        sensor = sensors.get(message.topic)
        fault = apply(faults, sensor, (message.time_ns - start_ns) / 1e9) if sensor else None
        if fault is None:
            frozen.pop(message.topic, None)
            yield message
        elif fault.fault == "freeze":
            payload = frozen.setdefault(message.topic, message.cdr)
            # Encapsulation and all that follows the stamp are the old message's.
            cdr = payload[:4] + message.cdr[4:HEADER_END] + payload[HEADER_END:]
            yield replace(message, cdr=cdr)
        elif fault.fault == "delay":
            due_ns = message.time_ns + int(fault.delay_s * 1e9)
            heapq.heappush(late, (due_ns, order, replace(message, time_ns=due_ns)))
    while late:
        yield heapq.heappop(late)[2]
