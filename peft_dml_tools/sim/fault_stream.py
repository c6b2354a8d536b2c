# SPDX-License-Identifier: Apache-2.0
"""Acts a fault script out on a stream: of messages on their way to the wire, or of measurements on their way to a run.

What is left to chance depends on seed, kind of fault, sensor and stamp alone, so that two runs, and a replay and an
offline run, fail alike.
"""

import heapq
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import Measurement
from peft_dml_tools.sim.fault_effects import FaultEffects
from peft_dml_tools.sim.faults import KINDS, Fault, FaultKind, active

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Arrival(Generic[T]):
    """Something that arrives."""

    time_ns: int  #: When
    topic: str  #: On which channel; a sensor may have several
    sensor: str  #: Whose; empty for what no fault concerns
    payload: T  #: What


class Carrier(Protocol[T]):
    """How measurements travel: as serialised messages, or as they are."""

    def stamp_ns(self, payload: T) -> int:
        """Return the stamp of the measurement."""

    def restamped(self, payload: T, stamp_ns: int) -> T:
        """Return the same content under another stamp."""

    def measurement(self, sent: Arrival[T]) -> Measurement | None:
        """Return what it carries; `None` for calibration and the like. Raises DataError: it cannot be decoded."""

    def packed(self, sent: Arrival[T], measurement: Measurement) -> T:
        """Return a changed measurement in the place of the one it carried."""

    def damaged(self, sent: Arrival[T], severity: int, rng: np.random.Generator) -> T | None:
        """Return what is left when bytes are damaged on the way; `None` when nothing is."""


class FaultStream(Generic[T]):
    """Passes a stream on as a vehicle with faulty sensors would have sent it."""

    def __init__(self, carrier: Carrier[T], effects: FaultEffects, start_ns: int, faults: Sequence[Fault] = ()) -> None:
        """Start a drive."""
        self.faults = tuple(faults)
        self._carrier, self._effects, self._start_ns = carrier, effects, start_ns

    def __call__(self, stream: Iterable[Arrival[T]]) -> Iterator[Arrival[T]]:
        """Return what arrives of a stream, both in order of time."""
        frozen: dict[str, T] = {}
        held: dict[str, list[Arrival[T]]] = {}
        late: list[tuple[int, int, Arrival[T]]] = []
        last_ns = 0
        for order, sent in enumerate(stream):
            last_ns = sent.time_ns
            while late and late[0][0] <= sent.time_ns:
                yield heapq.heappop(late)[2]
            if not (self.faults or frozen or held):
                yield sent
                continue
            faults = active(self.faults, sent.sensor, (sent.time_ns - self._start_ns) / 1e9) if sent.sensor else []
            self._observe(sent)
            if not any(fault.fault == "freeze" for fault in faults):
                frozen.pop(sent.topic, None)
            arriving = self._arriving(sent, faults, frozen) if faults else [sent]
            if arriving and sent.topic not in held and self._struck("reorder", faults, sent):
                held[sent.topic] = arriving
                continue
            overtaken = (replace(out, time_ns=max(out.time_ns, sent.time_ns)) for out in held.pop(sent.topic, ()))
            for out in (*arriving, *overtaken):
                if out.time_ns > sent.time_ns:
                    heapq.heappush(late, (out.time_ns, order, out))
                else:
                    yield out
        rest = [entry[2] for entry in sorted(late, key=lambda e: e[:2])]
        rest += [replace(out, time_ns=max(out.time_ns, last_ns)) for waiting in held.values() for out in waiting]
        yield from sorted(rest, key=lambda out: out.time_ns)

    def _arriving(self, sent: Arrival[T], faults: Sequence[Fault], frozen: dict[str, T]) -> list[Arrival[T]]:
        """Return what becomes of one message: nothing, itself, changed or late, or two of it."""
        if self._struck("silence", faults, sent) or self._struck("drop", faults, sent):
            return []
        stamp_ns = self._carrier.stamp_ns(sent.payload)
        freezes = self._struck("freeze", faults, sent)
        payload: T | None
        if freezes and sent.topic in frozen:
            payload = self._carrier.restamped(frozen[sent.topic], stamp_ns)
        else:
            payload = self._content(sent, faults)
        if payload is None:
            return []
        if freezes:
            frozen.setdefault(sent.topic, payload)
        if skew := self._struck("skew", faults, sent):
            payload = self._carrier.restamped(payload, stamp_ns + int(sum(f.offset_s for f in skew) * 1e9))
        delay_s = sum(f.delay_s for f in self._struck("delay", faults, sent))
        delay_s += sum(f.delay_s * self._rng(f, sent).random() for f in self._struck("jitter", faults, sent))
        out = replace(sent, time_ns=sent.time_ns + int(delay_s * 1e9), payload=payload)
        return [out, out] if self._struck("duplicate", faults, sent) else [out]

    def _content(self, sent: Arrival[T], faults: Sequence[Fault]) -> T | None:
        """Return the payload in weather, corrupted and damaged; what cannot be decoded passes as it is."""
        kinds: tuple[FaultKind, ...] = ("weather", "corrupt", "blackout")
        struck = [fault for kind in kinds for fault in self._struck(kind, faults, sent)]
        changes = [fault for fault in struck if not fault.damages_bytes]
        measurement = self._opened(sent) if changes else None
        payload: T | None = sent.payload
        if measurement is not None:
            try:
                for fault in changes:
                    measurement = self._effects(fault, sent.sensor, measurement)
                payload = self._carrier.packed(sent, measurement)
            except DataError:
                payload = sent.payload
        for fault in struck:
            if fault.damages_bytes and payload is not None:
                payload = self._carrier.damaged(replace(sent, payload=payload), fault.severity, self._rng(fault, sent))
        return payload

    def _observe(self, sent: Arrival[T]) -> None:
        """Keep the clear sweep for the depth of pictures, when there is a weather anywhere in the script."""
        if not sent.sensor.startswith("LIDAR") or not any(fault.fault == "weather" for fault in self.faults):
            return
        measurement = self._opened(sent)
        if measurement is not None:
            self._effects.observe(sent.sensor, measurement)

    def _opened(self, sent: Arrival[T]) -> Measurement | None:
        try:
            return self._carrier.measurement(sent)
        except DataError:
            return None

    def _struck(self, kind: FaultKind, faults: Sequence[Fault], sent: Arrival[T]) -> list[Fault]:
        """Return the active faults of a kind that hit one message."""
        return [f for f in faults if f.fault == kind and (f.share >= 1 or self._rng(f, sent).random() < f.share)]

    def _rng(self, fault: Fault, sent: Arrival[T]) -> np.random.Generator:
        words = [fault.seed, KINDS.index(fault.fault), zlib.crc32(sent.sensor.encode())]
        return np.random.default_rng([*words, self._carrier.stamp_ns(sent.payload)])
