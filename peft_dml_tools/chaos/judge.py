# SPDX-License-Identifier: Apache-2.0
"""Judges how the node took the faults, from what was sent and what its statuses say."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

from peft_dml_ros.core.health import State
from peft_dml_tools.chaos.expectations import TOLERANCE_S, VARIANTS, kind_of, max_age_s, period_s
from peft_dml_tools.chaos.plan import BEGIN_S, Phase
from peft_dml_tools.chaos.timetable import Timetable
from peft_dml_tools.live.frame_status import FrameStatus
from peft_dml_tools.live.observed_drive import Observation

RECOVERY_S: Final = 1.0
#: The last message that a fault hits may be on its way for so long after its end; frames tell of it after that
ARRIVAL_S: Final = 0.05
#: Longest time without a frame at work: the deadline of a silent LiDAR twice over, a period, and some for the rest
GAP_S: Final = 0.5
SLOW_S: Final = 2.0  #: A frame that takes longer stops the boxes, however busy the machine is
SHUT_OUT: Final = {s.value for s in (State.FROZEN, State.DEGRADED, State.CLOCK, State.UNCALIBRATED)}


@dataclass(frozen=True, slots=True)
class FaultCell:
    """One fault of one sensor at its onset or at its end."""

    fault: str  #: Name of the fault
    sensor: str  #: Name, or the modalities that fell silent
    when: str  #: `onset` or `recovery`
    #: Time until the state was as expected; `None` when no change is called for, or it never came
    after_s: float | None
    limit_s: float | None  #: The most that it may be
    problem: str = ""  #: Why the cell failed; empty when it did not

    def tree(self) -> dict[str, Any]:
        """Return what the file of results holds."""
        found = asdict(self)
        for key in ("after_s", "limit_s"):
            found[key] = None if found[key] is None else round(found[key], 3)
        return found


class Judge:
    """Judges the phases of one drive."""

    def __init__(self, seen: Observation, timetable: Timetable) -> None:
        self._seen, self._timetable = seen, timetable
        calm = seen.during(BEGIN_S - 2.0, BEGIN_S)
        self.calm_interval_s = max(((b.at_ns - a.at_ns) * 1e-9 for a, b in pairwise(calm)), default=float("inf"))

    def __call__(self, phases: Iterable[Phase]) -> list[FaultCell]:
        """Return two cells for each fault of each sensor, and for each combination."""
        return [cell for phase in phases for cell in self._phase(phase)]

    def _phase(self, phase: Phase) -> list[FaultCell]:
        cells = []
        for sensor, name in phase.variants.items():
            cells += [self._onset(phase, sensor, name), self._recovery(phase, name, sensor, [sensor])]
        if phase.silent:
            label = " + ".join(phase.silent)
            sensors = [s for s in self._timetable.sensors if kind_of(s) in phase.silent]
            cells += [self._combination(phase, label), self._recovery(phase, "silence", label, sensors)]
        return cells

    def _onset(self, phase: Phase, sensor: str, name: str) -> FaultCell:
        variant = VARIANTS[name]
        wanted, limit_s = variant.wanted(sensor), variant.limit_s(sensor)
        frames = self._seen.during(phase.from_s, phase.to_s)
        problem = self._boxes_stop(phase)
        due_ns = self._timetable.first_due_ns(sensor, phase.from_s)
        if due_ns is None:
            return FaultCell(name, sensor, "onset", None, None, "the vehicle sends nothing of this sensor")
        struck_ns = self._seen.start_ns + due_ns
        if not wanted:
            return FaultCell(name, sensor, "onset", None, None, problem)
        after = [f for f in frames if f.at_ns >= struck_ns]
        first = next((f for f in after if f.state(sensor) in wanted), None)
        after_s = None if first is None else (first.at_ns - struck_ns) * 1e-9
        # States arrive with frames: what counts is that no later frame has another one.
        late = [f for f in after if f.at_ns > struck_ns + limit_s * 1e9 and (first is None or f.at_ns < first.at_ns)]
        if late:
            found = late[0].state(sensor)
            problem = (
                problem
                or f"{found} after {(late[0].at_ns - struck_ns) * 1e-9:.2f} s, not {' or '.join(sorted(wanted))}"
            )
        elif first is None:
            problem = problem or f"no frame had {' or '.join(sorted(wanted))}"
        return FaultCell(name, sensor, "onset", after_s, limit_s, problem)

    def _combination(self, phase: Phase, label: str) -> FaultCell:
        frames = self._seen.during(phase.from_s, phase.to_s)
        living = {"lidar", "camera", "radar"} - set(phase.silent)
        if living:
            return FaultCell("silence", label, "onset", None, None, self._boxes_stop(phase))
        ages_s = (max_age_s(s) + period_s(s) for s in self._timetable.sensors if kind_of(s) in phase.silent)
        limit_s = max(ages_s, default=0.0) + 4 * TOLERANCE_S
        blind = [f for f in frames if f.says_blind]
        if not blind:
            return FaultCell("silence", label, "onset", None, limit_s, "the node does not say that it is blind")
        after_s = (blind[0].at_ns - self._seen.start_ns) * 1e-9 - phase.from_s
        invented = sum(f.boxes for f in blind)
        problem = f"{invented} boxes while blind" if invented else "" if after_s <= limit_s else "blind too late"
        return FaultCell("silence", label, "onset", after_s, limit_s, problem)

    def _recovery(self, phase: Phase, name: str, label: str, sensors: Sequence[str]) -> FaultCell:
        frames = self._seen.during(phase.to_s + ARRIVAL_S, phase.until_s)
        end_ns = self._seen.start_ns + int(phase.to_s * 1e9)
        good = next((f for f in frames if all(f.state(s) == "OK" for s in sensors)), None)
        if good is None:
            found = {f.state(s) for f in frames for s in sensors} - {"OK"}
            return FaultCell(name, label, "recovery", None, RECOVERY_S, f"not OK again, but {', '.join(sorted(found))}")
        after_s = (good.at_ns - end_ns) * 1e-9
        problem = "" if after_s <= RECOVERY_S else "too late"
        back = [f for f in frames if f.at_ns > good.at_ns and any(f.state(s) in SHUT_OUT for s in sensors)]
        if back:
            problem = problem or f"shut out again {(back[0].at_ns - end_ns) * 1e-9:.2f} s after the end"
        return FaultCell(
            name,
            label,
            "recovery",
            after_s,
            RECOVERY_S,
            problem or _blind([f for f in frames if f is good or f.at_ns > good.at_ns]),
        )

    def _boxes_stop(self, phase: Phase) -> str:
        """Return why boxes did not go on during the faults of a phase; empty when they did."""
        frames = self._seen.during(phase.from_s, phase.to_s)
        if blind := _blind(frames):
            return blind
        gap_s = _longest_gap(self._seen.during(phase.from_s - 0.5, phase.to_s + 0.5))
        slow_ms = max((f.work_ms for f in frames), default=0.0)
        if slow_ms > SLOW_S * 1e3:
            return f"a frame took {slow_ms:.0f} ms"
        return f"no frame for {gap_s:.2f} s" if gap_s > GAP_S else ""


def _blind(frames: Sequence[FrameStatus]) -> str:
    blind = sum(f.says_blind or not f.sees for f in frames)
    return f"{blind} of {len(frames)} frames without any sensor that sees" if blind > 0 else ""


def _longest_gap(frames: Sequence[FrameStatus]) -> float:
    """Return the longest time without work on a frame: that a busy machine is slow is no fault of the sensors'."""
    idle = [(b.at_ns - a.at_ns) * 1e-9 - a.work_ms * 1e-3 for a, b in pairwise(frames)]
    return max(idle) if idle else float("inf")
