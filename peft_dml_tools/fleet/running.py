# SPDX-License-Identifier: Apache-2.0
"""`fleet run` as a flow of jobs: inspect each drive, detect in its segments, merge, and account for every drive."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from peft_dml_tools.fleet.cluster import Cluster, JobFailure, Queue
from peft_dml_tools.fleet.detection import (
    DetectionSettings,
    InspectedDrive,
    SegmentJob,
    SegmentResult,
    detect_segment,
    folder_of,
    inspect,
)
from peft_dml_tools.fleet.drives import FleetDrive
from peft_dml_tools.fleet.merging import MergeJob, MergeResult, merge
from peft_dml_tools.fleet.segments import LEAD_S, frame_grid, with_lead
from peft_dml_tools.fleet.storage import ResultStore


@dataclass(slots=True)
class _OpenDrive:
    """A drive that is being worked on."""

    inspected: InspectedDrive
    waiting: set[int]
    tries: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class DriveOutcome:
    """What became of a drive."""

    drive: FleetDrive  #: The drive
    state: str  #: `done`, `kept` (an earlier run had done it), `same` (the content of another drive) or `failed`
    summary: dict[str, Any]  #: Content of its result's marker; empty where it failed
    reason: str = ""  #: Why it failed, what ended it early, or which drive it equals; empty otherwise


class FleetRun:
    """Runs drives on a cluster."""

    def __init__(self, cluster: Cluster, settings: DetectionSettings, drives: Iterable[FleetDrive]) -> None:
        self._settings, self._store = settings, ResultStore(settings.out)
        self._inspecting: Queue[tuple[DetectionSettings, FleetDrive], InspectedDrive] = cluster.queue(inspect)
        self._detecting: Queue[SegmentJob, SegmentResult] = cluster.queue(detect_segment)
        self._merging: Queue[MergeJob, MergeResult] = cluster.queue(merge)
        self._open: dict[str, _OpenDrive] = {}
        self._taken: dict[str, FleetDrive] = {}
        self._twins: list[tuple[str, FleetDrive]] = []
        self.segments_done = 0
        for drive in drives:
            self._inspecting.add((settings, drive))

    def outcomes(self, watch: Callable[[], None] = lambda: None) -> Iterator[DriveOutcome]:
        """Yield each drive's outcome as it is known; `watch` is called between two looks at the cluster."""
        while len(self._inspecting) or len(self._detecting) or len(self._merging):
            # Merges first and inspections last, so that few drives are open at a time.
            yield from self._merged()
            yield from self._detected()
            if len(self._detecting) <= len(self._open) or not len(self._detecting):
                yield from self._inspected()
            watch()
        for key, drive in self._twins:
            summary = self._store.result(folder_of(self._taken[key], key)) or {}
            yield DriveOutcome(drive, "same", summary, f"the same content as {self._taken[key].label}")

    def cancel(self) -> None:
        """Stop all jobs; results that are published stay."""
        for queue in (self._inspecting, self._detecting, self._merging):
            queue.cancel()

    def _inspected(self) -> Iterator[DriveOutcome]:
        for (_, drive), found in self._inspecting.poll():
            if isinstance(found, JobFailure):
                yield DriveOutcome(drive, "failed", {}, found.reason)
            elif found.key in self._taken:
                self._twins.append((found.key, drive))
            else:
                self._taken[found.key] = drive
                if (summary := self._store.result(folder_of(drive, found.key))) is not None:
                    yield DriveOutcome(drive, "kept", summary, str(summary.get("problem", "")))
                    continue
                self._open[found.key] = _OpenDrive(found, {s.index for s in found.segments})
                for segment in found.segments:
                    self._detecting.add(SegmentJob(self._settings, found, segment))

    def _detected(self) -> Iterator[DriveOutcome]:
        for job, found in self._detecting.poll():
            opened = self._open.get(job.inspected.key)
            if opened is None:
                continue  # a segment of a drive that has failed
            if isinstance(found, JobFailure):
                del self._open[job.inspected.key]
                yield DriveOutcome(job.inspected.drive, "failed", {}, found.reason)
                continue
            self.segments_done += 1
            opened.waiting.discard(job.segment.index)
            if not opened.waiting:
                known = opened.inspected
                self._merging.add(MergeJob(self._settings, known.drive, known.key, known.segments))

    def _merged(self) -> Iterator[DriveOutcome]:
        for job, found in self._merging.poll():
            if isinstance(found, JobFailure):
                del self._open[job.key]
                yield DriveOutcome(job.drive, "failed", {}, found.reason)
            elif found.torn:
                self._again(self._open[job.key], found.torn)
            else:
                del self._open[job.key]
                yield DriveOutcome(job.drive, "done", found.summary, str(found.summary["problem"]))

    def _again(self, opened: _OpenDrive, torn: tuple[int, ...]) -> None:
        """Run segments again: one frame earlier, then with twice the lead, and so on."""
        known = opened.inspected
        grid = frame_grid(np.array(known.stamps_ns, dtype=np.int64), self._settings.node_params().sync)
        segments = list(known.segments)
        for index in torn:
            opened.tries[index] += 1
            doublings, shift = divmod(opened.tries[index], 2)
            segments[index] = with_lead(segments[index], grid, LEAD_S * 2**doublings, shift)
        opened.inspected = replace(known, segments=tuple(segments))
        opened.waiting = set(torn)
        for index in torn:
            self._detecting.add(SegmentJob(self._settings, opened.inspected, segments[index]))


