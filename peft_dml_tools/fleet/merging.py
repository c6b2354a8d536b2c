# SPDX-License-Identifier: Apache-2.0
"""Joins the segments of a drive: checks every seam, then writes boxes, figures and thumbnails as one result."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.sync import NO_REFERENCE
from peft_dml_tools.atomic_files import write_json
from peft_dml_tools.evaluation.percentiles import percentiles
from peft_dml_tools.fleet.detection import DetectionSettings, boxes_of, folder_of, segment_file
from peft_dml_tools.fleet.drives import FleetDrive
from peft_dml_tools.fleet.segments import Segment
from peft_dml_tools.fleet.storage import MARKER, ResultStore

BATCH_ROWS: Final = 20_000  #: Boxes of a Parquet row group: the memory of the merge does not grow with the drive
HARDEST: Final = 5  #: Frames of a drive that the report names as hard
COMPARED: Final = ("stamp_ns", "reference", "mask", "boxes")
SCORED_FRAMES: Final = 4000  #: Frames with truth that are scored, evenly spread: as many as fit into a worker's memory


@dataclass(frozen=True, slots=True)
class MergeJob:
    """A drive whose segments are all there."""

    settings: DetectionSettings
    drive: FleetDrive
    key: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What became of a merge."""

    #: Indices of segments whose overlap with the one before differs; they have to be run again with more lead
    torn: tuple[int, ...] = ()
    #: Content of the result's marker file; empty while something is torn
    summary: dict[str, Any] = field(default_factory=dict)


def merge(job: MergeJob) -> MergeResult:
    """Join a drive's segments and publish its result."""
    store, start = ResultStore(job.settings.out), perf_counter()
    torn = tuple(
        after.index
        for before, after in zip(job.segments, job.segments[1:], strict=False)
        if _overlap(store, job.key, before, after.from_ns) != _overlap(store, job.key, after, after.from_ns)
    )
    if torn:
        return MergeResult(torn)
    with store.workspace() as folder:
        result = folder / "result"
        result.mkdir()
        summary = _write(job, store, result)
        summary["merge_s"] = round(perf_counter() - start, 3)
        write_json(result / MARKER, summary)
        store.publish(folder_of(job.drive, job.key), result)
    store.remove(f"work/{job.key}")
    return MergeResult((), summary)


def _lines(store: ResultStore, key: str, segment: Segment) -> Iterator[dict[str, Any]]:
    for line in (store.read(segment_file(key, segment)) or b"").splitlines():
        yield json.loads(line)


def _overlap(store: ResultStore, key: str, segment: Segment, boundary_ns: int) -> list[list[Any]]:
    """Return the frames of a segment around a boundary, as far as two runs of them must agree."""
    frames = (tree for tree in _lines(store, key, segment) if "stamp_ns" in tree)
    return [[t[name] for name in COMPARED] for t in frames if segment.compared(t["stamp_ns"], boundary_ns)]


class _Figures:
    """Sums over the frames of a drive, of a size that its length does not move."""

    def __init__(self) -> None:
        self.frames = self.boxes = self.blind = 0
        self.latencies: list[float] = []
        self.used: Counter[str] = Counter()
        self.reasons: dict[str, Counter[str]] = {}
        self.gate = np.zeros(len(MODALITIES))
        self.hard: list[tuple[float, int, str]] = []

    def add(self, tree: dict[str, Any]) -> None:
        """Count one frame."""
        self.frames, self.boxes = self.frames + 1, self.boxes + len(tree["boxes"])
        self.blind += tree["reference"] == NO_REFERENCE
        self.latencies.append(tree["latency_ms"])
        self.used.update(name for name in MODALITIES if tree["mask"][name])
        self.gate += np.array([tree["gate"][name] for name in MODALITIES])
        lost = []
        for name, (_, reason) in tree["sensors"].items():
            table = self.reasons.setdefault(name, Counter())
            if reason:
                table[reason] += 1
                lost.append(f"{name} {reason}")
        doubt = sum(1.0 - abs(2.0 * box["score"] - 1.0) for box in tree["boxes"])
        self.hard.append((round(doubt, 2), tree["stamp_ns"], ", ".join(lost)))
        self.hard = sorted(self.hard, reverse=True)[:HARDEST]

    def tree(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        share = {name: round(self.used[name] / max(1, self.frames), 4) for name in MODALITIES}
        return {
            "frames": self.frames,
            "boxes": self.boxes,
            "frames_blind": self.blind,
            "latency_ms": percentiles(self.latencies),
            "used": share,
            "gate": dict(zip(MODALITIES, (self.gate / max(1, self.frames)).round(4).tolist(), strict=True)),
            "sensors": {name: dict(table.most_common()) for name, table in sorted(self.reasons.items())},
            "hard": [{"doubt": d, "stamp_ns": s, "without": lost} for d, s, lost in self.hard],
        }


def _write(job: MergeJob, store: ResultStore, folder: Path) -> dict[str, Any]:
    """Write boxes.jsonl, boxes.parquet and the thumbnails; return the summary."""
    figures, ends, scored = _Figures(), list[dict[str, Any]](), list[dict[str, Any]]()
    rows = _ParquetRows(folder / "boxes.parquet")
    with (folder / "boxes.jsonl").open("w", encoding="utf-8") as file:
        for segment in job.segments:
            for tree in _lines(store, job.key, segment):
                if "segment" in tree:
                    ends.append(tree["segment"])
                elif tree.pop("counted"):
                    figures.add(tree)
                    if "truth" in tree:
                        scored.append({"boxes": tree["boxes"], "truth": tree.pop("truth"), "mask": tree["mask"]})
                    line = {name: tree[name] for name in ("stamp_ns", "reference", "mask", "gate", "boxes")}
                    file.write(json.dumps(line, separators=(",", ":")) + "\n")
                    rows.add(tree)
    rows.close()
    for name in store.names(f"work/{job.key}"):
        if name.endswith(".jpg"):
            (folder / "thumbnails").mkdir(exist_ok=True)
            (folder / "thumbnails" / name).write_bytes(store.read(f"work/{job.key}/{name}") or b"")
    return {
        "name": job.drive.name,
        "source": job.drive.label,
        "key": job.key,
        **figures.tree(),
        "seconds": round(sum(end["seconds"] for end in ends), 3),
        "wall_s": round(sum(end["wall_s"] for end in ends), 3),
        "segments": len(job.segments),
        "received": dict(sum((Counter(end["received"]) for end in ends), Counter())),
        "drops": dict(sum((Counter(end["drops"]) for end in ends), Counter())),
        "problem": next((end["problem"] for end in ends if end["problem"]), ""),
        "accuracy": _accuracy(scored),
    }


def _accuracy(scored: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the devkit's mean AP over frames with truth, all of them and those without LiDAR; empty without truth."""
    from peft_dml_tools.evaluation.recording import RecordedFrame
    from peft_dml_tools.evaluation.scoring import score

    step = max(1, -(-len(scored) // SCORED_FRAMES))
    none = np.zeros(len(MODALITIES))
    found: dict[str, Any] = {}
    for name, chosen in (("all", scored[::step]), ("no_lidar", [s for s in scored[::step] if not s["mask"]["lidar"]])):
        if chosen:
            frames = [
                RecordedFrame(0, "", boxes_of(s["boxes"]), none, none, 0.0, {}, {}, none, boxes_of(s["truth"]))
                for s in chosen
            ]
            result = score(frames)
            found[name] = {"frames": result.frames, "map": result.mean_ap, "reason": result.reason}
    return found


class _ParquetRows:
    """Boxes as rows of a Parquet file: m, rad, m/s in `base_link` at `stamp_ns`; written batch by batch."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        numbers = ("score", "x_m", "y_m", "z_m", "length_m", "width_m", "height_m", "yaw_rad", "vx_mps", "vy_mps")
        self._schema = pa.schema(
            [("stamp_ns", pa.int64()), ("class", pa.string()), *((name, pa.float32()) for name in numbers)]
        )
        self._pa, self._writer = pa, parquet.ParquetWriter(str(path), self._schema)
        self._rows: list[tuple[Any, ...]] = []

    def add(self, tree: dict[str, Any]) -> None:
        """Append the boxes of a frame."""
        for box in tree["boxes"]:
            numbers = (box["score"], *box["center_m"], *box["size_lwh_m"], box["yaw_rad"], *box["velocity_mps"])
            self._rows.append((tree["stamp_ns"], box["class"], *numbers))
        if len(self._rows) >= BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        columns = [list(column) for column in zip(*self._rows, strict=True)] or [[] for _ in self._schema]
        self._writer.write_table(self._pa.table(columns, schema=self._schema))
        self._rows.clear()

    def close(self) -> None:
        """Write what is left and finish the file."""
        self._flush()
        self._writer.close()
