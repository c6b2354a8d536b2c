# SPDX-License-Identifier: Apache-2.0
"""The figures that have a target, gathered from the other benchmarks' files, and whether each is met.

What was not measured is null, with a reason; a figure that misses its target comes with where the time went.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from peft_dml_ros.core.errors import DataError

Report: TypeAlias = dict[str, Any]

ENGINES, LIVE, AGAINST = "engines", "live", "against"
#: Where and on what a file was made
CONDITIONS: Final = ("bundle", "machine", "software", "load_average", "vehicle", "node", "runs", "sides", "pairs")
COMMANDS: Final = {
    ENGINES: "peft-dml bench engines",
    LIVE: "peft-dml bench live",
    AGAINST: "peft-dml bench live --against CHECKOUT --out bench/against.json",
}


@dataclass(frozen=True, slots=True)
class BenchmarkTarget:
    """One figure of the summary."""

    source: str  #: File that it comes from
    most: float | None = None  #: What it may be at most; None where `least` holds
    least: float | None = None  #: What it must be at least
    absolute: bool = False  #: The sign does not matter
    needs: str = ""  #: What the source lacks when it has no such figure, in words
    profile: tuple[str, ...] = ()  #: Where in the source it stands what the figure is made of, by dotted names

    def met(self, value: float) -> bool:
        """Return whether a figure is within the target."""
        held = abs(value) if self.absolute else value
        return (self.most is None or held <= self.most) and (self.least is None or held >= self.least)

    @property
    def words(self) -> str:
        """E.g. `<= 1.2`."""
        sign = "±" if self.absolute else "<= "
        return f"{sign}{self.most:g}" if self.most is not None else f">= {self.least:g}"


INT8: Final = "the bundle holds no 8 bit graphs, and none were given: --int8"
NOT_RECORDED: Final = f"{INT8}; or their loss was not recorded: peft-dml-train check-precision --record"
NO_TRAINING: Final = "the training project is not installed: make setup-test"
ALONE_ONLY: Final = "the comparison was --quick: without the load of another process"
PAIRS: Final = ("loads.alone.figures", "loads.one core taken.figures")
STAGES: Final = ("stretches.all.stages_ms", "stretches.all.beyond_engines_ms", "profile")
#: Targets by name of the figure, in the order of the table
TARGETS: Final[Mapping[str, BenchmarkTarget]] = {
    "overhead_ratio_p50": BenchmarkTarget(LIVE, most=1.15, profile=STAGES),
    "overhead_ratio_p99": BenchmarkTarget(LIVE, most=2.0, profile=STAGES),
    "latency_p99_ms": BenchmarkTarget(LIVE, most=150, profile=STAGES),
    "hz_held": BenchmarkTarget(LIVE, least=9.95, profile=("frames", "messages", *STAGES)),
    "drops_unaccounted": BenchmarkTarget(LIVE, most=0, profile=("frames", "messages")),
    "rss_mb": BenchmarkTarget(LIVE, most=700, profile=("memory",)),
    "rss_growth_pct": BenchmarkTarget(
        LIVE, most=2.0, absolute=True, needs="the run was too short", profile=("memory",)
    ),
    "weak_frames_share": BenchmarkTarget(LIVE, least=0.95, profile=("conditions",)),
    "weak_p95_ms": BenchmarkTarget(LIVE, most=120, profile=("conditions",)),
    "recorder_replay_cores": BenchmarkTarget(LIVE, most=0.15, profile=("conditions",)),
    "demo_frames": BenchmarkTarget(AGAINST, least=120, profile=PAIRS),
    "demo_p50_ms": BenchmarkTarget(AGAINST, most=75, profile=PAIRS),
    "demo_p95_ms": BenchmarkTarget(AGAINST, most=120, profile=PAIRS),
    "demo_cpu_ratio": BenchmarkTarget(AGAINST, most=0.35, profile=PAIRS),
    "weak_demo_frames": BenchmarkTarget(AGAINST, least=115, needs=ALONE_ONLY, profile=PAIRS),
    "int8_over_fp32": BenchmarkTarget(ENGINES, most=0.65, needs=INT8, profile=("int8",)),
    "int8_nds_loss": BenchmarkTarget(ENGINES, most=0.5, needs=NOT_RECORDED, profile=("int8",)),
    "ort_over_eager": BenchmarkTarget(ENGINES, most=0.6, needs=NO_TRAINING, profile=("eager",)),
    "cloud_decode_ms": BenchmarkTarget(ENGINES, most=0.3, profile=("hot_path.cloud_decode",)),
    "pillars_270k_ms": BenchmarkTarget(ENGINES, most=12, profile=("hot_path.pillars_270k", "growth.points")),
    "jpeg6_ms": BenchmarkTarget(ENGINES, most=25, profile=("hot_path.jpeg6",)),
    "nms500_ms": BenchmarkTarget(ENGINES, most=2, profile=("hot_path.nms500", "growth.boxes")),
    "configure_to_active_s": BenchmarkTarget(LIVE, most=5, profile=("transitions_s", "launch_s")),
}


def read_report(path: Path) -> Report | None:
    """Return a benchmark's file; None where there is none. Raises DataError: it is no benchmark's file."""
    if not path.is_file():
        return None
    try:
        report: Report = json.loads(path.read_text(encoding="utf-8"))
        report["summary"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} is no benchmark's file ({type(error).__name__}: {error})"
        raise DataError(f"{msg}; fix: make it again") from error
    return report


def summarise(reports: Mapping[str, Report | None]) -> Report:
    """Return one figure for each target, and nothing else; None where it was not measured."""
    found = {source: report["summary"] if report else {} for source, report in reports.items()}
    return {name: found.get(target.source, {}).get(name) for name, target in TARGETS.items()}


def judge(figures: Report, reports: Mapping[str, Report | None]) -> Report:
    """Return each figure against its target: met or not, why it is missing, and where the time of a miss goes."""
    missing: dict[str, str] = {}
    profiles: dict[str, Report] = {}
    for name, target in TARGETS.items():
        report = reports.get(target.source)
        if figures[name] is None:
            reason = target.needs or "the file has no such figure"
            missing[name] = reason if report else f"{target.source} was not measured: {COMMANDS[target.source]}"
        elif report and not target.met(figures[name]):
            profiles[name] = {path: part for path in target.profile if (part := _at(report, path)) is not None}
    return {
        "targets": {name: target.words for name, target in TARGETS.items()},
        "met": {name: TARGETS[name].met(value) for name, value in figures.items() if value is not None},
        "missing": missing,
        "misses": profiles,
        "conditions": {
            source: {key: report[key] for key in CONDITIONS if key in report}
            for source, report in reports.items()
            if report is not None
        },
    }


def _at(report: Report, path: str) -> Any:
    """Return what stands in a report under a dotted name; None where nothing does."""
    part: Any = report
    for key in path.split("."):
        part = part.get(key) if isinstance(part, dict) else None
    return part