def summarise(outcomes: list[DriveOutcome], wall_s: float, cores: int) -> dict[str, Any]:
    """Return the figures of a fleet run for `fleet.json`; a content that occurs twice counts once."""
    counted = [o for o in outcomes if o.state in {"done", "kept"}]
    states = {state: sum(o.state == state for o in outcomes) for state in ("done", "kept", "same", "failed")}
    fresh = [o.summary for o in outcomes if o.state == "done"]
    hard = [{"drive": o.drive.name, **frame} for o in counted for frame in o.summary["hard"]]
    return {
        "drives": len(outcomes),
        **states,
        "cut_short": sum(bool(o.summary["problem"]) for o in counted),
        "frames": sum(o.summary["frames"] for o in counted),
        "driven_s": round(sum(o.summary["seconds"] for o in counted), 3),
        "boxes": sum(o.summary["boxes"] for o in counted),
        "wall_s": round(wall_s, 3),
        "cores": cores,
        "work_s": round(sum(s["wall_s"] for s in fresh), 3),
        "sensors": _sensor_table(counted),
        "hard": sorted(hard, key=lambda frame: -frame["doubt"])[:20],
        "outcomes": [
            {"drive": o.drive.label, "state": o.state, "reason": o.reason, "summary": o.summary} for o in outcomes
        ],
    }


def _sensor_table(outcomes: list[DriveOutcome]) -> dict[str, dict[str, Any]]:
    """Return by sensor how many frames went without it, by reason, and in which drives most often."""
    table: dict[str, dict[str, Any]] = {}
    for outcome in outcomes:
        for name, reasons in outcome.summary["sensors"].items():
            row = table.setdefault(name, {"frames": 0, "without": 0, "reasons": {}, "worst": []})
            lost = sum(reasons.values())
            row["frames"] += outcome.summary["frames"]
            row["without"] += lost
            for reason, count in reasons.items():
                row["reasons"][reason] = row["reasons"].get(reason, 0) + count
            if lost:
                row["worst"].append([outcome.drive.name, lost])
    for row in table.values():
        row["worst"] = sorted(row["worst"], key=lambda pair: -pair[1])[:3]
    return table


def fleet_json(summary: dict[str, Any]) -> bytes:
    """Return `fleet.json`."""
    return (json.dumps(summary, indent=1) + "\n").encode()
