# SPDX-License-Identifier: Apache-2.0
"""A source of measurements in bad weather or with faulty sensors; what a replay does to messages, done offline."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from peft_dml_ros.core.measurements import Measurement
from peft_dml_tools.measurement_source import Source, WrappedSource
from peft_dml_tools.sim import fault_effects
from peft_dml_tools.sim.fault_stream import Arrival, FaultStream
from peft_dml_tools.sim.faults import Fault, check_sensors


class FaultySource(WrappedSource):
    """A source whose sensors suffer a fault script; itself a source.

    Measurements come in the order of their arrival, which differs from that of their stamps where a fault delays some.
    """

    def __init__(self, source: Source, faults: Sequence[Fault]) -> None:
        """Wrap a source. Raises ConfigError: the script names a sensor that the source lacks.

        Times of the script count from the source's first measurement.
        """
        check_sensors(faults, source.rig)
        super().__init__(source)
        self._faults = tuple(faults)

    def measurements(self) -> Iterator[tuple[str, Measurement]]:
        """Return pairs of sensor name and measurement in order of arrival. Raises DataError: the source is damaged."""
        return ((name, measurement) for _, name, measurement in self.arrivals())

    def arrivals(self) -> Iterator[tuple[int, str, Measurement]]:
        """Return (time of arrival in ns, sensor name, measurement) in order of arrival, without faults the stamp.

        Raises DataError: the source is damaged.
        """
        stream = (Arrival(m.stamp_ns, name, name, m) for name, m in self._source.measurements())
        first = next(stream, None)
        if first is None:
            return
        faulty = FaultStream(_PlainCarrier(), fault_effects.FaultEffects(lambda: self.rig), first.time_ns, self._faults)
        for sent in faulty(_again(first, stream)):
            yield sent.time_ns, sent.sensor, sent.payload


class _PlainCarrier:
    """Measurements that travel as they are."""

    def stamp_ns(self, payload: Measurement) -> int:
        return payload.stamp_ns

    def restamped(self, payload: Measurement, stamp_ns: int) -> Measurement:
        return replace(payload, stamp_ns=stamp_ns)

    def measurement(self, sent: Arrival[Measurement]) -> Measurement | None:
        return sent.payload

    def packed(self, sent: Arrival[Measurement], measurement: Measurement) -> Measurement:  # noqa: ARG002
        return measurement

    def damaged(self, sent: Arrival[Measurement], severity: int, rng: np.random.Generator) -> Measurement | None:
        return fault_effects.damaged(sent.payload, severity, rng)


def _again(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest
