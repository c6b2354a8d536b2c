# SPDX-License-Identifier: Apache-2.0
"""Judges what the node made of the faults, from the records of the driver alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from peft_dml_ros.core.health import State
from peft_dml_tools.chaos.expectations import TOLERANCE_S, VARIANTS, kind_of, max_age_s, period_s
from peft_dml_tools.chaos.plan import BEGIN_S, Phase

RECOVERY_S: Final = 1.0
ARRIVAL_S: Final = 0.05
"""The last message that a fault hits may be on its way for so long after its end; frames tell of it after that."""
GAP_S: Final = 0.5
"""Longest time without a frame at work: the deadline of a silent LiDAR twice over, a period, and some for the rest."""
SLOW_S: Final = 2.0
"""A frame that takes longer stops the boxes, however busy the machine is."""

SHUT_OUT: Final = {s.value for s in (State.FROZEN, State.DEGRADED, State.CLOCK, State.UNCALIBRATED)}
NOT_MESSAGES: Final = ": points not finite"
"""A reason that counts something else than messages."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One status of the node.

    Attributes:
        at_ns: When the frame was made, by the node's clock.
        blind: It says that nothing sees.
        sees: Modalities among LiDAR, camera and radar that it used.
        boxes: Boxes published.
        waiting: Frames made, less those published and those dropped by reason.
        work_ms: From there to the publication.
        states: State by sensor, of those that are not OK.
    """

    at_ns: int
    blind: bool
    sees: tuple[str, ...]
    boxes: int
    waiting: int
    work_ms: float
    states: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """Records of one drive.

    Attributes:
        start_ns: Begin of the drive by the clock of this host.
        silent_ns: Its end.
        frames: In order.
        struck_ns: Time of the first message that a phase hits, by begin of the phase and sensor.
        sent: Messages by sensor.
        received: Messages received and admitted, by sensor.
        drops: By reason.
        late_max_ms: The largest lateness of the driver.
    """

    start_ns: int
    silent_ns: int
    frames: tuple[Frame, ...]
    struck_ns: Mapping[tuple[float, str], int]
    sent: Mapping[str, int]
    received: Mapping[str, tuple[int, int]]
    drops: Mapping[str, int]
    late_max_ms: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault of one sensor at its onset or at its end.

    Attributes:
        fault: Name of the fault.
        sensor: Name, or the modalities that fell silent.
        when: `onset` or `recovery`.
        after_s: Time until the state was as expected; `None` when no change is called for, or it never came.
        limit_s: The most that it may be.
        problem: Why the cell failed; empty when it did not.
    """

    fault: str
    sensor: str
    when: str
    after_s: float | None
    limit_s: float | None
    problem: str = ""

    def tree(self) -> dict[str, Any]:
        """For the file of results."""
        found = asdict(self)
        for key in ("after_s", "limit_s"):
            found[key] = None if found[key] is None else round(found[key], 3)
        return found


def read(path: Path) -> Seen:
    """The records in a file; a last line that was cut off is left out."""
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            rows.append(json.loads(line))
    books = [row for row in rows if row["kind"] == "books"]
    last: dict[str, Any] = books[-1] if books else {"sensors": {}, "drops": {}}
    at = {row["kind"]: row for row in rows if row["kind"] in {"start", "silent", "end"}}
    end = at.get("end", {})
    return Seen(
        start_ns=at.get("start", {"at_ns": 0})["at_ns"],
        silent_ns=at.get("silent", {"at_ns": 2**62})["at_ns"],
        frames=tuple(_frame(row) for row in rows if row["kind"] == "frame"),
        struck_ns={(row["from_s"], row["sensor"]): row["at_ns"] for row in rows if row["kind"] == "struck"},
        sent=end.get("sent", {}),
        received={name: (pair[0], pair[1]) for name, pair in last["sensors"].items()},
        drops=last["drops"],
        late_max_ms=end.get("late_max_ms", 0.0),
    )


def _frame(row: Mapping[str, Any]) -> Frame:
    waiting = row["triggered"] - row["published"] - row["lost"]
    return Frame(row["at_ns"], row["blind"], tuple(row["sees"]), row["boxes"], waiting, row["work_ms"], row["states"])


def frames_unaccounted(seen: Seen) -> int:
    """Frames made that were neither published nor counted as dropped: all that still waits once nothing is sent."""
    quiet = [abs(frame.waiting) for frame in seen.frames if frame.at_ns > seen.silent_ns + 500_000_000]
    # A frame may wait in the slot while another one's status is written; a lost one is missing ever after.
    return min(quiet, default=1)


def messages_unaccounted(seen: Seen) -> dict[str, int]:
    """Per sensor, messages received that were neither admitted nor refused by reason; none but those are told."""
    left = {}
    for name, (received, admitted) in seen.received.items():
        refused = sum(n for r, n in seen.drops.items() if r.startswith(f"{name}: ") and not r.endswith(NOT_MESSAGES))
        left[name] = received - admitted - refused
    return {name: n for name, n in left.items() if n}


