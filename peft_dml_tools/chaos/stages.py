# SPDX-License-Identifier: Apache-2.0
"""The stage of the cells: every fault with every sensor, driven once and judged; and what all stages share."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from peft_dml_tools.chaos.judge import FaultCell, Judge
from peft_dml_tools.chaos.plan import Phase
from peft_dml_tools.chaos.timetable import Timetable
from peft_dml_tools.evaluation.percentiles import percentiles
from peft_dml_tools.live.accounting import frame_account, messages_unaccounted
from peft_dml_tools.live.children import Child
from peft_dml_tools.live.observed_drive import Circuit, Observation, ObservedDrive
from peft_dml_tools.live.session import Session, Tell

FAILED: Final = ": failed"  #: End of the reasons of drops that are errors inside the node


@dataclass(frozen=True, slots=True)
class ChaosRun:
    """What all stages share."""

    session: Session  #: Starts the processes
    drive: Path  #: Bag of the short drive
    tell: Tell  #: Called with words on what goes on

    def errors(self) -> list[str]:
        """Return what the perception nodes have logged so far as an error, or as a failure inside, each once."""
        found: dict[str, None] = {}
        for path in sorted(self.session.scratch.glob("*.log")):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                said = line.partition("[perception]: ")[2]
                if said and (line.startswith(("[ERROR]", "[FATAL]")) or f"{FAILED} (" in said):
                    found[re.sub(r" \(\d+ so far\)", "", said)[:200]] = None
        return list(found)

    def drive_past(self, node: Child, circuit: Circuit, name: str, what: str) -> Observation:
        """Drive a circuit past a node that runs, and return what was observed; the node may end meanwhile."""
        with ObservedDrive(self.session, circuit, name) as driven:
            driven.start(node)
            driven.finish(node, tick=lambda: self.tell(f"{what}: {driven.position_s:.0f} of {circuit.seconds:.0f} s"))
        return driven.observation()


def cells(run: ChaosRun, phases: Sequence[Phase]) -> dict[str, Any]:
    """Try every fault of the plan, and judge what the node made of it."""
    load = os.getloadavg()[0]
    circuit = Circuit(run.drive, phases[-1].until_s, tuple(fault for phase in phases for fault in phase.faults))
    with run.session.node() as node:
        seen = run.drive_past(node, circuit, "cells", "faults")
        crashes = int(node.code is not None)
    judge = Judge(seen, Timetable(run.drive))
    judged = judge(phases)
    found = figures(seen, judged)
    return found | {
        "words": f"{found['cells'] - found['cells_failed']} of {found['cells']} cells hold",
        "crashes": crashes,
        "frame_interval_calm_s": round(judge.calm_interval_s, 3),
        "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
        "cells_detail": [cell.tree() for cell in judged],
    }


def figures(seen: Observation, judged: Sequence[FaultCell]) -> dict[str, Any]:
    """Return the figures of one drive."""
    recoveries = [c.after_s for c in judged if c.when == "recovery" and c.after_s is not None]
    accounts = seen.messages
    return {
        "cells": len(judged),
        "cells_failed": sum(bool(cell.problem) for cell in judged),
        "frames_unaccounted": frame_account(seen.frames)["unaccounted"],
        "messages_unaccounted": messages_unaccounted(accounts),
        "recovery_s_max": round(max(recoveries, default=0.0), 3),
        "frames": len(seen.frames),
        "messages_sent": sum(account.sent for account in accounts.values()),
        "messages_received": sum(account.received for account in accounts.values()),
        "messages_lost_in_transport": {n: a.lost_in_transport for n, a in accounts.items() if a.lost_in_transport},
        "drops": dict(sorted(seen.drops.items())),
        "errors_inside": {r: n for r, n in seen.drops.items() if r.endswith(FAILED)},
        "driver_late_max_ms": seen.late_max_ms,
        "work_ms": percentiles([f.work_ms for f in seen.frames if not f.says_blind]),
    }
