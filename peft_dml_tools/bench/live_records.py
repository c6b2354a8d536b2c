# SPDX-License-Identifier: Apache-2.0
"""What a live run noted: frames and counts by the driver, memory and processor time of the node by who started it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_ros.core.errors import DataError

ENGINES: Final = (*MODALITIES, "fusion")
"""Stages of a frame that are the engines' own."""

LOST_FRAMES: Final = "frame: "
NOT_MESSAGES: Final = ": points not finite"
"""A reason that counts something else than messages."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of the node; times in ms since its stamp, or of a stage.

    Attributes:
        stamp_ns: Time of the reference sensor's measurement.
        present: Modalities that were used.
        boxes: How many.
        latency_ms: Until the boxes were published, by the node.
        sent_late_ms: Until the driver published the measurement; None where it is not known.
        received_ms: Until the boxes arrived at a subscriber; None where they did not.
        stages_ms: By stage, as the node's status names them.
        triggered: Frames that were due until then.
        published: Frames whose boxes were published until then.
        drops: Counts by reason until then.
    """

    stamp_ns: int
    present: tuple[str, ...]
    boxes: int
    latency_ms: float
    sent_late_ms: float | None
    received_ms: float | None
    stages_ms: Mapping[str, float]
    triggered: int
    published: int
    drops: Mapping[str, int]

    @property
    def blind(self) -> bool:
        """Nothing that sees was there, and no engine ran."""
        return not set(self.present) & set(DETECTING)

    @property
    def engines_ms(self) -> float:
        """Sum of the engines' times."""
        return sum(self.stages_ms.get(stage, 0.0) for stage in ENGINES)

    @property
    def waiting(self) -> int:
        """Frames due that were neither published nor counted as dropped."""
        lost = sum(n for reason, n in self.drops.items() if reason.startswith(LOST_FRAMES))
        return self.triggered - self.published - lost


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the drive, by the host's clock."""

    name: str
    silent: tuple[str, ...]
    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The node's process at one time: processor seconds since its start, resident memory in units of 10^6 bytes."""

    at_ns: int
    cpu_s: float
    rss_mb: float


@dataclass(frozen=True, slots=True)
class LiveRecords:
    """All of a run.

    Attributes:
        transitions_s: Seconds by transition of the lifecycle.
        stretches: In order.
        frames: In order.
        sent: Messages by sensor.
        received: The same, at the node.
        admitted: Those that were usable.
        late_max_ms: The largest lateness of the driver.
        samples: In order.
        peak_mb: Largest resident memory of the node, as the kernel noted it; 0 where it did not.
        cpu_pct: Processor time of the node while driving by kind of thread, in percent of one core.
    """

    transitions_s: Mapping[str, float]
    stretches: tuple[Stretch, ...]
    frames: tuple[Frame, ...]
    sent: Mapping[str, int]
    received: Mapping[str, int]
    admitted: Mapping[str, int]
    late_max_ms: float
    samples: tuple[Sample, ...]
    peak_mb: float = 0.0
    cpu_pct: Mapping[str, float] = field(default_factory=dict)


def read_records(path: Path, samples: Sequence[Sample]) -> LiveRecords:
    """The records in a driver's file, and what was sampled beside it.

    Raises:
        DataError: the drive did not come to its end.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    last = {row["kind"]: row for row in rows}
    if missing := {"start", "books", "end"} - last.keys():
        raise DataError(f"{path} lacks {', '.join(sorted(missing))}: the drive did not come to its end")
    return LiveRecords(
        transitions_s={row["name"]: row["seconds"] for row in rows if row["kind"] == "transition"},
        stretches=tuple(_stretch(row) for row in rows if row["kind"] == "stretch"),
        frames=tuple(_frame(row) for row in rows if row["kind"] == "frame"),
        sent=last["end"]["sent"],
        received=last["books"]["received"],
        admitted=last["books"]["admitted"],
        late_max_ms=last["end"]["late_max_ms"],
        samples=tuple(samples),
    )


def _stretch(row: Mapping[str, Any]) -> Stretch:
    return Stretch(row["name"], tuple(row["silent"]), row["from_ns"], row["to_ns"])


def _frame(row: Mapping[str, Any]) -> Frame:
    return Frame(
        stamp_ns=row["stamp_ns"],
        present=tuple(row["present"]),
        boxes=row["boxes"],
        latency_ms=row["latency_ms"],
        sent_late_ms=row["sent_late_ms"],
        received_ms=row["received_ms"],
        stages_ms=row["stages_ms"],
        triggered=row["triggered"],
        published=row["published"],
        drops=row["drops"],
    )