class Judge:
    """Judges the phases of one drive.

    Args:
        seen: Its records.
    """

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        calm = self._between(BEGIN_S - 2.0, BEGIN_S)
        self.calm_interval_s = longest_interval_s(calm)

    def __call__(self, phases: Iterable[Phase]) -> list[Cell]:
        """Two cells for each fault of each sensor, and for each combination."""
        return [cell for phase in phases for cell in self._phase(phase)]

    def _phase(self, phase: Phase) -> list[Cell]:
        cells = []
        for sensor, name in phase.variants.items():
            cells += [self._onset(phase, sensor, name), self._recovery(phase, name, sensor, [sensor])]
        if phase.silent:
            label = " + ".join(phase.silent)
            sensors = [s for s in self._seen.sent if kind_of(s) in phase.silent]
            cells += [self._combination(phase, label), self._recovery(phase, "silence", label, sensors)]
        return cells

    def _between(self, from_s: float, to_s: float) -> list[Frame]:
        low, high = (self._seen.start_ns + int(s * 1e9) for s in (from_s, to_s))
        return [frame for frame in self._seen.frames if low <= frame.at_ns < high]

    def _onset(self, phase: Phase, sensor: str, name: str) -> Cell:
        variant = VARIANTS[name]
        wanted, limit_s = variant.wanted(sensor), variant.limit_s(sensor)
        frames = self._between(phase.from_s, phase.to_s)
        problem = self._boxes_stop(phase)
        struck_ns = self._seen.struck_ns.get((phase.from_s, sensor))
        if struck_ns is None:
            return Cell(name, sensor, "onset", None, None, "the driver sent nothing of this sensor")
        if not wanted:
            return Cell(name, sensor, "onset", None, None, problem)
        after = [f for f in frames if f.at_ns >= struck_ns]
        first = next((f for f in after if f.states.get(sensor, "OK") in wanted), None)
        after_s = None if first is None else (first.at_ns - struck_ns) * 1e-9
        # States are told with frames: what counts is that no later frame tells another one.
        late = [f for f in after if f.at_ns > struck_ns + limit_s * 1e9 and (first is None or f.at_ns < first.at_ns)]
        if late:
            told = late[0].states.get(sensor, "OK")
            problem = (
                problem or f"{told} after {(late[0].at_ns - struck_ns) * 1e-9:.2f} s, not {' or '.join(sorted(wanted))}"
            )
        elif first is None:
            problem = problem or f"no frame told {' or '.join(sorted(wanted))}"
        return Cell(name, sensor, "onset", after_s, limit_s, problem)

    def _combination(self, phase: Phase, label: str) -> Cell:
        frames = self._between(phase.from_s, phase.to_s)
        living = {"lidar", "camera", "radar"} - set(phase.silent)
        if living:
            return Cell("silence", label, "onset", None, None, self._boxes_stop(phase))
        ages_s = (max_age_s(s) + period_s(s) for s in self._seen.sent if kind_of(s) in phase.silent)
        limit_s = max(ages_s, default=0.0) + 4 * TOLERANCE_S
        blind = [f for f in frames if f.blind]
        if not blind:
            return Cell("silence", label, "onset", None, limit_s, "the node does not say that it is blind")
        after_s = (blind[0].at_ns - self._seen.start_ns) * 1e-9 - phase.from_s
        invented = sum(f.boxes for f in blind)
        problem = f"{invented} boxes while blind" if invented else "" if after_s <= limit_s else "blind too late"
        return Cell("silence", label, "onset", after_s, limit_s, problem)

    def _recovery(self, phase: Phase, name: str, label: str, sensors: Sequence[str]) -> Cell:
        frames = self._between(phase.to_s + ARRIVAL_S, phase.until_s)
        end_ns = self._seen.start_ns + int(phase.to_s * 1e9)
        good = next((f for f in frames if all(f.states.get(s, "OK") == "OK" for s in sensors)), None)
        if good is None:
            told = {f.states[s] for f in frames for s in sensors if s in f.states}
            return Cell(name, label, "recovery", None, RECOVERY_S, f"not OK again, but {', '.join(sorted(told))}")
        after_s = (good.at_ns - end_ns) * 1e-9
        problem = "" if after_s <= RECOVERY_S else "too late"
        back = [f for f in frames if f.at_ns > good.at_ns and any(f.states.get(s) in SHUT_OUT for s in sensors)]
        if back:
            problem = problem or f"shut out again {(back[0].at_ns - end_ns) * 1e-9:.2f} s after the end"
        return Cell(
            name,
            label,
            "recovery",
            after_s,
            RECOVERY_S,
            problem or _blind([f for f in frames if f is good or f.at_ns > good.at_ns]),
        )

    def _boxes_stop(self, phase: Phase) -> str:
        """Why boxes did not go on during the faults of a phase; empty when they did."""
        frames = self._between(phase.from_s, phase.to_s)
        if blind := _blind(frames):
            return blind
        gap_s = _longest_gap(self._between(phase.from_s - 0.5, phase.to_s + 0.5))
        slow_ms = max((f.work_ms for f in frames), default=0.0)
        if slow_ms > SLOW_S * 1e3:
            return f"a frame took {slow_ms:.0f} ms"
        return f"no frame for {gap_s:.2f} s" if gap_s > GAP_S else ""


def _blind(frames: Sequence[Frame]) -> str:
    blind = sum(f.blind or not f.sees for f in frames)
    return f"{blind} of {len(frames)} frames without any sensor that sees" if blind > 0 else ""


def _longest_gap(frames: Sequence[Frame]) -> float:
    """Longest time in which no frame was worked on: that a busy machine works slowly is no fault of the sensors'."""
    idle = [(b.at_ns - a.at_ns) * 1e-9 - a.work_ms * 1e-3 for a, b in pairwise(frames)]
    return max(idle) if idle else float("inf")


def longest_interval_s(frames: Sequence[Frame]) -> float:
    """Longest time between two frames."""
    return max(((b.at_ns - a.at_ns) * 1e-9 for a, b in pairwise(frames)), default=float("inf"))
