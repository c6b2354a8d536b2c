# SPDX-License-Identifier: Apache-2.0
"""Compares two builds or two bundles: the demo's drive is played with each in turn, watched from outside."""

import math
import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from peft_dml_ros.core.bundle import MANIFEST, load_bundle
from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.bench.background_load import busy_core
from peft_dml_tools.bench.demo_session import LIMIT_S, DemoSession, demo_figures
from peft_dml_tools.bench.live import Report
from peft_dml_tools.bench.machine import commit, machine
from peft_dml_tools.evaluation.student_interval import student_interval
from peft_dml_tools.live.session import Tell
from peft_dml_tools.live.short_drive import simulate_short_drive

SEED: Final = 3
OTHER, THIS = "other", "this"
RATIOS: Final = ("frames", "p50_ms", "p95_ms", "node_cpu_s_per_frame", "recorder_replay_cores")
#: Figures that are subtracted: a ratio of accuracies depends on how hard the drive is
DIFFERENCES: Final = ("map_full",)
ALONE, TAKEN = "alone", "one core taken"
LOADS: Final[Mapping[str, bool]] = {ALONE: False, TAKEN: True}


@dataclass(frozen=True, slots=True)
class ComparisonPlan:
    """How much is played."""

    pairs: int = 3  #: Sessions of each side for each load
    seconds: float = 12.0  #: Length of the drive
    #: Name -> whether another process computes without end
    loads: Mapping[str, bool] = field(default_factory=lambda: LOADS)


SHORT: Final = ComparisonPlan(seconds=3.0, loads={ALONE: False})


@dataclass(frozen=True, slots=True)
class Build:
    """One build that is compared with another."""

    code: Path  #: Checkout that runs
    bundle: str  #: Folder or name of its model; a name is looked up in that checkout

    @property
    def about(self) -> dict[str, str | None]:
        """Commit and bundle, for the report."""
        return {"commit": commit(self.code), "bundle": self.bundle}


def sides(against: Path, repository: Path, bundle: str) -> dict[str, Build]:
    """Return both sides, the other one first.

    Raises ConfigError: it is neither; BundleError: it is a bundle that this build cannot load.

    Args:
        against: A checkout, or the folder of a bundle that this build runs.
        repository: This checkout.
        bundle: Folder or name of this side's bundle, and of the other's where only the code differs.
    """
    here = against.expanduser().resolve()
    named = str(Path(bundle).expanduser().resolve()) if Path(bundle).expanduser().is_dir() else bundle
    if (here / MANIFEST).is_file():
        load_bundle(here)
        return {OTHER: Build(repository, str(here)), THIS: Build(repository, named)}
    if not (here / "peft_dml_ros" / "cli" / "main.py").is_file():
        raise ConfigError(
            f"--against {against}: neither a checkout of this software nor a bundle (a folder with {MANIFEST}); "
            "fix: name one, e.g. made by: git worktree add ../before COMMIT"
        )
    return {OTHER: Build(here, named), THIS: Build(repository, named)}


def compare_builds(
    both: dict[str, Build], plan: ComparisonPlan, domain_id: int, scratch: Path, tell: Tell, drive: Path | None = None
) -> Report:
    """Play the sessions, the sides in turn and each first in every second pair.

    Raises DataError: a session failed; with its last lines.
    """
    tell("simulating a drive")
    drive = drive or simulate_short_drive(scratch / "drive.mcap", plan.seconds, SEED)
    loads: dict[str, Report] = {}
    for load, busy in plan.loads.items():
        found: dict[str, list[Report]] = {name: [] for name in both}
        for number in range(plan.pairs):
            for name in (OTHER, THIS) if number % 2 == 0 else (THIS, OTHER):
                tell(f"{load}: pair {number + 1} of {plan.pairs}, {name} side")
                out = scratch / f"{name}-{number}"
                session = DemoSession(both[name].code, both[name].bundle, drive, plan.seconds, domain_id, out)
                with ExitStack() as stack:
                    if busy:
                        stack.enter_context(busy_core(LIMIT_S))
                    found[name].append(demo_figures(session))
        loads[load] = compared(found)
    about = {name: side.about for name, side in both.items()}
    return {
        "machine": machine(),
        "sides": about,
        "pairs": plan.pairs,
        "seconds": plan.seconds,
        "loads": loads,
        "summary": demo_figures_of(loads),
    }


def compared(sessions: Mapping[str, Sequence[Report]]) -> Report:
    """Return each figure of both sides with its change, and the sessions."""
    pairs = list(zip(sessions[OTHER], sessions[THIS], strict=True))
    figures = {
        key: {
            OTHER: _median([before[key] for before, _ in pairs]),
            THIS: _median([now[key] for _, now in pairs]),
            **change([(before[key], now[key]) for before, now in pairs], ratio=key in RATIOS),
        }
        for key in (*RATIOS, *DIFFERENCES)
    }
    return {"figures": figures, "sessions": {name: list(each) for name, each in sessions.items()}}


def change(pairs: Sequence[tuple[float | None, float | None]], *, ratio: bool) -> Report:
    """Return the change from the first to the second of each pair, with Student's 95 % interval.

    Args:
        pairs: Figures; pairs in which one was not measured, or a ratio has no meaning, are left out.
        ratio: Whether ratios are compared, by their geometric mean, or differences.

    Returns:
        `ratio` or `difference`, `low`, `high` (None where one pair alone says nothing) and `pairs` that counted.
    """
    known = [(a, b) for a, b in pairs if a is not None and b is not None and (not ratio or (a > 0 and b > 0))]
    kind = "ratio" if ratio else "difference"
    if not known:
        return {kind: None, "low": None, "high": None, "pairs": 0}
    found = student_interval([math.log(b / a) if ratio else b - a for a, b in known])
    ends = [round(math.exp(v) if ratio else v, 4) if math.isfinite(v) else None for v in found]
    return {kind: ends[0], "low": ends[1], "high": ends[2], "pairs": len(known)}


def demo_figures_of(loads: Mapping[str, Report]) -> Report:
    """Return the figures that have a target: of this side, and what changed; None where a load was not played."""
    found: Report = {}
    for load, prefix in ((ALONE, "demo"), (TAKEN, "weak_demo")):
        figures = loads[load]["figures"] if load in loads else {}
        found |= {f"{prefix}_{key}": figures.get(key, {}).get(THIS) for key in ("frames", "p50_ms", "p95_ms")}
        found[f"{prefix}_cpu_ratio"] = figures.get("node_cpu_s_per_frame", {}).get("ratio")
        found[f"{prefix}_map_change"] = figures.get("map_full", {}).get("difference")
    return found


def flat(loads: Mapping[str, Report]) -> Report:
    """Return one line for each figure and load: both sides, and the change with its interval."""
    lines = {}
    for load, report in loads.items():
        for key, found in report["figures"].items():
            by = f"x {found['ratio']}" if "ratio" in found else f"change {found['difference']}"
            interval = "one pair" if found["low"] is None else f"{found['low']} to {found['high']}"
            lines[f"{key}, {load}"] = f"{found[OTHER]} -> {found[THIS]} ({by}; {interval})"
    return lines


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 4) if known else None
